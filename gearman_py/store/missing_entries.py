"""Jobs in a shared database whose server's entry is gone: deleted by hand, evicted, not restored.

Without an entry no server would look for them. A new one, with a keeper that does not exist, lets
all servers see them; one takes them over as those of a server that is gone, after the same time:
if their server still runs, it notices by then that its entry is gone, and stops.
"""

import logging
from collections.abc import Iterator

from gearman_py.store.base import Record, is_sound
from gearman_py.store.database import Database

log = logging.getLogger("gearmand")


def restore_entries(database: Database, prefix: bytes) -> None:
    """Give each shelf that has jobs and no entry a new one. Raises StoreError.

    The prefix of their handles was in the entry, so it is now that of this server.
    """
    for shelf in database.find_missing_entries():
        database.restore_entry(shelf, prefix)
        log.warning(
            "the entry of shelf %d, which has jobs, was deleted from the queue's database: they "
            "will be taken over, with handles that begin with %s",
            *(shelf, prefix.decode(errors="backslashreplace")),
        )


def read_all_records(database: Database, prefix: bytes, limit: int) -> Iterator[Record]:
    """The sound records on all shelves, ``limit`` at a time. Raises StoreError."""
    restore_entries(database, prefix)
    for shelf in database.list_shelves():
        last: int | None = None
        while records := database.read_records(shelf.number, last, limit):
            yield from filter(is_sound, records)
            last = records[-1].number
