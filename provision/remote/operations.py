"""The catalogue of what a host's agent can do: one table, all else derives from it.

``Operation`` checks against it, so a resource that does what is not in it is found by its own unit
test. A test holds the agent and the tests' fake host against it. What an agent can tell is in
questions.py.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Arguments = Mapping[str, Any]
Commands = Sequence[Sequence[str]]


@dataclass(frozen=True)
class OperationKind:
    """``shell``: the commands, run as root, to the same end. ``content``: bytes, or a file."""

    does: str
    arguments: tuple[str, ...]
    shell: Callable[[Arguments], Commands]
    content: bool = False

    def shell_line(self, arguments: Arguments) -> str:
        return " && ".join(shlex.join(map(str, each)) for each in self.shell(arguments))


def check_operation(kind: str, arguments: Arguments, content: object) -> None:
    """Raises :class:`ValueError` for an operation that no agent could carry out."""
    if kind not in OPERATIONS:
        raise ValueError(f"unknown operation {kind!r}; expected one of {', '.join(OPERATIONS)}")
    known = OPERATIONS[kind]
    if arguments.keys() != set(known.arguments):
        given = ", ".join(arguments) or "none"
        raise ValueError(f"operation {kind} takes {', '.join(known.arguments)}; given: {given}")
    if (content is not None) != known.content:
        raise ValueError(f"operation {kind} takes {'' if known.content else 'no '}content")


def _owner(a: Arguments) -> list[str]:
    return ["-o", a["owner"], "-g", a["group"], "-m", a["mode"]]


def _user(a: Arguments) -> Commands:
    groups = ["-G", ",".join(a["groups"])] if a["groups"] else []
    own = ["-g", a["group"], "-d", a["home"], "-s", a["shell"]]
    return [["useradd", "--system", "-c", "gearman_py", *own, *groups, a["name"]]]


def _forget_user(a: Arguments) -> Commands:
    keep = [] if a["group"] else [["usermod", "-g", "65534", a["name"]]]
    return [*keep, ["userdel", a["name"]]]


def _release(a: Arguments) -> Commands:
    folder = f"{a['root']}/releases/{a['id']}"
    return [
        ["mkdir", folder],
        ["cd", folder],
        ["tar", "-xf", f"{a['id']}.tar"],
        ["python3", "-m", "venv", "--without-pip", "venv"],
        ["venv/bin/python", "-m", "installer", "wheels/*.whl"],
    ]


def _unit(a: Arguments) -> Commands:
    enable = {True: "enable", False: "disable", None: None}[a["enabled"]]
    return [["systemctl", verb, a["name"]] for verb in (enable, a["action"]) if verb]


OWNED = ("path", "owner", "group", "mode")
STOP_SERVER = "systemctl", "disable", "--now", "gearmand.socket", "gearmand.service"

OPERATIONS: dict[str, OperationKind] = {
    "packages": OperationKind(
        "install packages of the host's distribution with its `manager`",
        ("names", "manager"),
        lambda a: [[a["manager"], "install", "-y", *a["names"]]],
    ),
    "group": OperationKind(
        "create a system group", ("name",), lambda a: [["groupadd", "--system", a["name"]]]
    ),
    "user": OperationKind(
        "create or mend a system user, who is a member of `groups` too",
        ("name", "group", "home", "shell", "groups"),
        _user,
    ),
    "forget_user": OperationKind(
        "remove a user that nothing runs as; `group`: and the group of that name",
        ("name", "group"),
        _forget_user,
    ),
    "forget_group": OperationKind(
        "remove a group that nothing needs any more", ("name",), lambda a: [["groupdel", a["name"]]]
    ),
    "directory": OperationKind(
        "create or mend a directory, not its parents",
        OWNED,
        lambda a: [["install", "-d", *_owner(a), a["path"]]],
    ),
    "file": OperationKind(
        "replace a file atomically",
        OWNED,
        lambda a: [["install", *_owner(a), "/dev/stdin", a["path"]]],
        content=True,
    ),
    "secret": OperationKind(
        "replace a file that root alone can read, in a folder that root alone can",
        ("path",),
        lambda a: [["install", "-m", "600", "/dev/stdin", a["path"]]],
        content=True,
    ),
    "attributes": OperationKind(
        "mend owner, group and mode in place",
        OWNED,
        lambda a: [
            ["chown", f"{a['owner']}:{a['group']}", a["path"]],
            ["chmod", a["mode"], a["path"]],
        ],
    ),
    "link": OperationKind(
        "replace a symbolic link atomically",
        ("path", "target"),
        lambda a: [["ln", "-sfn", a["target"], a["path"]]],
    ),
    "remove": OperationKind(
        "remove a file, a link or an empty folder", ("path",), lambda a: [["rm", "-d", a["path"]]]
    ),
    "signature": OperationKind(
        "verify the signature of the release or signers that follow",
        ("root", "statement", "signature"),
        lambda a: [
            [
                *("ssh-keygen", "-Y", "verify", "-f", f"{a['root']}/release_signers"),
                *("-I", "gearman-release", "-n", "gearman-release", "-s", "SIGNATURE"),
            ]
        ],
    ),
    "signers": OperationKind(
        "say whose signature releases need",
        ("root",),
        lambda a: [["install", "-m", "644", "/dev/stdin", f"{a['root']}/release_signers"]],
        content=True,
    ),
    "release": OperationKind(
        "unpack a release's .tar and make its venv",
        ("root", "id", "digest"),
        _release,
        content=True,
    ),
    "prune": OperationKind(
        "remove a release that is not needed any more",
        ("root", "id"),
        lambda a: [["rm", "-r", f"{a['root']}/releases/{a['id']}"]],
    ),
    "condemn": OperationKind(
        "mark a release as bad; the content says why",
        ("root", "id"),
        lambda a: [["tee", f"{a['root']}/releases/{a['id']}/.bad"]],
        content=True,
    ),
    "acquit": OperationKind(
        "let a release that is marked as bad be tried again",
        ("root", "id"),
        lambda a: [["rm", f"{a['root']}/releases/{a['id']}/.bad"]],
    ),
    "remove_app": OperationKind(
        "remove an app with all its releases",
        ("root", "name"),
        lambda a: [["rm", "-r", f"{a['root']}/{a['name']}"]],
    ),
    "close_server": OperationKind(
        "stop and disable the job server with its queue in `folder`, once `command` has moved its "
        "jobs; with an empty command, unless jobs are in it; output: what was moved",
        ("folder", "admin", "command"),
        lambda a: [*([a["command"]] if a["command"] else []), STOP_SERVER],
    ),
    "drain_server": OperationKind(
        "do the same with a job server that will be started again",
        ("folder", "admin", "command"),
        lambda a: [a["command"], STOP_SERVER],
    ),
    "set_schedule": OperationKind(
        "set a schedule of the job server at its socket `admin`",
        ("admin", "name", "facts"),
        lambda a: [["gearadmin", f"-hunix:{a['admin']}", "--schedule", a["name"], *a["facts"]]],
    ),
    "delete_schedule": OperationKind(
        "delete a schedule there, if it is there",
        ("admin", "name"),
        lambda a: [["gearadmin", f"-hunix:{a['admin']}", "--delete-schedule", a["name"]]],
    ),
    "remove_queue": OperationKind(
        "remove the folder of a queue in which no job is",
        ("folder",),
        lambda a: [["rm", "-r", a["folder"]]],
    ),
    "remove_state": OperationKind(
        "remove the folder of a service that has left, which belongs to its user",
        ("folder", "user"),
        lambda a: [["rm", "-r", a["folder"]]],
    ),
    "remove_installation": OperationKind(
        "remove all releases and apps, from which nothing runs any more",
        ("root",),
        lambda a: [["rm", "-r", a["root"]]],
    ),
    "daemon_reload": OperationKind(
        "have systemd read its unit files again", (), lambda a: [["systemctl", "daemon-reload"]]
    ),
    "unit": OperationKind(
        "enable (true, false or null) a unit, then start, stop, restart or reload it (or null)",
        ("name", "enabled", "action"),
        _unit,
    ),
    "program": OperationKind(
        "start or restart a unit (and enable it, if true) that serves `functions`, and wait until "
        "each of `servers` knows one more worker of this host for them; else stop and disable it",
        ("name", "enabled", "action", "functions", "servers", "seconds"),
        _unit,
    ),
    "job": OperationKind(
        "run a command that submits a job with the content as workload; output: the answer, base64",
        ("command", "seconds"),
        lambda a: [a["command"]],
        content=True,
    ),
    "proved_job": OperationKind(
        "the same with a job for `function`, which a process of `unit` that runs from folder "
        "`release` proves to have done",
        ("command", "seconds", "function", "unit", "release"),
        lambda a: [a["command"]],
        content=True,
    ),
    "trial": OperationKind(
        "the same by a worker that runs just for it, in a unit with these `properties`; it may "
        "serve nothing that the `others` serve",
        (
            *("worker", "properties", "environment", "command", "seconds", "function", "release"),
            "others",
        ),
        lambda a: [[*a["worker"], "&"], a["command"]],
        content=True,
    ),
    "check_functions": OperationKind(
        "see at a job server that no worker known by these `pings` serves one of `functions`",
        ("server", "worker", "functions", "pings"),
        lambda a: [["gearadmin", "-h", a["server"], "--workers"]],
    ),
    "trial_program": OperationKind(
        "have a program serve `functions` to a job server of its own, at one of `names` if they "
        "speak TLS, in a unit with these `properties`, and do a job there, which `command` submits "
        "with the content as workload, if there is one; output: the answer, base64",
        (
            *("server", "program", "properties", "environment", "functions", "command", "seconds"),
            "names",
        ),
        lambda a: [[*a["server"], "&"], [*a["program"], "&"], a["command"]],
        content=True,
    ),
    "trial_queue": OperationKind(
        "run a command that checks the database of a queue, in a unit with these `properties`; "
        "output: what it says, base64",
        ("command", "properties", "seconds"),
        lambda a: [a["command"]],
    ),
    "look": OperationKind(
        "run commands that only look; output: what they print",
        ("commands",),
        lambda a: a["commands"],
    ),
}
