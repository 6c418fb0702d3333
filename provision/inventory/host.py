"""What an inventory comes to: its hosts, each with all that is said of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from provision.errors import InventoryError, raise_all
from provision.inventory.document import Place

Result = TypeVar("Result")


@dataclass(frozen=True)
class Host:
    """A host, and all that its inventory says of it."""

    name: str
    address: str
    port: int
    user: str
    key_file: Path | None
    become: bool
    python: str  # its path, or a name on root's PATH
    jump: tuple[str, ...] | None  # hosts to go through, each [user@]host[:port]; None: not said
    jump_key: Path | None  # to log in to them
    arguments: str  # the variable that says the arguments of ssh
    ssh_config: Path | None  # an OpenSSH configuration that says more of how to connect
    signing_key: Path | None  # that signs releases
    groups: frozenset[str]
    variables: Mapping[str, Any] = field(hash=False)  # those set, and the defaults of the others
    where: str  # file:line
    folder: Path  # of the inventory: known_hosts is there
    inventory: Path  # as --hosts named it

    def is_set(self, variable: str) -> bool:
        """Whether the inventory says it, and it is not a default."""
        return variable in self._places

    def where_is(self, variable: str) -> str:
        """file:line of a variable; of the host when it is not set."""
        return str(self._places.get(variable, self.where))

    _places: Mapping[str, Place] = field(default_factory=dict, repr=False, hash=False)
    _worked_out: dict[Callable[..., Any], Any] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )


def once_per_host(work_out: Callable[[Host], Result]) -> Callable[[Host], Result]:
    """Decorator: what follows from a host is worked out once, as long as that host is there.

    A changed copy of a host, or the same read again, is another.
    """

    @wraps(work_out)
    def result_of(host: Host) -> Result:
        if work_out not in host._worked_out:
            host._worked_out[work_out] = work_out(host)
        result: Result = host._worked_out[work_out]
        return result

    return result_of


@dataclass(frozen=True)
class OtherHost:
    """A host in none of our groups: it is only listed. ``where``: file:line."""

    name: str
    groups: frozenset[str]
    where: str


@dataclass(frozen=True)
class Inventory:
    """``hosts`` are those to work on; a group always is the whole group.

    ``others``: hosts that are not ours. ``warnings``: what is likely not meant so. ``notes``: what
    was passed over. ``mistakes``: what must not come to the hosts; they can be looked at meanwhile.
    """

    hosts: tuple[Host, ...]
    everyone: tuple[Host, ...]
    others: tuple[OtherHost, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    mistakes: tuple[str, ...] = ()

    def refuse_mistakes(self) -> None:
        """Raises :class:`InventoryError` for all of them."""
        raise_all(map(InventoryError, self.mistakes))

    def group(self, name: str) -> tuple[Host, ...]:
        return tuple(host for host in self.everyone if name in host.groups)
