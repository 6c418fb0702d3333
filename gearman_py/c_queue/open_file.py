"""Which process of this machine has a file open, as far as /proc shows it to this user."""

import os
from pathlib import Path

DATABASE_OPTION = b"--libsqlite3-db"  # of the C gearmand


def find_holder(path: Path) -> str:
    """The process that has the file open, or ""; it is known of all processes to root alone.

    Of others' the arguments are known: a C gearmand that was given the file counts too.
    """
    try:
        wanted = path.stat()
    except OSError:
        return ""
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and int(process.name) != os.getpid():
            try:
                if _has_open(process, wanted) or _was_given(process, path):
                    return f"process {process.name} ({(process / 'comm').read_text().strip()})"
            except OSError:  # it has ended
                continue
    return ""


def _has_open(process: Path, wanted: os.stat_result) -> bool:
    try:
        descriptors = list((process / "fd").iterdir())
    except PermissionError:
        return False
    for descriptor in descriptors:
        try:
            if os.path.samestat(descriptor.stat(), wanted):
                return True
        except OSError:  # it was closed
            continue
    return False


def _was_given(process: Path, path: Path) -> bool:
    words = (process / "cmdline").read_bytes().split(b"\0")
    names = {os.fsencode(each) for each in (path.absolute(), path.resolve())}
    for word, following in zip(words, [*words[1:], b""], strict=True):
        option, _, value = word.partition(b"=")
        if option == DATABASE_OPTION and (value or following) in names:
            return True
    return False
