"""What a host's agent can tell, and it tells without changing anything.

No file is opened for writing, and the only commands that run are `systemctl show`, `dpkg-query`,
`rpm -q` and `nft list`, once for all questions, and `test`. Which questions there are, and their
answers, is written in provision/remote/questions.py. An answer that cannot be had is its reason,
never "absent".
"""

from __future__ import annotations

import errno
import grp
import json
import os
import pwd
from collections import deque
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from provision.agent.accounts import find_group_needs, find_traces
from provision.agent.installed import describe_release, find_damage, was_there_before, why_bad
from provision.agent.link import COMMANDS, FrameLink
from provision.agent.machine import describe_machine
from provision.agent.ours import find_marked
from provision.agent.packages import find_packages
from provision.agent.paths import can_write, describe_path, group_name
from provision.agent.processes import (
    count_oom_kills,
    find_listener,
    folder_of,
    has_room_for_two,
    own_pids,
    program_of,
    variable_of,
)
from provision.agent.queue_file import count_jobs
from provision.agent.schedules import list_schedules
from provision.agent.system import SYSTEMD, describe_system, run_query
from provision.agent.units import find_overrides, find_units, read_units, why_outdated

UNIT = (
    *("Id", "LoadState", "ActiveState", "SubState", "UnitFileState", "NeedDaemonReload"),
    *("MainPID", "NRestarts", "Result", "User", "UID", "ControlGroup"),
    *("MemoryMax", "ActiveEnterTimestampMonotonic", "ExecMainStartTimestampMonotonic"),
)


class _Once(cached_property):  # type: ignore[type-arg]  # Any: Python 3.9 runs this
    """Worked out once, even when that fails: a command that hangs is not waited for again."""

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        failures = instance.__dict__.setdefault("failures", {})
        if self.attrname in failures:
            raise failures[self.attrname]
        try:
            return super().__get__(instance, owner)
        except Exception as error:
            failures[self.attrname] = error
            raise


