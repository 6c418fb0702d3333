"""A Redis that several job servers share (see gearman_py.store.shared).

Per shelf a hash of what is known of it, one of its jobs by number, and one of how often jobs were
given out. Each change is one script, which Redis runs as a whole and writes to its append-only
file as a whole; with ``appendfsync always`` it answers when that is on its disk.

redis-py is an extra (``gearman_py[redis]``): it is imported when it is needed.
"""

import importlib
import logging
import struct
from typing import Any

from gearman_py.store.base import Record, StoreError
from gearman_py.store.shared import BRIEF, Lost, Rows, Shelf

log = logging.getLogger("gearmand")

PATIENCE = 4.0  # seconds for an answer
SCHEMA = "1"
# Of a record: priority, due, and the lengths of function, unique and reducer; they follow,
# and then the workload.
_HEAD = struct.Struct("<bqIII")

# In all of them: ARGV[1] what our keys begin with, ARGV[2] the shelf of the run that speaks.
_ENROL = """
local number = redis.call('INCR', ARGV[1] .. 'last')
redis.call('HSET', ARGV[1] .. 'shelf:' .. number,
           'prefix', ARGV[2], 'keeper', number, 'beats', 0, 'ended', 0)
redis.call('SADD', ARGV[1] .. 'shelves', number)
return number
"""
_BEAT = """
local base, mine = ARGV[1], ARGV[2]
if redis.call('HGET', base .. 'shelf:' .. mine, 'keeper') ~= mine then return 0 end
redis.call('HINCRBY', base .. 'shelf:' .. mine, 'beats', 1)
"""
_WRITE = (
    _BEAT
    + """
local at = 3
local function each(width, change)
    local count = tonumber(ARGV[at])
    at = at + 1
    for _ = 1, count do
        change(ARGV[at], ARGV[at + 1], ARGV[at + 2])
        at = at + width
    end
end
local function remove(shelf, number)
    redis.call('HDEL', base .. 'jobs:' .. shelf, number)
    redis.call('HDEL', base .. 'tries:' .. shelf, number)
end
each(1, function(number) remove(mine, number) end)
each(2, function(number, job) redis.call('HSET', base .. 'jobs:' .. mine, number, job) end)
each(3, function(shelf, number, count)
    if redis.call('HEXISTS', base .. 'jobs:' .. shelf, number) == 1 then
        redis.call('HSET', base .. 'tries:' .. shelf, number, count)
    end
end)
each(2, remove)
return 1
"""
)
_TAKE = (
    _BEAT
    + """
local number, beats = ARGV[3], ARGV[4]
local there = redis.call('HMGET', base .. 'shelf:' .. number, 'keeper', 'beats')
if there[1] ~= number or there[2] ~= beats then return 0 end
for _, shelf in ipairs(redis.call('SMEMBERS', base .. 'shelves')) do
    local key = base .. 'shelf:' .. shelf
    if redis.call('HGET', key, 'keeper') == number then redis.call('HSET', key, 'keeper', mine) end
end
return 1
"""
)
_CLEAR = """
local base, shelf = ARGV[1], ARGV[2]
if redis.call('EXISTS', base .. 'jobs:' .. shelf) == 1 then return 0 end
redis.call('DEL', base .. 'shelf:' .. shelf, base .. 'tries:' .. shelf)
redis.call('SREM', base .. 'shelves', shelf)
return 1
"""


