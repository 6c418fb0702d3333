"""Whether a database can be used, found out without a job server."""

from gearman_py.store.database import Database
from gearman_py.store.weakness import find_refusal

PREFIX = b"C:check"  # of a run that stores no job


def check_database(database: Database, *, accept_loss: bool = False) -> list[str]:
    """Do what a start does: log in, look at the settings, write and read.

    Returns the weaknesses that are accepted. Raises StoreError if a start would fail.
    """
    database.connect()
    try:
        weaknesses = database.find_weaknesses()
        if refusal := find_refusal(weaknesses, accept_loss=accept_loss):
            raise refusal
        number = database.enrol_run(PREFIX)
        database.read_records(number, None, 1)
        database.leave_shelf(number)
        database.clear_shelf(number)
    finally:
        database.disconnect()
    return [each.text for each in weaknesses]
