"""What a host has of a user: what runs as it, what it owns, and what names it. It only reads."""

from __future__ import annotations

import glob
import grp
import os
import pwd
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from provision.agent.processes import all_pids, process_of_user

UNITS = (
    *("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system"),
    *("/usr/lib/systemd/system", "/lib/systemd/system"),
)
USERS = r"(?:Socket)?User"
GROUPS = r"(?:(?:Socket)?Group|SupplementaryGroups)"
MAX_FILES = 50  # of one user, or of one group


def find_traces(name: str, places: Sequence[str]) -> dict[str, list[Any]] | None:
    """What is left of a user; None: it does not exist.

    ``group`` is what needs its group of that name: other members, files at the ``places``,
    and unit files.
    """
    try:
        uid = pwd.getpwnam(name).pw_uid
    except KeyError:
        return None
    found = [each for place in places for each in _files_below(place)]
    return {
        "processes": [each for pid in all_pids() if (each := process_of_user(pid, uid))],
        "units": sorted(_unit_files(USERS, name)),
        "files": [path for path, status in found if status.st_uid == uid][:MAX_FILES],
        "group": _needs_group(name, found),
    }


def find_group_needs(name: str, places: Sequence[str]) -> list[str] | None:
    """What needs a group: its members, files at the ``places``, unit files; None: it is gone."""
    try:
        grp.getgrnam(name)
    except KeyError:
        return None
    return _needs_group(name, [each for place in places for each in _files_below(place)])


def _needs_group(name: str, found: Sequence[tuple[str, os.stat_result]]) -> list[str]:
    try:
        group = grp.getgrnam(name)
    except KeyError:
        return []
    members = {each.pw_name for each in pwd.getpwall() if each.pw_gid == group.gr_gid}
    others = members.union(group.gr_mem) - {name}
    files = [path for path, status in found if status.st_gid == group.gr_gid]
    return [*sorted(others), *files[:MAX_FILES], *sorted(_unit_files(GROUPS, name))]


def _files_below(place: str) -> Iterator[tuple[str, os.stat_result]]:
    """A path, and all that is below it; of a pattern what matches it, and nothing below."""
    if place.endswith("/*"):
        yield from _present(glob.iglob(place))
        return
    yield from _present([place])
    for folder, folders, files in os.walk(place):
        yield from _present(os.path.join(folder, each) for each in (*folders, *files))


def _present(paths: Iterable[str]) -> Iterator[tuple[str, os.stat_result]]:
    """Those that are there; without what is gone meanwhile, or another user's mount (FUSE)."""
    for path in paths:
        try:
            yield path, os.lstat(path)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            pass


def _unit_files(settings: str, name: str) -> Iterator[str]:
    """Unit files, and drop-ins, with one of these settings that holds the name."""
    value = rf"(?:.*[ \t])?{re.escape(name)}(?:[ \t].*)?"
    wanted = re.compile(rf"^[ \t]*{settings}[ \t]*={value}$", re.MULTILINE)
    for folder in UNITS:
        if os.path.realpath(folder) != folder:
            continue  # /lib is /usr/lib
        for path, status in _files_below(folder):
            if path.endswith((".service", ".conf", ".socket")) and stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    if wanted.search(file.read().decode(errors="replace")):
                        yield path
