"""What a worker's unit forbids, as the worker's own words tell it, and the setting that allows it.

A system call that is denied fails, and ends no process: what is left of it is what the program
says, in the words of its runtime.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from provision.inventory.writable_folders import why_refused

# PHP, PCRE, cffi, LuaJIT, Java, Ruby, V8.
EXECUTABLE_MEMORY = re.compile(
    r"JIT memory|JIT page|mprotect\(\) failed|write\+execute memory|executable memory"
    r"|runtime code generation failed|memory page as executable|SetPermissions|CodeRange"
    r"|os::commit_memory.*Operation not permitted"
)
READ_ONLY = re.compile(r"Read-only file system")
SOCKET = re.compile(r"Address family not supported|Socket type not supported")
FORBIDDEN = re.compile(r"Operation not permitted|status=31/SYS")
PATH = re.compile(r"(?<![\w.])/[^\s'\"\u2018\u2019:(),\]]+")
PROGRAM = re.compile(r"^/\S+:( \d+:)? ")  # as a shell begins its complaint
WORKER = re.compile(r"@([A-Za-z0-9_-]+)")


def find_denials(unit: str, lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Of what a unit said, the first line that tells of each denial, and its cure."""
    found = WORKER.search(unit)
    worker = f"worker {found[1]}" if found else unit
    cures: set[str] = set()
    for line in lines:
        if (cure := _cure_of(line, worker)) and cure not in cures:
            cures.add(cure)
            yield line, cure


def _cure_of(line: str, worker: str) -> str:
    if EXECUTABLE_MEMORY.search(line):
        return f"jit: true of {worker}, so that it may make memory executable"
    if READ_ONLY.search(line):
        path = PATH.search(PROGRAM.sub("", line))
        folder = PurePosixPath(path[0]).parent if path else "FOLDER"
        if path and (why := why_refused(str(folder))):
            return f"have {worker} write elsewhere: {folder} {why}"
        return f"writes: [{folder}] of {worker}, so that it may write there"
    if SOCKET.search(line):
        return f"the unit of {worker} has IPv4, IPv6 and Unix sockets, and no setting adds others"
    if FORBIDDEN.search(line):
        return (
            f"the unit of {worker} forbids that, and no setting allows it, unless it is about "
            "executable memory (jit: true) or a folder (writes:)"
        )
    return ""
