"""A resource says what should be on a host. It is data; nothing here connects to anything.

A resource asks questions and, given the answers, says what must change. Both are pure: a
plan can be made, tested and shown without a host, and making one writes nothing. What must
come first follows from data: a resource needs what other resources provide.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from provision.remote.messages import Answer, Operation, Question

Answers = Mapping[Question, Answer]
Sign = Literal["+", "~", "-"]
"""What a change does to a thing: brings it, mends it, takes it away."""


@dataclass(frozen=True)
class Change:
    """One operation, and what a person should know of it before it is done."""

    sign: Sign
    summary: str  # "file /etc/motd", "restart gearmand.service"
    operation: Operation
    reason: str = ""  # why, or what it will be: "root:root 0644", "mode 0600 -> 0644"
    diff: str = ""  # unified, of a text that changes
    for_trial: bool = False  # a release that is not in use yet is tried with it


@dataclass(frozen=True)
class Problem:
    """What a person must mend first: found what, and what to do. Nothing is applied.

    ``!`` is what is wrong on the host, ``?`` what could not be known of it.
    """

    message: str
    sign: Literal["!", "?"] = "!"


class Resource(ABC):
    """Desired state. Subclasses are frozen dataclasses: equal ones are one resource."""

    kind: ClassVar[str]
    """The tag that all resources like this one have: the class's name, unless it says another."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.kind = cls.__dict__.get("kind", cls.__name__.lower())

    @abstractmethod
    def questions(self) -> Iterable[Question]:
        """What must be known about the host to say what must change."""

    @abstractmethod
    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        """What must change, in order; nothing when the host is as wanted.

        ``answers`` holds every question of this resource, none of them ``Unknown``.
        """

    @property
    def provides(self) -> frozenset[str]:
        """What others may need: ``path:/opt``, ``user:gearman``, ``group:gearman``."""
        return frozenset()

    @property
    def needs(self) -> frozenset[str]:
        """What must come first, if some resource of this host provides it."""
        return frozenset()

    def within(self, provided: frozenset[str]) -> "Resource":
        """The same where the resources of a plan provide only these: tags may leave others out."""
        return self


def resource_kinds(of: type[Resource] = Resource) -> set[str]:
    """The kinds there are."""
    below = of.__subclasses__()
    own = {each.kind for each in below if each.__name__[0] != "_"}
    return own.union(*map(resource_kinds, below))
