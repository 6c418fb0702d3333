"""What systemd has of a unit beside its own file, and which of it a process has missed.

It only reads.
"""

from __future__ import annotations

import fnmatch
import os
import pwd
import re
import time

from provision.agent.ours import is_ours

OWN = "/etc/systemd/system"
# What comes before a package's own files: systemd.unit(5), "UNIT FILE LOAD PATH".
FOLDERS = (
    *("/etc/systemd/system.control", "/run/systemd/system.control", "/run/systemd/transient"),
    *(OWN, "/run/systemd/system"),
)
DIFF_LIMIT = 1 << 16  # characters of such a file that a diff may need


def find_overrides(name: str, own: str) -> dict[str, str | None]:
    """Files that change a unit from outside ``own``, with what they say; a mask says None.

    They bear its name (a mask, a copy of it) or are drop-ins. Those for several units at once
    (``service.d``) are the host's own matter.
    """
    files = [f"{folder}/{name}" for folder in FOLDERS]
    for folder in _drop_ins(name):
        names = os.listdir(folder) if _written_at(folder) else []
        files += (f"{folder}/{each}" for each in sorted(names) if each.endswith(".conf"))
    return {path: _read_override(path) for path in files if path != own and _written_at(path)}


def find_units(pattern: str, states: dict[str, str]) -> dict[str, dict[str, bool]]:
    """The units whose names match: has each a file there, is it ours, enabled, active, failed?

    ``states``: of those that systemd has loaded, as it calls them.
    """
    files = set(os.listdir(OWN))
    wants = [each for each in files if each.endswith(".wants")]
    enabled = {name for each in wants for name in os.listdir(f"{OWN}/{each}")}
    active = {name for name, state in states.items() if state not in ("inactive", "failed")}
    failed = {name for name, state in states.items() if state == "failed"}
    return {
        name: {
            "file": name in files,
            "ours": _is_own_unit(name),
            "enabled": name in enabled,
            "active": name in active,
            "failed": name in failed,
        }
        for name in sorted(fnmatch.filter(files | enabled | active | failed, pattern))
    }


def read_units(pattern: str) -> dict[str, str]:
    """What the unit files of ours say whose names match."""
    names = sorted(fnmatch.filter(os.listdir(OWN), pattern))
    texts = {name: _read_override(f"{OWN}/{name}") for name in names if is_ours(f"{OWN}/{name}")}
    return {name: text for name, text in texts.items() if text is not None}


def _is_own_unit(name: str) -> bool:
    """Whether a deploy made its file: its own one, or that of its template."""
    own = f"{OWN}/{name}"
    if os.path.isfile(own) and not os.path.islink(own):  # a mask is a link
        return is_ours(own)
    return is_ours(f"{OWN}/{_template_of(name)}")


def _template_of(name: str) -> str:
    return re.sub(r"@[^.]+\.", "@.", name)


def why_outdated(name: str, user: str, uid: str, reloaded: int | None) -> str | None:
    """Why a unit's process is not what its unit is by now, if it is not.

    ``user`` is whom the unit names, ``uid`` who that was when the process began.
    ``reloaded``: when it took the place of another, in microseconds of the monotonic clock.
    """
    template = _template_of(name)
    own = f"{OWN}/{name}"  # which counts before its template's
    made = os.path.isfile(own) and not os.path.islink(own)  # a mask is a link
    file = own if made else f"{OWN}/{template}"
    sources = [file, *_drop_ins(name), *_drop_ins(template)]
    secrets = _credential_files(file)
    # systemd makes this link at each start. Both times were noted as they passed: a clock that
    # is set later changes neither. One that lies ahead says nothing.
    started = _written_at(f"/run/systemd/units/invocation:{name}")
    # A process that took the place of another has the secrets of that one.
    began_last = time.time() - time.monotonic() + reloaded / 1e6 if reloaded else started
    for what, paths, began in (
        ("its unit file", sources, began_last),
        ("a secret of it", secrets, started),
    ):
        if started and any(began < _written_at(path) < time.time() for path in paths):
            return f"it began before {what} was written"
    if not user or not uid.isdigit():
        return None
    try:
        now = pwd.getpwnam(user).pw_uid
    except KeyError:
        return f"its user {user} is gone"
    return None if now == int(uid) else f"it runs as {uid}, and {user} is {now}"


def _credential_files(file: str) -> list[str]:
    """What a unit file names by LoadCredential=: a process has it as it was when it began."""
    try:
        with open(file, encoding="utf-8", errors="replace") as text:
            return re.findall(r"^LoadCredential=[^:\n]+:(/[^\n]+)$", text.read(), re.MULTILINE)
    except OSError:
        return []


def _drop_ins(name: str) -> list[str]:
    return [f"{folder}/{name}.d" for folder in FOLDERS]


def _written_at(path: str) -> float:
    """When it was last written; 0 if it is missing."""
    try:
        return os.lstat(path).st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return 0.0


def _read_override(path: str) -> str | None:
    """What a file says, and None of a link: that masks."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(descriptor, "rb") as file:
        return file.read(DIFF_LIMIT).decode(errors="backslashreplace")
