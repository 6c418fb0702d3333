"""What a host's agent may answer to a question: the shape of each, checked before it is used.

A host may be compromised, and its agent replaced: what it says ends in plans, reports and other
hosts' decisions. Whatever does not have the shape given here is a failure of that host alone.
"""

from typing import Annotated, Literal, NotRequired, TypedDict, TypeVar

import msgspec

Shape = TypeVar("Shape")

Name = Annotated[str, msgspec.Meta(max_length=4096)]  # as long as a path may be
Text = Annotated[str, msgspec.Meta(max_length=1 << 18)]  # twice what is kept of an output
MOST = msgspec.Meta(max_length=10_000)
Names = Annotated[list[Name], MOST]
Texts = Annotated[list[Text], MOST]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=2**32)]  # since 1970: a date can be made of it
Count = Annotated[int, msgspec.Meta(ge=0)]
ReleaseId = Annotated[str, msgspec.Meta(pattern=r"^\w[\w.+-]{0,199}\Z")]  # a file's name here
Version = Annotated[int, msgspec.Meta(ge=0, le=99)]  # a part: wheels are looked for up to it
Libc = Annotated[str, msgspec.Meta(pattern=r"^\w{1,20} \d{1,2}\.\d{1,2}([^\d\s]\S{0,99})?\Z")]
Machine = Annotated[str, msgspec.Meta(pattern=r"^\w{1,32}\Z")]
MANY = msgspec.Meta(max_length=1_000)  # releases, of which a host keeps a few


def decode(raw: bytes | msgspec.Raw, shape: type[Shape]) -> Shape:
    """JSON text as ``shape``. Raises :class:`ValueError` that says what is wrong, and where."""
    try:
        return msgspec.json.decode(raw, type=shape)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None


class HostAnswer(TypedDict):
    """``ahead``: seconds that its clock is ahead of ours; the session works it out.

    ``python_problem``: why releases cannot be run with the Python that answers.
    """

    python: Annotated[list[Version], msgspec.Meta(min_length=3, max_length=3)]
    python_problem: NotRequired[Name | None]
    machine: Machine
    libc: Libc | None
    os: dict[str, Name]  # ID, ID_LIKE, VERSION_ID, PRETTY_NAME
    systemd: Count | None
    hostname: Name
    time: float  # seconds since 1970


class MachineAnswer(TypedDict):
    cpus: Count | None
    memory: Count  # bytes
    available: Count  # bytes
    uptime: float  # seconds
    load: Annotated[list[float], msgspec.Meta(min_length=3, max_length=3)]
    addresses: Names


class DiskAnswer(TypedDict):
    """Of the file system where a path is, or will be."""

    free: Count  # bytes
    inodes: Count  # free ones
    readonly: bool


class GroupAnswer(TypedDict):
    gid: Count


class UserAnswer(TypedDict):
    uid: Count
    group: Name
    home: Name
    shell: Name
    groups: Names
    comment: Name


class ProcessAnswer(TypedDict):
    pid: Count | None
    command: Name
    unit: Name | None


class TracesAnswer(TypedDict):
    """What a user runs, by which unit files, and owns at some paths; what needs its group."""

    processes: list[ProcessAnswer]
    units: Names
    files: Names
    group: Names


class PathAnswer(TypedDict):
    """``digest`` (sha256) of a file when the question has one; ``content`` when the two differ,
    the question says "text", and it is UTF-8 below 256 KiB. ``acl``: it has an access list.
    """

    kind: Literal["file", "directory", "link", "other"]
    mode: Annotated[str, msgspec.Meta(pattern=r"^[0-7]{4}\Z")]
    owner: Name
    group: Name
    acl: bool
    size: Count
    target: Name | None
    digest: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")] | None
    content: Text | None


class TableAnswer(TypedDict):
    """Rules of an nftables table as it is (None: it does not exist), and as our unit loaded it."""

    rules: Text | None
    loaded: Text | None


class UnitAnswer(TypedDict):
    """``stale`` when a daemon-reload is due; ``program`` (a script's interpreter) and ``config``
    ($GEARMAN_CONFIG) are of the running main process, as ``reload_key`` ($GEARMAN_RELOAD_KEY) is;
    ``room_for_two``: whether a second one of its size fits into the unit's limit of memory;
    ``outdated``: why it is not what the unit says by now.
    """

    load: Name
    active: Name
    sub: Name
    enabled: Name
    stale: bool
    pid: Count | None
    restarts: Count
    oom_kills: Count  # of the unit as it runs
    result: Name
    program: Name | None
    config: Text | None
    reload_key: Text | None
    room_for_two: bool | None
    outdated: Text | None


