"""The catalogue of what a host's agent can tell: one table, all else derives from it.

A plan checks against it, so a resource that asks what is not in it is found by its own unit test. A
test holds the agent and the tests' fake host against it.
"""

from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from provision.remote.answers import (
    DiskAnswer,
    GroupAnswer,
    History,
    HostAnswer,
    MachineAnswer,
    Marked,
    Overrides,
    PathAnswer,
    ProcessAnswer,
    QueueAnswer,
    QueueCheckAnswer,
    ReleasesAnswer,
    Schedules,
    ServerAnswer,
    SpaceAnswer,
    TableAnswer,
    Texts,
    TracesAnswer,
    UnitAnswer,
    Units,
    UnitTexts,
    UserAnswer,
)


@dataclass(frozen=True)
class QuestionKind:
    """``arguments`` follow the kind in the question's tuple; ``*name`` is any number of them."""

    arguments: tuple[str, ...]
    answer: Any  # a type, of provision/remote/answers.py; None: it does not exist
    more: int = 0  # bytes that it may have, besides the few MiB for all that is asked at once


def check_question(question: tuple[str, ...]) -> None:
    """Raises :class:`ValueError` for a question that no agent could answer."""
    kind, *given = question
    if kind not in QUESTIONS:
        raise ValueError(f"unknown question {kind!r}; expected one of {', '.join(QUESTIONS)}")
    wanted = QUESTIONS[kind].arguments
    fixed = [name for name in wanted if not name.startswith("*")]
    if len(given) < len(fixed) or (len(given) > len(fixed) and len(fixed) == len(wanted)):
        raise ValueError(f"question {kind} takes {', '.join(wanted) or 'nothing'}; given: {given}")


def format_question(question: tuple[str, ...]) -> str:
    """For people, without digests: that of a secret would help to guess it."""
    kind, *given = question
    known = QUESTIONS[kind].arguments
    shown = [text for name, text in zip_longest(known, given) if name not in ("digest", "show")]
    return " ".join([kind, *filter(None, shown)])


QUESTIONS: dict[str, QuestionKind] = {
    "host": QuestionKind((), HostAnswer),
    "machine": QuestionKind((), MachineAnswer),
    "disk": QuestionKind(("path",), DiskAnswer),
    "group": QuestionKind(("name",), GroupAnswer | None),
    "user": QuestionKind(("name",), UserAnswer | None),
    "traces": QuestionKind(("name", "*places"), TracesAnswer | None),
    "group_needs": QuestionKind(("name", "*places"), Texts | None),  # also at these places
    # What deploys made there, by their mark; a place is a path or a pattern.
    "marked": QuestionKind(("*places",), Marked),
    # What a job server holds: asked at its socket `admin`, else read in its `folder` (or "").
    "queue": QuestionKind(("folder", "admin"), QueueAnswer | None, 24 << 20),
    # The schedules of the job server at its socket `admin`, by name; None when it does not answer.
    "schedules": QuestionKind(("admin",), Schedules | None, 56 << 20),
    "path": QuestionKind(("path", "digest", "show"), PathAnswer | None),
    "writable": QuestionKind(("path", "user"), bool | None),  # whether a user may write there
    "package": QuestionKind(("name",), str | None),  # its version, when dpkg or rpm has it
    "table": QuestionKind(("name",), TableAnswer),
    "unit": QuestionKind(("name",), UnitAnswer | None),
    "units": QuestionKind(("pattern",), Units),  # whose names match, as a shell's pattern does
    "names": QuestionKind(("folder",), Texts),  # of what is there; none without the folder
    # What unit files of ours say whose names match, by name.
    "unit_texts": QuestionKind(("pattern",), UnitTexts),
    # Files that change a unit from outside `own`, and what they say; None for a mask.
    "overrides": QuestionKind(("name", "own"), Overrides),
    "releases": QuestionKind(("root",), ReleasesAnswer),
    # The last entries, oldest first; other versions of the toolkit wrote some of them.
    "history": QuestionKind(("path", "number"), History),
    "port": QuestionKind(("address", "port"), ProcessAnswer | None),  # who listens there
}

SURVEY: dict[str, QuestionKind] = {
    "clock": QuestionKind((), float),  # seconds since 1970
    "space": QuestionKind(("path",), SpaceAnswer),
    "oom": QuestionKind(("since",), Texts),  # units that lost a process for want of memory
    "lines": QuestionKind(("unit", "number"), Texts, 16 << 20),  # the last that it logged
    "said": QuestionKind(("unit", "number"), Texts, 16 << 20),  # the last of its present run
    "firewall": QuestionKind((), Texts),  # the rules that drop or reject something
    "server": QuestionKind(("host", "port"), ServerAnswer, 24 << 20),
    # What `gearmand --check-queue`, `command`, says in a unit with these lines of a unit file.
    "queue_check": QuestionKind(("properties", "*command"), QueueCheckAnswer),
}
"""What agent/survey.py answers besides."""

QUESTIONS |= SURVEY
