"""An operation in an operator's words: the shell line it equals, and where to look if it fails."""

import shlex
from collections.abc import Callable
from typing import Any

from provision.messages import Operation

Arguments = dict[str, Any]


def shell_line(operation: Operation) -> str:
    """What a person would type on the host, as root, to the same end."""
    words = _SHELL[operation.kind](dict(operation.arguments))
    return " && ".join(shlex.join(map(str, command)) for command in words)


def advice(operation: Operation) -> str:
    """What to try next on the host when it failed; empty when its own words say it all."""
    if operation.kind == "unit":
        return f"journalctl -u {operation.arguments['name']} -n 30"
    if operation.kind == "packages":
        return "apt-get update, and see that the host has a way to its package registry"
    if operation.kind == "release":
        return "deploying again: it is made anew"
    return shell_line(operation)


def _owner(a: Arguments) -> list[str]:
    return ["-o", a["owner"], "-g", a["group"], "-m", a["mode"]]


def _release(a: Arguments) -> list[list[str]]:
    folder = f"{a['root']}/releases/{a['id']}"
    pip = "install --no-index --find-links wheels --require-hashes -r requirements.txt"
    return [
        ["mkdir", folder],
        ["cd", folder],
        ["tar", "-xf", f"{a['id']}.tar"],
        ["python3", "-m", "venv", "--without-pip", "venv"],
        ["venv/bin/python", "wheels/pip.whl/pip", *pip.split()],
    ]


def _unit(a: Arguments) -> list[list[str]]:
    enable = {True: "enable", False: "disable", None: None}[a["enabled"]]
    return [["systemctl", verb, a["name"]] for verb in (enable, a["action"]) if verb]


_SHELL: dict[str, Callable[[Arguments], list[list[str]]]] = {
    "packages": lambda a: [["apt-get", "install", "-y", *a["names"]]],
    "group": lambda a: [["groupadd", "--system", a["name"]]],
    "user": lambda a: [
        [
            *("useradd", "--system", "-g", a["group"], "-d", a["home"], "-s", a["shell"]),
            *(("-G", ",".join(a["groups"])) if a["groups"] else ()),
            a["name"],
        ]
    ],
    "forget_user": lambda a: [
        *([] if a["group"] else [["usermod", "-g", "65534", a["name"]]]),
        ["userdel", a["name"]],
    ],
    "directory": lambda a: [["install", "-d", *_owner(a), a["path"]]],
    "file": lambda a: [["install", *_owner(a), "/dev/stdin", a["path"]]],
    "attributes": lambda a: [
        ["chown", f"{a['owner']}:{a['group']}", a["path"]],
        ["chmod", a["mode"], a["path"]],
    ],
    "link": lambda a: [["ln", "-sfn", a["target"], a["path"]]],
    "remove": lambda a: [["rm", a["path"]]],
    "release": _release,
    "prune": lambda a: [["rm", "-r", f"{a['root']}/releases/{a['id']}"]],
    "condemn": lambda a: [["tee", f"{a['root']}/releases/{a['id']}/.bad"]],
    "acquit": lambda a: [["rm", f"{a['root']}/releases/{a['id']}/.bad"]],
    "daemon_reload": lambda a: [["systemctl", "daemon-reload"]],
    "unit": _unit,
    "job": lambda a: [a["command"]],
    "trial": lambda a: [[*a["worker"], "&"], a["command"]],
    "look": lambda a: a["commands"],
}
