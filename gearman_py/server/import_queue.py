"""Imports the queue that a C gearmand stored into ours (see gearman_py.c_queue).

The server does not run meanwhile. With each group of jobs a record says which they are: when the
import is run again, they are left out, though they may have been done since. So are jobs that are
in our queue already, by function and unique.
"""

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from uuid import UUID

from gearman_py.broker.import_records import (
    DIGEST_SIZE,
    IMPORT_NAME,
    make_import_record,
    parse_import_record,
)
from gearman_py.broker.state import Key, coalesces_on
from gearman_py.c_queue.base import StoredJob, Unreadable, name_bytes
from gearman_py.c_queue.source import StoredQueue
from gearman_py.printable import printable
from gearman_py.store.base import Changes, Record, Store, first_number, lease_clock

MOST_JOBS, MOST_BYTES = 1000, 8 * 2**20  # of a group that is committed
SHOWN_FUNCTIONS = 10  # whose imported jobs are counted in the last line
LEASE_MARGIN = 3.0  # seconds of a lease that are left when it is extended
STOP_SIGNALS = signal.SIGINT, signal.SIGTERM


class QueueImport:
    """One import, and what it has done until now."""

    def __init__(self, source: StoredQueue) -> None:
        self._source = source
        self._group: list[Record] = []
        self._digests: list[bytes] = []  # of the group
        self._alike: Counter[bytes] = Counter()  # jobs by what they consist of
        self._before = self._there = self._unreadable = 0
        self._broke_off = False  # it is not known how many could not be read
        self.imported: Counter[bytes] = Counter()  # jobs by function

    def run(self, store: Store, report: Callable[[Unreadable], object]) -> None:
        """Import all jobs; call ``report`` for each row that is not one.

        Raises SourceError and StoreError: what was imported until then stays.
        """
        known: Counter[object] = Counter()
        before: set[bytes] = set()
        for stored in store.all_records():
            if stored.function == IMPORT_NAME:
                before.update(() if self._source.again else parse_import_record(stored))
            else:
                known[_coalescing_key(stored)] += 1
            _extend_lease(store)
        number = first_number(store.series)
        size = 0
        for row in self._source.read():
            _extend_lease(store)
            if isinstance(row, Unreadable):
                self._unreadable += 1
                self._broke_off = self._broke_off or row.is_rest
                report(row)
                continue
            digest = self._make_digest(row)
            record = _make_record(number, row, digest)
            key = _coalescing_key(record)
            is_before, is_there = digest in before, known[key] > 0
            if is_there:
                known[key] -= 1
            if is_before or is_there:
                self._before += is_before
                self._there += not is_before
                continue
            self._group.append(record)
            self._digests.append(digest)
            number += 1
            size += len(record.workload)
            if len(self._group) >= MOST_JOBS or size >= MOST_BYTES:
                self._commit_group(store, number)
                number += 1
                size = 0
        if self._group:
            self._commit_group(store, number)

    def _commit_group(self, store: Store, number: int) -> None:
        with _signals_held():
            store.commit(Changes([*self._group, make_import_record(number, self._digests)], {}, []))
            self.imported.update(record.function for record in self._group)
            self._group.clear()
            self._digests.clear()
            store.tidy()

    def _make_digest(self, job: StoredJob) -> bytes:
        """What tells the job from all others, of this source and of others."""
        facts = (self._source.identity, job.function, job.unique, job.priority, job.due)
        digest = sha256(repr(facts).encode(errors="surrogateescape"))
        digest.update(job.workload)
        self._alike[digest.digest()] += 1
        digest.update(b"%d" % self._alike[digest.digest()])
        return digest.digest()[:DIGEST_SIZE]

    def __str__(self) -> str:
        total = self.imported.total()
        words = f"imported {total} {'job' if total == 1 else 'jobs'}"
        if total:
            words += f" ({self._format_functions()})"
        words += f" from {printable(str(self._source), keep='')}"
        if self._before:
            words += f"; {self._before} {'was' if self._before == 1 else 'were'} imported before"
        if self._there:
            words += f"; {self._there} {'was' if self._there == 1 else 'were'} there already"
        if self._broke_off:
            words += "; it is not known how many could not be read"
        elif self._unreadable:
            words += f"; {self._unreadable} could not be read"
        return words

    def _format_functions(self) -> str:
        largest = self.imported.most_common(SHOWN_FUNCTIONS)
        shown = [f"{name_bytes(name)} {count}" for name, count in sorted(largest)]
        if others := len(self.imported) - len(largest):
            shown.append(f"and {others} more {'function' if others == 1 else 'functions'}")
        return ", ".join(shown)


def _make_record(number: int, job: StoredJob, digest: bytes) -> Record:
    coalesces = coalesces_on(job.unique, job.workload) is not None
    return Record(
        number=number,
        function=job.function,
        unique=job.unique if coalesces else str(UUID(bytes=digest, version=5)).encode(),
        priority=job.priority,
        due=job.due,
        reducer=b"",
        workload=job.workload,
        deliveries=0,
    )


def _coalescing_key(record: Record) -> tuple[bytes, Key | None]:
    return record.function, coalesces_on(record.unique, record.workload)


def _extend_lease(store: Store) -> None:
    """Let no job server that shares the store take this import for one that is gone."""
    if store.lease - lease_clock() < LEASE_MARGIN:
        store.commit(Changes([], {}, []))


@contextmanager
def _signals_held() -> Iterator[None]:
    """Let signals wait until what is stored is counted too."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
