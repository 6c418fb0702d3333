"""The catalogue of what a host's agent can do and tell: one table each, all else derives from it.

``Operation`` and the plan check against these tables, so a resource that asks or does what is not
in them is found by its own unit test. A test holds the agent and the tests' fake host against them.
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


@dataclass(frozen=True)
class QuestionKind:
    """``arguments`` follow the kind in the question's tuple; ``*name`` is any number of them."""

    arguments: tuple[str, ...]
    answer: str  # JSON data; None always means that it does not exist


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


def check_question(question: tuple[str, ...]) -> None:
    """Raises :class:`ValueError` for a question that no agent could answer."""
    kind, *given = question
    if kind not in QUESTIONS:
        raise ValueError(f"unknown question {kind!r}; expected one of {', '.join(QUESTIONS)}")
    wanted = QUESTIONS[kind].arguments
    fixed = [name for name in wanted if not name.startswith("*")]
    if len(given) < len(fixed) or (len(given) > len(fixed) and len(fixed) == len(wanted)):
        raise ValueError(f"question {kind} takes {', '.join(wanted) or 'nothing'}; given: {given}")


def _owner(a: Arguments) -> list[str]:
    return ["-o", a["owner"], "-g", a["group"], "-m", a["mode"]]


def _user(a: Arguments) -> Commands:
    groups = ["-G", ",".join(a["groups"])] if a["groups"] else []
    own = ["-g", a["group"], "-d", a["home"], "-s", a["shell"]]
    return [["useradd", "--system", *own, *groups, a["name"]]]


def _forget_user(a: Arguments) -> Commands:
    keep = [] if a["group"] else [["usermod", "-g", "65534", a["name"]]]
    return [*keep, ["userdel", a["name"]]]


def _release(a: Arguments) -> Commands:
    folder = f"{a['root']}/releases/{a['id']}"
    pip = "install --no-index --find-links wheels --require-hashes -r requirements.txt"
    return [
        ["mkdir", folder],
        ["cd", folder],
        ["tar", "-xf", f"{a['id']}.tar"],
        ["python3", "-m", "venv", "--without-pip", "venv"],
        ["venv/bin/python", "wheels/pip.whl/pip", *pip.split()],
    ]


def _unit(a: Arguments) -> Commands:
    enable = {True: "enable", False: "disable", None: None}[a["enabled"]]
    return [["systemctl", verb, a["name"]] for verb in (enable, a["action"]) if verb]


OWNED = ("path", "owner", "group", "mode")

OPERATIONS: dict[str, OperationKind] = {
    "packages": OperationKind(
        "install Debian packages",
        ("names",),
        lambda a: [["apt-get", "install", "-y", *a["names"]]],
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
    "remove": OperationKind("remove a file or a link", ("path",), lambda a: [["rm", a["path"]]]),
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
    "daemon_reload": OperationKind(
        "have systemd read its unit files again", (), lambda a: [["systemctl", "daemon-reload"]]
    ),
    "unit": OperationKind(
        "enable (true, false or null) a unit, then start, stop, restart or reload it (or null)",
        ("name", "enabled", "action"),
        _unit,
    ),
    "job": OperationKind(
        "run a command that submits a job with the content as workload; output: the answer, base64",
        ("command", "seconds"),
        lambda a: [a["command"]],
        content=True,
    ),
    "trial": OperationKind(
        "have a job done by a worker that runs just for it, as `user`",
        ("worker", "user", "environment", "command", "seconds"),
        lambda a: [[*a["worker"], "&"], a["command"]],
        content=True,
    ),
    "look": OperationKind(
        "run commands that only look; output: what they print",
        ("commands",),
        lambda a: a["commands"],
    ),
}

QUESTIONS: dict[str, QuestionKind] = {
    "host": QuestionKind(
        (),
        "{python: [3, 11, 2], machine, libc, os: {ID, ID_LIKE, VERSION_ID, PRETTY_NAME}, "
        "systemd: 252, hostname, time: seconds, ahead: seconds that its clock is ahead of ours}",
    ),
    "machine": QuestionKind(
        (),
        "{cpus, memory, available: bytes, uptime: seconds, load: [3], addresses: [text]}",
    ),
    "disk": QuestionKind(
        ("path",),
        "{free: bytes, inodes: free ones, readonly: bool} where path is, or will be",
    ),
    "group": QuestionKind(("name",), "{gid}"),
    "user": QuestionKind(("name",), "{uid, group, home, shell, groups: [name]}"),
    "traces": QuestionKind(
        ("name", "*places"),
        "{processes: [{pid, command, unit}], units: [path], files: [path], group: [text]}: what "
        "a user runs, by which unit files, and owns at these paths; what needs its group",
    ),
    "path": QuestionKind(
        ("path", "digest", "show"),
        "{kind: file|directory|link|other, mode: '0644', owner, group, acl: bool, size, target, "
        "digest, content}: acl: it has an access list; target of a link; digest (sha256) of a "
        "file when the question has one; content when the two differ, show is 'text', and it is "
        "UTF-8 below 256 KiB",
    ),
    "package": QuestionKind(("name",), "its version, when dpkg says that it is installed"),
    "table": QuestionKind(
        ("name",),
        "{rules, loaded}: of nftables, as it is (None: it is not), and as it was when our unit "
        "loaded it",
    ),
    "unit": QuestionKind(
        ("name",),
        "{load, active, sub, enabled, stale, pid, restarts, result, program, config, outdated}: "
        "stale when a daemon-reload is due; program (a script's interpreter) and config "
        "($GEARMAN_CONFIG) are of the running main process; outdated: why that is not what the "
        "unit says by now, or None",
    ),
    "overrides": QuestionKind(
        ("name", "own"),
        "{path: what it says, None for a mask}: files that change a unit from outside `own`",
    ),
    "releases": QuestionKind(
        ("root",),
        "{current: id or None, kept: {id: {at: seconds, bad: why or None}}, damaged: {id: path}, "
        "running: [id]}: kept are whole; damaged is one in use of which some file is not as it "
        "was; running are those that some process was started from",
    ),
    "history": QuestionKind(
        ("path", "number"), "[entry]: the last `number` that were recorded, oldest first"
    ),
    "port": QuestionKind(("address", "port"), "{pid, command, unit}: who listens there"),
}

SURVEY: dict[str, QuestionKind] = {
    "clock": QuestionKind((), "seconds since 1970"),
    "space": QuestionKind(
        ("path",),
        "{size, free: bytes, inodes: free ones or None, readonly, device}: of the file system "
        "that path is in, or will be",
    ),
    "oom": QuestionKind(("since",), "[unit]: of which something was killed for want of memory"),
    "lines": QuestionKind(("unit", "number"), "[text]: the last that it said"),
    "firewall": QuestionKind((), "[rule]: those that drop or reject something"),
    "server": QuestionKind(
        ("host", "port"),
        "{problem: None or refused, silent, no way, forbidden, no name, no answer; detail}; "
        "seconds to connect, version, functions: {name: {queued, running, workers}}, when there "
        "is not a problem",
    ),
}
"""What agent/survey.py answers besides."""

QUESTIONS |= SURVEY
