"""Which jobs were imported from a C gearmand's queue, kept with the queue that has them.

So an import that is run again leaves out those that have been done since. Such a record has a
function with a name that clients cannot send, as those of pauses do (restriction_records). The
server keeps it and does nothing with it.
"""

from collections.abc import Iterator, Sequence

from gearman_py.store.base import Record

IMPORT_NAME = b"\0import"
DIGEST_SIZE = 16  # bytes, of each job


def make_import_record(number: int, digests: Sequence[bytes]) -> Record:
    """How the digests of a group of jobs are stored."""
    return Record(number, IMPORT_NAME, b"", 1, 0, b"", b"".join(digests), 0)


def parse_import_record(record: Record) -> Iterator[bytes]:
    """The inverse of `make_import_record`."""
    for start in range(0, len(record.workload), DIGEST_SIZE):
        yield record.workload[start : start + DIGEST_SIZE]