class UnitPresence(TypedDict):
    file: bool  # of its own, in /etc/systemd/system
    ours: bool  # a deploy made that, or its template's
    enabled: bool
    active: bool
    failed: bool


class QueueAnswer(TypedDict):
    """The jobs that a job server holds, by function; ``kept``: its folder is there."""

    jobs: dict[str, Count]
    kept: bool


class ScheduleAnswer(TypedDict):
    function: str
    cron: str
    zone: str
    unique: str
    workload: str
    priority: Name
    missed: Name
    overlap: Name
    owner: str


class KeptRelease(TypedDict):
    """``source`` is the same for releases that differ in their accelerator alone."""

    at: Seconds
    bad: Text | None  # why it was given up
    source: NotRequired[Name]
    accelerated: NotRequired[bool]


class ReleasesAnswer(TypedDict):
    """``kept`` are whole; ``damaged`` (id: path) are in use, and some file of them is not as it
    was; ``given_up`` (id: why) are those that are bad, though they were removed; ``running`` are
    those that some process was started from.
    """

    current: ReleaseId | None
    kept: Annotated[dict[ReleaseId, KeptRelease], MANY]
    given_up: Annotated[dict[ReleaseId, Text], MANY]
    damaged: Annotated[dict[ReleaseId, Name], MANY]
    running: Annotated[list[ReleaseId], MANY]


Move = TypedDict("Move", {"release": ReleaseId, "from": ReleaseId | None})

HistoryEntry = TypedDict(
    "HistoryEntry",
    {
        "at": Name,
        "run": NotRequired[Name],
        "who": Name,
        "doing": str,
        "app": NotRequired[Name],
        "release": ReleaseId,
        "from": ReleaseId | None,
        "apps": NotRequired[dict[Name, Move]],
        "back": NotRequired[bool],
        "retires": NotRequired[bool],
        "gated": NotRequired[bool],
        "changes": NotRequired[Count],
        "result": str,
        "seconds": NotRequired[float],
    },
)
"""What a run did to a host: provision/fleet/past_runs.py writes it."""


History = Annotated[list[HistoryEntry], MOST]
Marked = Annotated[dict[Name, Literal["file", "link", "directory"]], MOST]
Units = Annotated[dict[Name, UnitPresence], MOST]
UnitTexts = Annotated[dict[Name, Text], MOST]
Overrides = Annotated[dict[Name, Text | None], MOST]
Schedules = Annotated[dict[str, ScheduleAnswer], msgspec.Meta(max_length=100_000)]


class SpaceAnswer(TypedDict):
    """Of the file system that a path is in, or will be."""

    size: Count  # bytes
    free: Count  # bytes
    inodes: Count | None  # free ones
    readonly: bool
    device: Count


class FunctionAnswer(TypedDict):
    queued: int
    running: int
    workers: int


class WorkerAnswer(TypedDict):
    address: Name
    client: Name  # its id
    functions: Names
    more: NotRequired[Count]  # functions that are not told
    seconds: float | None  # since it was connected; C's job server does not tell


class PauseAnswer(TypedDict):
    """A function that gives out no jobs, or with the name "" the whole job server."""

    function: str
    since: Annotated[float, msgspec.Meta(ge=0, le=2.5e11)]  # seconds since 1970; 0: not known
    by: Name  # a user, or an address


class _ServerAnswer(TypedDict):
    problem: (
        Literal[
            "refused", "silent", "no way", "forbidden", "no name", "no certificate", "no answer"
        ]
        | None
    )


class ServerAnswer(_ServerAnswer, total=False):
    """How a job server answers that host: ``detail`` of the problem, or the rest without one."""

    detail: Text
    seconds: float  # to connect
    version: Name
    functions: dict[str, FunctionAnswer]
    registered: list[WorkerAnswer]
    refuses: Text  # why it takes no jobs; "" when it does
    moving: bool  # its jobs to other job servers
    paused: bool
    pauses: list[PauseAnswer]  # none from a release that does not tell


class QueueCheckAnswer(TypedDict):
    """Whether a queue's database can be used: what is wrong, or lines of `ok TEXT`, `warn TEXT`."""

    problem: Text | None
    facts: Texts
