"""Whether a database can be used, found out without a job server."""

from collections.abc import Iterator
from typing import NamedTuple

from gearman_py.store.database import Database
from gearman_py.store.weakness import find_refusal

PREFIX = b"C:check"  # of a run that stores no job


class DatabaseFact(NamedTuple):
    """Something about a database; ``state`` is "ok" or "warn"."""

    state: str
    text: str


def check_database(database: Database, *, accept_loss: bool = False) -> Iterator[DatabaseFact]:
    """Do what a start does: log in, look at the settings, write and read.

    Raises StoreError if a start would fail.
    """
    try:
        database.connect()
        yield DatabaseFact("ok", database.describe_login())
        weaknesses = database.find_weaknesses()
        if refusal := find_refusal(weaknesses, accept_loss=accept_loss):
            raise refusal
        if not weaknesses:
            yield DatabaseFact("ok", database.describe_durability())
        for weakness in weaknesses:
            yield DatabaseFact("warn", f"{weakness.text} (--accept-loss)")
        number = database.enrol_run(PREFIX)
        database.read_records(number, None, 1)
        database.leave_shelf(number)
        database.clear_shelf(number)
        text, is_short = database.describe_room()
        yield DatabaseFact("warn" if is_short else "ok", text)
    finally:
        database.disconnect()
