"""A host that is looked at: what it should be, and what it answered."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from provision.fleet.past_runs import PAST_RUNS, begun_retirement, ended_retirement
from provision.inventory.host import Host
from provision.remote.messages import Unknown
from provision.resources.base import Answers, Resource

Kind = TypeVar("Kind", bound=Resource)

Verdict = tuple[Literal["ok", "warn", "fail"], str, str]
"""What a rule finds: how it is, what there is, and the cure."""


@dataclass(frozen=True)
class ClockOffset:
    """A host's, in seconds: how far it is ahead of ours, and how wrong that may be."""

    ahead: float
    doubt: float


@dataclass(frozen=True)
class HostFacts:
    """A host, what it should be, and what it answered."""

    host: Host
    resources: Sequence[Resource]
    answers: Answers
    clock: ClockOffset
    tree: str | None  # the release that this machine's tree makes for it, if that is known
    servers: Sequence[str]  # all job servers, as HOST:PORT

    def wanted(self, kind: type[Kind]) -> Iterator[Kind]:
        """The resources of a kind that it should have."""
        return (each for each in self.resources if isinstance(each, kind))

    @property
    def retirement(self) -> str:
        """That its retirement was begun and did not end; "" if that is not so, or not known."""
        past = self.answers.get(PAST_RUNS)
        return begun_retirement(self.host.name, past) if isinstance(past, list) else ""

    @property
    def departure(self) -> str:
        """That it was retired and is still in the inventory; "" if not so, or not known."""
        past = self.answers.get(PAST_RUNS)
        return ended_retirement(past) if isinstance(past, list) else ""

    def on_host(self, *commands: str) -> str:
        """Commands as they are typed in a shell of this host, as root."""
        return f"on {self.host.name}: {self.as_root(*commands)}"

    def as_root(self, *commands: str) -> str:
        """Commands as its user types them to run as root."""
        sudo = "" if self.host.user == "root" else "sudo "
        return "; ".join(f"{sudo}{each}" for each in commands)

    def known_answer(self, *question: str) -> Any:
        """An answer. Raises :class:`Unanswered`."""
        answer = self.answers[question]
        if isinstance(answer, Unknown):
            raise Unanswered(f"its {' '.join(question)} cannot be known: {answer.reason}")
        return answer


class Unanswered(Exception):
    """A rule needs what could not be had."""


def is_running(found: dict[str, Any]) -> bool:
    """Whether a unit does, by its answer."""
    return bool(found["active"] in ("active", "reloading"))
