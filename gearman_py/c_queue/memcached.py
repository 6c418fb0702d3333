"""The keys of `gearmand -q libmemcached`: PREFIX FUNCTION-UNIQUE, with the priority as flags.

What is read of the protocol: `lru_crawler metadump all` (memcached 1.4.31) and `get`; see
https://github.com/memcached/memcached/blob/master/doc/protocol.txt
"""

import re
import socket
from collections.abc import Collection
from io import BufferedRWPair
from urllib.parse import unquote_to_bytes

from gearman_py.c_queue.base import (
    Row,
    Rows,
    SourceError,
    Unreadable,
    check_row,
    name_bytes,
    no_keys,
    split_key,
)

TIMEOUT = 30.0  # seconds
VALUE = re.compile(rb"VALUE .+ (?P<flags>\d+) (?P<size>\d+)", re.DOTALL)


def read_memcached(host: str, port: int, prefix: str, functions: Collection[bytes]) -> Rows:
    """Read the jobs, in any order: it is not stored. Raises SourceError."""
    start = prefix.encode()
    try:
        with (
            socket.create_connection((host, port), TIMEOUT) as connection,
            connection.makefile("rwb") as stream,
        ):
            keys = _list_keys(stream)
            ours = [key for key in keys if key.startswith(start)]
            if not ours:
                raise no_keys(start, len(keys))
            for key in ours:
                if row := _read_key(stream, key, start, functions):
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
            raise SourceError(f"memcached does not list its keys: {name_bytes(line.rstrip())}")
    raise SourceError("memcached closed the connection")


def _read_key(
    stream: BufferedRWPair, key: bytes, start: bytes, functions: Collection[bytes]
) -> Row | None:
    """The job under the key; None if it is gone."""
    where = f"key '{name_bytes(key)}'"
    if set(key) & set(b" \r\n"):
        return Unreadable(where, "memcached does not give a key with a space or the end of a line")
    stream.write(b"get %b\r\n" % key)
    stream.flush()
    head = stream.readline().rstrip(b"\r\n")
    if head == b"END":
        return None
    if not head:
        raise SourceError("memcached closed the connection")
    if not (found := VALUE.fullmatch(head)):
        return Unreadable(where, f"memcached answers {name_bytes(head)}")
    workload = stream.read(int(found["size"]))
    stream.readline(), stream.readline()
    parts = split_key(where, key.removeprefix(start), functions)
    if isinstance(parts, Unreadable):
        return parts
    return check_row(where, *parts, int(found["flags"]), 0, workload)
