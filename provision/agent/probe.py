"""What a host's agent can tell, and it tells without changing anything.

No file is opened for writing, and the only commands that run are `systemctl show`, `dpkg-query`
and `nft list`, once for all questions. Which questions there are, and their answers, is written
in provision/remote/operations.py. An answer that cannot be had is its reason, never "absent".
"""

from __future__ import annotations

import errno
import grp
import hashlib
import json
import os
import platform
import pwd
import re
import socket
import stat
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from provision.agent.accounts import traces
from provision.agent.installed import damage, was_there_before
from provision.agent.link import COMMANDS, ENVIRONMENT, PIECE, Link
from provision.agent.machine import machine
from provision.agent.processes import listening, pids, program, variable
from provision.agent.units import outdated, overrides

SYSTEMD = "/run/systemd/system"  # is there where systemd runs the system
SHOWN = 256 * 1024  # bytes of a file that a diff may need
TIMEOUT = 15.0  # seconds for a command; all of them together end before the asker gives up
UNIT = (
    *("Id", "LoadState", "ActiveState", "SubState", "UnitFileState", "NeedDaemonReload"),
    *("MainPID", "NRestarts", "Result", "User", "UID"),
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
            return {"unknown": _reason(error)}

    def _names(self, kind: str) -> list[str]:
        return [question[1] for question in self._questions if question[0] == kind]

    # -- the system ---------------------------------------------------------------------

    def ask_host(self) -> Any:
        return {
            "python": list(sys.version_info[:3]),
            "machine": platform.machine(),
            "libc": _libc(),
            "os": _os_release(),
            "systemd": _systemd(),
            "hostname": socket.gethostname(),
            "time": time.time(),
        }

    def ask_machine(self) -> Any:
        return machine()

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
            "group": _group_name(found.pw_gid),
            "home": found.pw_dir,
            "shell": found.pw_shell,
            "groups": [each.gr_name for each in grp.getgrall() if name in each.gr_mem],
        }

    def ask_traces(self, name: str, *places: str) -> Any:
        return traces(name, places)

    def ask_package(self, name: str) -> Any:
        return self._packages.get(name)

    @_Once
    def _packages(self) -> dict[str, str]:
        form = "${Package}\t${db:Status-Abbrev}\t${Version}\n"
        try:
            # It ends with 1 when one of them is not known; what it says of the others holds.
            said = _command(["dpkg-query", "-W", "-f", form, "--", *self._names("package")], (0, 1))
        except FileNotFoundError:  # a system that has other packages than these
            return {}
        rows = [line.split("\t") for line in said.splitlines()]
        return {name: version for name, state, version in rows if state[1] == "i"}

    def ask_table(self, name: str) -> Any:
        """Of nftables' family inet."""
        try:
            # It ends with 1 when the table does not exist.
            rules = _command(["nft", "-s", "list", "table", "inet", name], (0, 1))
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
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        kind = _kind(found.st_mode)
        answer: dict[str, Any] = {
            "kind": kind,
            "mode": f"{stat.S_IMODE(found.st_mode):04o}",
            "owner": _user_name(found.st_uid),
            "group": _group_name(found.st_gid),
            "acl": _has_access_list(path),
            "size": found.st_size,
            "target": _text(os.readlink(path)) if kind == "link" else None,
            "digest": None,
            "content": None,
        }
        if kind == "file" and digest:
            wanted = show == "text" and found.st_size < SHOWN
            answer["digest"], content = _read(path, wanted)
            if answer["digest"] != digest:
                answer["content"] = _utf8(content) if wanted else None
        return answer

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
        found = {name: _release(os.path.join(folder, name)) for name in names}
        programs = map(program, pids())
        own = (each[len(folder) + 1 :] for each in programs if each.startswith(f"{folder}/"))
        running = {each.split("/")[0] for each in own}
        used = [name for name in names if name == current or name in running]
        damages = {name: damage(os.path.join(folder, name)) for name in used}
        damaged = {name: path for name, path in damages.items() if path}
        return {
            "current": current,
            "kept": {name: one for name, one in found.items() if one and name not in damaged},
            "damaged": damaged,
            "running": sorted(running),
        }

    def ask_history(self, path: str, number: str) -> Any:
        try:
            with open(path, encoding="utf-8", errors="replace") as lines:
                last = deque(lines, int(number))
        except FileNotFoundError:
            return []
        return [entry for entry in map(_entry, last) if entry]

    # -- what runs ----------------------------------------------------------------------

    def ask_unit(self, name: str) -> Any:
        if not os.path.exists(SYSTEMD):
            return None  # what systemctl says there, if it is there, is of no use
        found = self._units[name]
        if found["LoadState"] == "not-found":
            return None
        pid = int(found["MainPID"] or 0)
        runs = program(pid) if pid else ""
        return {
            "load": found["LoadState"],
            "active": found["ActiveState"],
            "sub": found["SubState"],
            "enabled": found["UnitFileState"],
            "stale": found["NeedDaemonReload"] == "yes",
            "pid": pid or None,
            "restarts": int(found["NRestarts"] or 0),
            "result": found["Result"],
            "program": runs or None,
            "config": variable(pid, "GEARMAN_CONFIG"),
            "outdated": self._outdated(name, pid, runs) if pid else None,
        }

    def _outdated(self, name: str, pid: int, runs: str) -> str | None:
        release = runs.partition("/venv/")[0]
        if was_there_before(release, pid):
            return "it started before its release was rebuilt"
        return outdated(name, self._units[name]["User"], self._units[name]["UID"])

    def ask_overrides(self, name: str, own: str) -> Any:
        return overrides(name, own)

    @_Once
    def _units(self) -> dict[str, dict[str, str]]:
        names = self._names("unit")
        said = _command(["systemctl", "show", f"--property={','.join(UNIT)}", "--", *names])
        blocks = [block.splitlines() for block in said.strip("\n").split("\n\n")]
        if len(blocks) != len(names):
            raise ValueError(f"systemctl show told of {len(blocks)} units, not {len(names)}")
        empty = dict.fromkeys(UNIT, "")
        return {
            name: {**empty, **dict(line.split("=", 1) for line in block)}
            for name, block in zip(names, blocks)  # noqa: B905  # Python 3.9 has no strict=
        }

    def ask_port(self, address: str, port: str) -> Any:
        return listening(address, int(port))


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError) and error.filename == "systemctl":
        return "systemctl is missing on this host"
    if isinstance(error, AttributeError):
        return f"this agent does not know such a question ({error})"
    return f"{type(error).__name__}: {error}"


