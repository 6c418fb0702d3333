"""What a host's agent can tell, and it tells without changing anything.

No file is opened for writing, and the only commands that run are `systemctl show` and
`dpkg-query`, once for all questions. Which questions there are, and their answers, is written
in provision/messages.py. An answer that cannot be had is its reason, never "absent".
"""

from __future__ import annotations

import grp
import hashlib
import os
import platform
import pwd
import re
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from provision.agent.link import COMMANDS, ENVIRONMENT, PIECE, Link

SHOWN = 256 * 1024  # bytes of a file that a diff may need
LISTENING = "0A"  # in /proc/net/tcp
TIMEOUT = 15.0  # seconds for a command; all of them together end before the asker gives up
UNIT = (
    *("Id", "LoadState", "ActiveState", "SubState", "UnitFileState", "NeedDaemonReload"),
    *("MainPID", "NRestarts", "Result"),
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
            return {"is": getattr(self, f"_{question[0]}")(*question[1:])}
        except Exception as error:
            return {"unknown": _reason(error)}

    def _names(self, kind: str) -> list[str]:
        return [question[1] for question in self._questions if question[0] == kind]

    # -- the system ---------------------------------------------------------------------

    def _host(self) -> Any:
        return {
            "python": list(sys.version_info[:3]),
            "machine": platform.machine(),
            "libc": _libc(),
            "os": _os_release(),
            "systemd": _systemd(),
            "hostname": socket.gethostname(),
            "time": time.time(),
        }

    def _disk(self, path: str) -> Any:
        while path and not os.path.exists(path):
            path = os.path.dirname(path)
        found = os.statvfs(path)
        # Some file systems have no fixed number of inodes, and say 0.
        inodes = found.f_favail if found.f_files else 2**31
        return {"free": found.f_bavail * found.f_frsize, "inodes": inodes}

    def _group(self, name: str) -> Any:
        try:
            return {"gid": grp.getgrnam(name).gr_gid}
        except KeyError:
            return None

    def _user(self, name: str) -> Any:
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

    def _package(self, name: str) -> Any:
        return self._packages.get(name)

    @_Once
    def _packages(self) -> dict[str, str]:
        form = "${Package}\t${db:Status-Abbrev}\t${Version}\n"
        # It ends with 1 when one of them is not known; what it says of the others holds.
        said = _command(["dpkg-query", "-W", "-f", form, "--", *self._names("package")], (0, 1))
        rows = [line.split("\t") for line in said.splitlines()]
        return {name: version for name, state, version in rows if state[1] == "i"}

    # -- files --------------------------------------------------------------------------

    def _path(self, path: str, digest: str, show: str) -> Any:
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

    def _release(self, root: str, id: str) -> Any:
        releases = os.path.join(root, "releases")
        try:
            names = sorted(os.listdir(releases))
        except FileNotFoundError:
            names = []
        kept = [each for each in names if os.path.exists(f"{releases}/{each}/.complete")]
        try:
            current = os.path.basename(os.readlink(os.path.join(root, "current")))
        except FileNotFoundError:
            current = None
        return {"complete": id in kept, "current": current, "kept": kept}

    # -- what runs ----------------------------------------------------------------------

    def _unit(self, name: str) -> Any:
        found = self._units[name]
        if found["LoadState"] == "not-found":
            return None
        pid = int(found["MainPID"] or 0)
        cwd, config = _process(pid)
        return {
            "load": found["LoadState"],
            "active": found["ActiveState"],
            "sub": found["SubState"],
            "enabled": found["UnitFileState"],
            "stale": found["NeedDaemonReload"] == "yes",
            "pid": pid or None,
            "restarts": int(found["NRestarts"] or 0),
            "result": found["Result"],
            "cwd": cwd,
            "config": config,
        }

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

    def _port(self, address: str, port: str) -> Any:
        wanted = _addresses(address)
        for host, number, inode in self._listeners:
            if number == int(port) and (host in wanted or host.strip("0") == "" or not wanted):
                return _owner_of(inode)
        return None

    @cached_property
    def _listeners(self) -> list[tuple[str, int, str]]:
        """(address as the kernel's hexadecimal, port, inode) of each listening TCP socket."""
        found = []
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            if not os.path.exists(table):
                continue
            with open(table) as lines:
                rows = [line.split() for line in lines][1:]
            for row in rows:
                host, port = row[1].split(":")
                if row[3] == LISTENING:
                    found.append((host, int(port, 16), row[9]))
        return found


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError) and error.filename in ("dpkg-query", "systemctl"):
        return f"there is no {error.filename} on this host"
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
            pairs = re.findall(r"^(ID|VERSION_ID|PRETTY_NAME)=(.*)$", lines.read(), re.MULTILINE)
    except FileNotFoundError:
        return {}
    return {name: value.strip("\"'") for name, value in pairs}


def _systemd() -> int | None:
    if not os.path.exists("/run/systemd/system"):
        return None
    found = re.search(r"\d+", _command(["systemctl", "show", "--property=Version"]))
    return int(found[0]) if found else None


def _kind(mode: int) -> str:
    tests = {"file": stat.S_ISREG, "directory": stat.S_ISDIR, "link": stat.S_ISLNK}
    return next((kind for kind, test in tests.items() if test(mode)), "other")


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


def _process(pid: int) -> tuple[str | None, str | None]:
    """A process's working directory and its $GEARMAN_CONFIG."""
    if not pid:
        return None, None
    try:
        cwd = _text(os.readlink(f"/proc/{pid}/cwd"))
        with open(f"/proc/{pid}/environ", "rb") as file:
            found = re.search(rb"(?:^|\0)GEARMAN_CONFIG=([^\0]*)", file.read())
    except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        return None, None
    return cwd, found[1].decode(errors="replace") if found else None


def _addresses(name: str) -> set[str]:
    """A host's addresses as /proc/net/tcp writes them; empty when it is to be any."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    packed = {socket.inet_pton(family, str(to[0]).split("%")[0]) for family, *_, to in found}
    hexes = {_kernel_hex(each) for each in packed}
    mapped = {_kernel_hex(b"\0" * 10 + b"\xff\xff" + each) for each in packed if len(each) == 4}
    return set() if any(each.strip("0") == "" for each in hexes) else hexes | mapped


def _kernel_hex(packed: bytes) -> str:
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words)


def _owner_of(inode: str) -> dict[str, Any]:
    """Which process has a socket, and which unit that is of."""
    wanted = f"socket:[{inode}]"
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with os.scandir(f"/proc/{pid}/fd") as entries:
                if not any(os.readlink(entry.path) == wanted for entry in entries):
                    continue
            with open(f"/proc/{pid}/comm", errors="replace") as file:
                command = file.read().strip()
            with open(f"/proc/{pid}/cgroup", errors="replace") as file:
                units = re.findall(r"([^/\n]+\.(?:service|socket|scope))$", file.read(), re.M)
        except OSError:  # it ended meanwhile, or is not ours to look at
            continue
        return {"pid": int(pid), "command": command, "unit": units[-1] if units else None}
    return {"pid": None, "command": "a process that cannot be seen", "unit": None}


def ask(link: Link, header: dict[str, Any], size: int) -> None:
    questions = [tuple(question) for question in header["questions"]]
    batch = Batch(questions)
    link.send({"answers": [batch.answer(question) for question in questions]})


COMMANDS["ask"] = ask
