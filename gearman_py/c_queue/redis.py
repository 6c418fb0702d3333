"""The keys of `gearmand -q redis`: PREFIX-FUNCTION-UNIQUE.

A key is a hash with the workload and the priority; before version 1.1.18 it is the workload.
"""

from collections.abc import Collection
from contextlib import suppress
from typing import Any

from gearman_py.c_queue.base import (
    Row,
    Rows,
    SourceError,
    Unreadable,
    check_row,
    name_bytes,
    no_keys,
    refuse_open,
    split_key,
)
from gearman_py.optional_module import import_optional

COMMANDS = {"del", "hgetall", "hmset", "keys"}  # of the C gearmand


def read_redis(
    host: str,
    port: int,
    password: str,
    prefix: str,
    functions: Collection[bytes],
    refuse_others: bool,
) -> Rows:
    """Read the jobs, in any order: it is not stored. ``host`` may be the path of a socket.

    Raises SourceError.
    """
    redis = import_optional(
        "redis", "reading Redis needs redis-py", "'gearman_py[redis]'", SourceError
    )
    where = {"unix_socket_path": host} if "/" in host else {"host": host, "port": port}
    start = prefix.encode() + b"-"
    try:
        retry = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
        with redis.Redis(**where, password=password or None, retry=retry) as connection:
            if refuse_others:
                with suppress(redis.ResponseError):  # this user may not list the clients
                    _check_clients(connection)
            seen = set()
            for key in connection.scan_iter(match=_escape(start) + b"*", count=1000):
                if key not in seen:  # SCAN may return a key twice
                    seen.add(key)
                    try:
                        yield _read_key(connection, key, start, functions)
                    except redis.ResponseError as error:
                        yield Unreadable(f"key '{name_bytes(key)}'", f"Redis answers {error}")
            if not seen:
                raise no_keys(start, connection.dbsize())
    except redis.RedisError as error:
        raise SourceError(str(error)) from error


def _read_key(connection: Any, key: bytes, start: bytes, functions: Collection[bytes]) -> Row:
    where = f"key '{name_bytes(key)}'"
    kind = connection.type(key)
    if kind == b"string":
        workload, priority = connection.get(key), b"1"
    elif kind == b"hash":
        workload, priority = connection.hmget(key, "data", "priority")
    else:
        return Unreadable(where, f"it is a {kind.decode()}, not a hash or string")
    parts = split_key(where, key.removeprefix(start), functions)
    if isinstance(parts, Unreadable):
        return parts
    number = int(priority) if priority and priority.isdigit() else priority
    return check_row(where, *parts, number, 0, workload)


def _check_clients(connection: Any) -> None:
    """Raise SourceError for a client that looks like a C gearmand: by its last command."""
    for client in connection.client_list():
        if client.get("cmd") in COMMANDS and not client.get("name") and client.get("db") == "0":
            raise refuse_open(
                f"a client from {client.get('addr')} has used {client['cmd'].upper()}"
            )


def _escape(text: bytes) -> bytes:
    return b"".join(b"\\" + bytes([each]) if each in b"*?[]\\" else bytes([each]) for each in text)