def _command(argv: list[str], good: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=ENVIRONMENT,
        timeout=TIMEOUT,
        check=False,
    )
    if done.returncode not in good:
        said = done.stderr.decode(errors="replace").strip()
        raise OSError(f"`{' '.join(argv[:2])}` ended with {done.returncode}: {said}")
    return done.stdout.decode(errors="backslashreplace")


def _libc() -> str | None:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):  # not the GNU one
        return None


def _os_release() -> dict[str, str]:
    try:
        with open("/etc/os-release", encoding="utf-8", errors="replace") as lines:
            pairs = re.findall(
                r"^(ID|ID_LIKE|VERSION_ID|PRETTY_NAME)=(.*)$", lines.read(), re.MULTILINE
            )
    except FileNotFoundError:
        return {}
    return {name: value.strip("\"'") for name, value in pairs}


def _systemd() -> int | None:
    if not os.path.exists(SYSTEMD):
        return None
    found = re.search(r"\d+", _command(["systemctl", "show", "--property=Version"]))
    return int(found[0]) if found else None


def _kind(mode: int) -> str:
    tests = {"file": stat.S_ISREG, "directory": stat.S_ISDIR, "link": stat.S_ISLNK}
    return next((kind for kind, test in tests.items() if test(mode)), "other")


def _has_access_list(path: str) -> bool:
    """Whether somebody may do with it what its mode does not tell, acl(5)."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:  # its file system has no such thing
        return False
    return any(name.startswith("system.posix_acl_") for name in names)


def _read(path: str, keep: bool) -> tuple[str, bytes]:
    """The file's digest, and its content if it is to be kept."""
    digest, content = hashlib.sha256(), b""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        for piece in iter(lambda: file.read(PIECE), b""):
            digest.update(piece)
            content += piece if keep else b""
    return digest.hexdigest(), content


def _utf8(content: bytes) -> str | None:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def _text(name: str) -> str:
    """A name that may be no UTF-8, as something that can be printed."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _release(folder: str) -> dict[str, Any] | None:
    """A complete release: since when it is there, and why it is bad, if it is."""
    try:
        at = os.stat(f"{folder}/.complete").st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        with open(f"{folder}/.bad", encoding="utf-8", errors="replace") as file:
            return {"at": at, "bad": file.read(1000)}
    except FileNotFoundError:
        return {"at": at, "bad": None}


def _entry(line: str) -> Any:
    """A line of the history; None for one that was cut short."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def ask(link: Link, header: dict[str, Any], size: int) -> None:
    questions = [tuple(question) for question in header["questions"]]
    batch = Batch(questions)
    link.send({"answers": [batch.answer(question) for question in questions]})


COMMANDS["ask"] = ask
