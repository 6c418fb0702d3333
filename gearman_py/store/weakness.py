"""Settings with which a database may lose jobs that it has acknowledged."""

from collections.abc import Iterable
from typing import NamedTuple

from gearman_py.store.base import StoreError


class Weakness(NamedTuple):
    """A setting of the database with which it may lose jobs, and how to change it.

    ``bearable``: it loses jobs only when its host or process dies.
    """

    text: str
    bearable: bool


def find_refusal(weaknesses: Iterable[Weakness], *, accept_loss: bool) -> StoreError | None:
    """Why jobs must not be kept in a database with these, unless bearable ones are accepted."""
    refused = [each.text for each in weaknesses if not (each.bearable and accept_loss)]
    return StoreError("; ".join(refused), "the queue's database might lose it") if refused else None
