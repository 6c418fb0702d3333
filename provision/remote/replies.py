"""What a host's agent may say besides answers: the shape of every message, checked as these are."""

from typing import Annotated, Any, NotRequired, TypedDict

import msgspec

from provision.remote.answers import Name, Text


class Crash(TypedDict, total=False):
    """May come in place of any message: the agent's traceback."""

    crash: Text


Answered = TypedDict("Answered", {"is": msgspec.Raw, "unknown": Text}, total=False)
"""An answer to one question, which is read as its kind has it, or why there is none."""

NULL = msgspec.Raw(b"null")


class AnswersReply(Crash):
    answers: list[Answered]


class LockHolder(TypedDict, total=False):
    """Who has locked a host; empty while they are about to say so."""

    who: Name
    since: Name
    doing: Name
    nonce: Name


class LockReply(Crash, total=False):
    """``holder`` None: the lock is ours. ``refused``: why it cannot be locked at all."""

    refused: Text
    holder: LockHolder | None


class OutcomeFacts(TypedDict):
    seconds: float
    error: Text | None
    output: str  # of a job that was done: its result


class StepReply(Crash, total=False):
    """How an operation went, or the request for its content."""

    outcome: OutcomeFacts
    send: int


class RecordReply(Crash, total=False):
    refused: Text | None


class StreamReply(Crash, total=False):
    """What a command says while it runs; at its end, its status or why there is none."""

    said: str
    ended: int | None
    why: Text | None


JournalEntry = TypedDict(
    "JournalEntry",
    {
        "__REALTIME_TIMESTAMP": Annotated[str, msgspec.Meta(pattern=r"^\d{1,16}\Z")],  # us
        "MESSAGE": NotRequired[Any],  # what its program likes; bytes if it is not UTF-8
        "UNIT": NotRequired[Name | None],
        "_SYSTEMD_UNIT": NotRequired[Name | None],
    },
)
"""A line of `journalctl --output=json`."""