class Batch:
    """Questions that are answered together."""

    def __init__(self, questions: Sequence[tuple[str, ...]]) -> None:
        self._questions = questions

    def answer(self, question: tuple[str, ...]) -> dict[str, Any]:
        try:
            return {"is": getattr(self, f"ask_{question[0]}")(*question[1:])}
        except Exception as error:
            return {"unknown": _explain_error(error)}

    def _names_of(self, kind: str) -> list[str]:
        return [question[1] for question in self._questions if question[0] == kind]

    # -- the system ---------------------------------------------------------------------

    def ask_host(self) -> Any:
        return describe_system()

    def ask_machine(self) -> Any:
        return describe_machine()

    def ask_disk(self, path: str) -> Any:
        while path and not os.path.exists(path):
            path = os.path.dirname(path)
        found = os.statvfs(path)
        # Some file systems have no fixed number of inodes, and say 0.
        inodes = found.f_favail if found.f_files else 2**31
        free = found.f_bavail * found.f_frsize
        return {
            "free": free,
            "inodes": inodes,
            "readonly": bool(found.f_flag & os.ST_RDONLY),
        }

    def ask_group(self, name: str) -> Any:
        try:
            return {"gid": grp.getgrnam(name).gr_gid}
        except KeyError:
            return None

    def ask_user(self, name: str) -> Any:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            return None
        return {
            "uid": found.pw_uid,
            "group": group_name(found.pw_gid),
            "home": found.pw_dir,
            "shell": found.pw_shell,
            "comment": found.pw_gecos,
            "groups": [each.gr_name for each in grp.getgrall() if name in each.gr_mem],
        }

    def ask_traces(self, name: str, *places: str) -> Any:
        return find_traces(name, places)

    def ask_group_needs(self, name: str, *places: str) -> Any:
        return find_group_needs(name, places)

    def ask_package(self, name: str) -> Any:
        return self._package_versions.get(name)

    @_Once
    def _package_versions(self) -> dict[str, str]:
        return find_packages(self._names_of("package"))

    def ask_table(self, name: str) -> Any:
        """Of nftables' family inet."""
        try:
            # It ends with 1 when the table does not exist.
            rules = run_query(["nft", "-s", "list", "table", "inet", name], (0, 1))
        except FileNotFoundError:
            rules = ""
        try:
            with open(f"/run/{name}-firewall/loaded", encoding="utf-8") as file:
                loaded = file.read()
        except FileNotFoundError:
            loaded = None
        return {"rules": rules or None, "loaded": loaded}

    # -- files --------------------------------------------------------------------------

    def ask_path(self, path: str, digest: str, show: str) -> Any:
        return describe_path(path, digest, show)

    def ask_writable(self, path: str, user: str) -> Any:
        return can_write(path, user)

    def ask_names(self, folder: str) -> Any:
        try:
            return sorted(os.listdir(folder))
        except FileNotFoundError:
            return []

    def ask_marked(self, *places: str) -> Any:
        return find_marked(places)

    def ask_queue(self, folder: str, admin: str) -> Any:
        try:
            return count_jobs(folder, admin)
        except (OSError, ValueError):
            if folder:
                raise
            return None

    def ask_schedules(self, admin: str) -> Any:
        try:
            return list_schedules(admin)
        except (OSError, ValueError):
            return None

    def ask_releases(self, root: str) -> Any:
        folder = os.path.join(root, "releases")
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            names = []
        try:
            current = os.path.basename(os.readlink(os.path.join(root, "current")))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EINVAL):  # not there, or no link
                raise
            current = None
        found = {name: describe_release(os.path.join(folder, name)) for name in names}
        places = (place for pid in own_pids() for place in (program_of(pid), folder_of(pid)))
        own = (each[len(folder) + 1 :] for each in places if each.startswith(f"{folder}/"))
        running = {each.split("/")[0] for each in own} & set(names)
        used = [name for name in names if name == current or name in running]
        damages = {name: find_damage(os.path.join(folder, name)) for name in used}
        damaged = {name: path for name, path in damages.items() if path}
        reasons = {name: why_bad(os.path.join(folder, name)) for name in names}
        return {
            "current": current,
            "kept": {name: one for name, one in found.items() if one and name not in damaged},
            "given_up": {name: why for name, why in reasons.items() if why is not None},
            "damaged": damaged,
            "running": sorted(running),
        }

    def ask_history(self, path: str, number: str) -> Any:
        try:
            with open(path, encoding="utf-8", errors="replace") as lines:
                last = deque(lines, int(number))
        except FileNotFoundError:
            return []
        return [entry for entry in map(_parse_entry, last) if entry]

    # -- what runs ----------------------------------------------------------------------

    def ask_unit(self, name: str) -> Any:
        if not os.path.exists(SYSTEMD):
            return None  # what systemctl says there, if it is there, is of no use
        found = self._unit_properties[name]
        if found["LoadState"] == "not-found":
            return None
        pid = int(found["MainPID"] or 0)
        runs = program_of(pid) if pid else ""
        return {
            "load": found["LoadState"],
            "active": found["ActiveState"],
            "sub": found["SubState"],
            "enabled": found["UnitFileState"],
            "stale": found["NeedDaemonReload"] == "yes",
            "pid": pid or None,
            "restarts": int(found["NRestarts"] or 0),
            "oom_kills": count_oom_kills(found["ControlGroup"]),
            "result": found["Result"],
            "program": runs or None,
            "config": variable_of(pid, "GEARMAN_CONFIG"),
            "reload_key": variable_of(pid, "GEARMAN_RELOAD_KEY"),
            "room_for_two": (
                has_room_for_two(pid, found["ControlGroup"], found["MemoryMax"]) if pid else None
            ),
            "outdated": self._why_outdated(name, pid, runs) if pid else None,
        }

    def _why_outdated(self, name: str, pid: int, runs: str) -> str | None:
        release = runs.partition("/venv/")[0]
        if was_there_before(release, pid):
            return "it started before its release was rebuilt"
        found = self._unit_properties[name]
        names = ("ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic")
        began, active = (int(found[each] or 0) for each in names)
        reloaded = began if began > active else None
        return why_outdated(name, found["User"], found["UID"], reloaded)

    def ask_units(self, pattern: str) -> Any:
        return find_units(pattern, self._unit_states)

    def ask_unit_texts(self, pattern: str) -> Any:
        return read_units(pattern)

    @_Once
    def _unit_states(self) -> dict[str, str]:
        """Of all units that systemd has loaded and a question is about."""
        if not os.path.exists(SYSTEMD):
            return {}
        patterns = self._names_of("units")
        said = run_query(["systemctl", "show", "--property=Id,ActiveState", "--", *patterns])
        blocks = (block.split("\n") for block in said.strip("\n").split("\n\n") if block)
        known = [dict(line.split("=", 1) for line in block) for block in blocks]
        return {each["Id"]: each["ActiveState"] for each in known}

    def ask_overrides(self, name: str, own: str) -> Any:
        return find_overrides(name, own)

    @_Once
    def _unit_properties(self) -> dict[str, dict[str, str]]:
        names = self._names_of("unit")
        said = run_query(["systemctl", "show", f"--property={','.join(UNIT)}", "--", *names])
        blocks = [block.splitlines() for block in said.strip("\n").split("\n\n")]
        if len(blocks) != len(names):
            raise ValueError(f"systemctl show told of {len(blocks)} units, not {len(names)}")
        empty = dict.fromkeys(UNIT, "")
        return {
            name: {**empty, **dict(line.split("=", 1) for line in block)}
            for name, block in zip(names, blocks)  # noqa: B905  # Python 3.9 has no strict=
        }

    def ask_port(self, address: str, port: str) -> Any:
        return find_listener(address, int(port))


def _explain_error(error: Exception) -> str:
    if isinstance(error, FileNotFoundError) and error.filename == "systemctl":
        return "systemctl is missing on this host"
    if isinstance(error, AttributeError):
        return f"this agent does not know such a question ({error})"
    return f"{type(error).__name__}: {error}"


def _parse_entry(line: str) -> Any:
    """A line of the history; None for one that was cut short."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def answer_questions(link: FrameLink, header: dict[str, Any], size: int) -> None:
    questions = [tuple(question) for question in header["questions"]]
    batch = Batch(questions)
    link.send({"answers": [batch.answer(question) for question in questions]})


COMMANDS["ask"] = answer_questions