class Redis:
    """The Redis at ``host`` (a path: its Unix socket) and ``port``; keys begin with ``prefix``.

    Raises StoreError when redis-py is not there.
    """

    def __init__(self, host: str, port: int, password: str, prefix: str) -> None:
        try:
            self._redis: Any = importlib.import_module("redis")
        except ImportError as error:
            raise StoreError(
                f"-q redis needs redis-py ({error}): pip install 'gearman_py[redis]'"
            ) from None
        where = {"unix_socket_path": host} if "/" in host else {"host": host, "port": port}
        self._options = where | {
            "password": password or None,
            "socket_timeout": PATIENCE,
            "socket_connect_timeout": PATIENCE,
            "socket_keepalive": True,
            # What was perhaps done is not to be done again without our knowing.
            "retry": importlib.import_module("redis.retry").Retry(
                importlib.import_module("redis.backoff").NoBackoff(), 0
            ),
        }
        self._base = f"{prefix}{SCHEMA}:"
        self._connection: Any = None
        self._unread: list[int] = []  # numbers of the jobs on the shelf that is being read

    def connect(self) -> None:
        """See Database.connect; raises StoreError for a Redis that would forget."""
        self._connection = self._redis.Redis(**self._options)
        known = self._call("config_get", "append*")
        for name, wanted in (("appendonly", "yes"), ("appendfsync", "always")):
            if (there := known.get(name)) != wanted:
                raise StoreError(
                    f"this Redis has {name} {there or '(unknown)'} and would forget jobs: put "
                    "appendonly yes and appendfsync always into its redis.conf"
                )

    def disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def enrol(self, prefix: bytes) -> int:
        number: int = self._run(_ENROL, prefix)
        return number

    def write(self, mine: int, rows: Rows) -> bool:
        words: list[Any] = [mine, len(rows.doubtful), *rows.doubtful, len(rows.added)]
        for record in rows.added:
            words += (record.number, _packed(record))
        words.append(len(rows.delivered))
        for place, count in rows.delivered:
            words += (*place, count)
        words.append(len(rows.removed))
        for place in rows.removed:
            words += place
        return bool(self._run(_WRITE, *words))

    def shelves(self) -> list[Shelf]:
        found = []
        for number in sorted(map(int, self._call("smembers", f"{self._base}shelves"))):
            facts = self._call("hgetall", f"{self._base}shelf:{number}")
            if facts:  # else it was cleared just now
                counts = (int(facts[name]) for name in (b"keeper", b"beats", b"ended"))
                keeper, beats, ended = counts
                found.append(Shelf(number, facts[b"prefix"], keeper, beats, bool(ended)))
        return found

    def take(self, mine: int, other: Shelf) -> None:
        self._run(_TAKE, mine, other.number, other.beats)

    def read(self, shelf: int, after: int | None, limit: int) -> list[Record]:
        if after is None:
            numbers = self._call("hkeys", f"{self._base}jobs:{shelf}")
            self._unread = sorted(map(int, numbers), reverse=True)
        numbers = [self._unread.pop() for _ in range(min(limit, len(self._unread)))]
        if not numbers:
            return []
        jobs = self._call("hmget", f"{self._base}jobs:{shelf}", numbers)
        tries = self._call("hmget", f"{self._base}tries:{shelf}", numbers)
        rows = zip(numbers, jobs, tries, strict=True)
        return [_unpacked(number, job, int(count or 0)) for number, job, count in rows]

    def clear(self, shelf: int) -> None:
        self._run(_CLEAR, shelf)

    def leave(self, mine: int) -> None:
        self._call("hset", f"{self._base}shelf:{mine}", "ended", 1)

    def _run(self, script: str, *words: Any) -> Any:
        return self._call("eval", script, 0, self._base, *words)

    def _call(self, name: str, *words: Any) -> Any:
        try:
            return getattr(self._connection, name)(*words)
        except (self._redis.ConnectionError, self._redis.TimeoutError) as error:
            raise Lost(f"Redis: {error}", BRIEF) from error
        except self._redis.RedisError as error:
            raise StoreError(f"Redis: {error}", "the queue's database refused") from error


def _packed(record: Record) -> bytes:
    names = record.function, record.unique, record.reducer
    head = _HEAD.pack(record.priority, record.due, *map(len, names))
    return b"".join((head, *names, record.workload))


def _unpacked(number: int, job: bytes, deliveries: int) -> Record:
    priority, due, *lengths = _HEAD.unpack_from(job)
    at = _HEAD.size
    names = []
    for length in lengths:
        names.append(job[at : at + length])
        at += length
    function, unique, reducer = names
    return Record(number, function, unique, priority, due, reducer, job[at:], deliveries)
