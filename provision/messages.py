"""What the engine and a host's agent say to each other.

A question is a tuple of strings, so equal questions of two resources are asked once. Its
answer is JSON data, or :class:`Unknown` when it could not be had: never "absent" by mistake.

    question                          answer (None: there is no such thing)
    ("host",)                         {python: [3, 11, 2], machine, libc, os: {ID, ID_LIKE,
                                      VERSION_ID, PRETTY_NAME}, systemd: 252, hostname, time:
                                      seconds, ahead: seconds that its clock is ahead of ours}
    ("machine",)                      {cpus, memory, available: bytes, uptime: seconds, load: [3],
                                      addresses: [text]}
    ("disk", path)                    {free: bytes, inodes: free ones, readonly: bool} where path
                                      is, or will be
    ("group", name)                   {gid}
    ("user", name)                    {uid, group, home, shell, groups: [name]}
    ("traces", name, path...)         {processes: [{pid, command, unit}], units: [path], files:
                                      [path], group: [text]}: what a user has at these paths, runs,
                                      and by which unit files; and what needs its group further on
    ("path", path, digest, show)      {kind: file|directory|link|other, mode: "0644", owner, group,
                                      acl: bool, size, target, digest, content}: acl: it has an
                                      access list; target of a link; digest (sha256) of a file when
                                      the question has one; content when the two differ, show is
                                      "text", and it is UTF-8 below 256 KiB
    ("package", name)                 its version, when dpkg says that it is installed
    ("table", name)                   {rules, loaded}: of nftables, as it is (None: it is not), and
                                      as it was when our unit loaded it
    ("unit", name)                    {load, active, sub, enabled, stale, pid, restarts, result,
                                      program, config, outdated}: stale when a daemon-reload is
                                      due; program (a script's interpreter) and config
                                      ($GEARMAN_CONFIG) are of the running main process; outdated:
                                      why that is not what the unit says by now, or None
    ("overrides", name, own)          {path: what it says, None for a mask}: files that change a
                                      unit from outside the file ``own``
    ("releases", root)                {current: id or None, kept: {id: {at: seconds, bad: why or
                                      None}}, damaged: {id: path}, running: [id]}: kept are whole;
                                      damaged is one in use of which some file is not as it was;
                                      running are those that some process was started from
    ("history", path, number)         [entry]: the last so many that were recorded, oldest first
    ("port", address, port)           {pid, command, unit}: who listens there

    asked by a survey                 (agent/survey.py)
    ("clock",)                        seconds since 1970
    ("space", path)                   {size, free: bytes, inodes: free ones or None, readonly,
                                      device}: of the file system that path is in, or will be
    ("oom", since)                    [unit]: of which something was killed for want of memory
    ("lines", unit, number)           [text]: the last that it said
    ("firewall",)                     [rule]: those that drop or reject something
    ("server", host, port)            {problem: None or refused, silent, no way, forbidden, no name,
                                      no answer; detail}; seconds to connect, version, functions:
                                      {name: {queued, running, workers}}, when there is no problem

    operation     arguments                        content
    packages      names                                       install Debian packages
    group         name                                        a system group
    user          name group home shell groups                a system user, created or mended;
                                                              a member of these groups too
    forget_user   name group                                  a user that nothing runs as; true: and
                                                              its group
    directory     path owner group mode                       created or mended, not its parents
    file          path owner group mode            bytes      replaced atomically
    attributes    path owner group mode                       mended in place
    link          path target                                 replaced atomically
    remove        path                                        a file or a link
    release       root id digest                   file       a .tar, unpacked, venv made, complete
    prune         root id                                     a release that is not needed any more
    condemn       root id                          bytes      a release is bad, and why
    acquit        root id                                     it may be tried again
    daemon_reload
    unit          name enabled action                         enabled: true, false or null; action:
                                                              start, stop, restart, reload or null
    job           command seconds                  bytes      a command that submits a job, and its
                                                              workload; output: the answer, base64
    trial         worker user environment          bytes      a job done by a worker that runs just
                  command seconds                             for it, as this user
    look          commands                                    output: what these commands say

A release's tar holds MANIFEST.json, requirements.txt (what the venv gets, by hash) and wheels/,
pip's own among them. It is unpacked as ROOT/releases/ID with a venv/ beside the wheels, by pip
run from its wheel, and units/ for the unit files that it will run with; it is whole when
ROOT/releases/ID/.complete exists. ROOT/current is a link that the plan makes.

A frame is a header (JSON) and a content (bytes), each with its length before it: `>IQ`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Question = tuple[str, ...]


@dataclass(frozen=True)
class Unknown:
    """An answer that could not be had, and why. A plan that meets one shows `?` and stops."""

    reason: str


Answer = Any
"""JSON data as the table above says, None, or Unknown."""


@dataclass(frozen=True)
class Operation:
    """One thing for the agent to do. ``content`` may be a file on this machine, sent in pieces."""

    kind: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    content: bytes | Path | None = None


@dataclass(frozen=True)
class Outcome:
    """How one operation went, as the agent tells it when it is over."""

    operation: Operation
    seconds: float
    error: str | None = None
    output: str = ""  # the last lines a command printed, for the operator
