"""The keys of `gearmand -q libmemcached`: PREFIX FUNCTION-UNIQUE, with the priority as flags.

What is read of the protocol: `lru_crawler metadump all` (memcached 1.4.31) and `get`; see
https://github.com/memcached/memcached/blob/master/doc/protocol.txt
"""

import socket
from collections.abc import Collection
from io import BufferedRWPair
from urllib.parse import unquote_to_bytes

from gearman_py.c_queue.base import (
    Row,
    Rows,
    SourceError,
    ambiguous,
    check_row,
    name_bytes,
    split_key,
)

TIMEOUT = 30.0  # seconds


def read_memcached(host: str, port: int, prefix: str, functions: Collection[bytes]) -> Rows:
    """Read the jobs, in any order: it is not stored. Raises SourceError."""
    start = prefix.encode()
    try:
        with (
            socket.create_connection((host, port), TIMEOUT) as connection,
            connection.makefile("rwb") as stream,
        ):
            for key in _list_keys(stream):
                if key.startswith(start) and (row := _read_key(stream, key, start, functions)):
                    yield row
    except OSError as error:
        raise SourceError(f"{host}:{port}: {error.strerror or error}") from error


def _list_keys(stream: BufferedRWPair) -> list[bytes]:
    stream.write(b"lru_crawler metadump all\r\n")
    stream.flush()
    keys = []
    for line in stream:
        if line.startswith(b"key="):
            keys.append(unquote_to_bytes(line.split(b" ", 1)[0].removeprefix(b"key=")))
        elif line.rstrip() == b"END":
            return keys
        else:
            raise SourceError(f"memcached does not list its keys: {line.decode(errors='replace')}")
    raise SourceError("memcached closed the connection")


def _read_key(
    stream: BufferedRWPair, key: bytes, start: bytes, functions: Collection[bytes]
) -> Row | None:
    """The job under the key; None if it is gone."""
    stream.write(b"get %b\r\n" % key)
    stream.flush()
    head = stream.readline().split()
    if head == [b"END"]:
        return None
    if len(head) != 4 or head[0] != b"VALUE":
        raise SourceError(f"memcached: {b' '.join(head).decode(errors='replace')}")
    workload = stream.read(int(head[3]))
    stream.readline(), stream.readline()
    where = f"key {name_bytes(key)}"
    if (parts := split_key(key.removeprefix(start), functions)) is None:
        return ambiguous(where)
    return check_row(where, *parts, int(head[2]), 0, workload)
