"""A Redis that several job servers share (see gearman_py.store.shared).

A shelf has three hashes: its state, its jobs by number, and how often jobs were assigned. Each
change is one script, which Redis runs and writes to its append-only file as a whole; with
``appendfsync always`` it answers when that is on disk.

At its memory limit, Redis refuses a script whose first write is a command that may need more
memory, but lets a script that has begun to write go on. So scripts that must always work (beats,
removals, successions) begin by removing nothing (ROOM), and those that add jobs do not.

redis-py is an extra (``gearman_py[redis]``) and imported when it is needed.
"""

import importlib
import logging
import struct
from collections.abc import Sequence
from typing import Any

from gearman_py.store.base import Record, StoreError
from gearman_py.store.database import BRIEF, NO_KEEPER, Beat, Lost, Rows, Shelf, Weakness

log = logging.getLogger("gearmand")

PATIENCE = 4.0  # seconds for an answer
SCHEMA = "1"
# The header of a record: priority, due, and the lengths of function, unique and reducer, which
# follow it; then comes the workload.
_HEAD = struct.Struct("<bqIII")

# Settings without which it may lose jobs.
_KEEPS = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}

# In all scripts ARGV[1] is the prefix of our keys.
_ROOM = """
redis.call('HDEL', ARGV[1] .. 'room', '')
"""
_ENROL = (
    _ROOM
    + """
local base, number = ARGV[1]
repeat  -- 'last' may have been deleted
    number = redis.call('INCR', base .. 'last')
until redis.call('EXISTS', base .. 'shelf:' .. number, base .. 'jobs:' .. number) == 0
for other = math.max(1, number - 10000), number - 1 do  -- 'shelves' may have been deleted
    if redis.call('EXISTS', base .. 'shelf:' .. other, base .. 'jobs:' .. other) > 0 then
        redis.call('SADD', base .. 'shelves', other)
    end
end
redis.call('HSET', ARGV[1] .. 'shelf:' .. number,
           'prefix', ARGV[2], 'keeper', number, 'beats', 0, 'ended', 0)
redis.call('SADD', ARGV[1] .. 'shelves', number)
return number
"""
)
_BEAT = """
local base, mine, before = ARGV[1], ARGV[2], ARGV[3]
local there = redis.call('HMGET', base .. 'shelf:' .. mine, 'keeper', 'beats')
if there[1] ~= mine or there[2] ~= before then return 0 end
redis.call('HSET', base .. 'shelf:' .. mine, 'beats', ARGV[4])
"""
_WRITE = (
    _BEAT
    + """
local at = 5
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
    _ROOM
    + _BEAT
    + """
local number, keeper, beats = ARGV[5], ARGV[6], ARGV[7]
there = redis.call('HMGET', base .. 'shelf:' .. number, 'keeper', 'beats')
if there[1] ~= keeper or there[2] ~= beats then return 1 end
if keeper ~= number and redis.call('EXISTS', base .. 'shelf:' .. keeper) == 1 then return 1 end
redis.call('HSET', base .. 'shelf:' .. number, 'keeper', mine)
for _, shelf in ipairs(redis.call('SMEMBERS', base .. 'shelves')) do
    local key = base .. 'shelf:' .. shelf
    if redis.pcall('HGET', key, 'keeper') == number then redis.call('HSET', key, 'keeper', mine) end
end
return 1
"""
)
_SET_ASIDE = (
    _ROOM
    + """
local jobs = ARGV[1] .. 'jobs:'
for at = 3, #ARGV do
    local job = redis.call('HGET', jobs .. ARGV[2], ARGV[at])
    if job then
        redis.call('HSET', jobs .. '-' .. ARGV[2], ARGV[at], job)
        redis.call('HDEL', jobs .. ARGV[2], ARGV[at])
    end
end
return 1
"""
)
_LEAVE = (
    _ROOM
    + """
redis.call('HSET', ARGV[1] .. 'shelf:' .. ARGV[2], 'ended', 1)
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


_MISSING = """
local found = {}
for _, shelf in ipairs(redis.call('SMEMBERS', ARGV[1] .. 'shelves')) do
    if redis.call('EXISTS', ARGV[1] .. 'shelf:' .. shelf) == 0
        and redis.call('EXISTS', ARGV[1] .. 'jobs:' .. shelf) == 1 then
        table.insert(found, tonumber(shelf))
    end
end
return found
"""
_RESTORE = (
    _ROOM
    + """
local key = ARGV[1] .. 'shelf:' .. ARGV[2]
if redis.call('EXISTS', key) == 1 then return 0 end
redis.call('HSET', key, 'prefix', ARGV[3], 'keeper', ARGV[4], 'beats', 0, 'ended', 0)
return 1
"""
)


class WrongType(StoreError):
    """A key has another type: another program wrote it."""


class Redis:
    """The Redis at ``host`` (or a Unix socket's path) and ``port``; keys begin with ``prefix``.

    Raises StoreError if redis-py is not installed.
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
            # redis-py must not repeat what was perhaps done.
            "retry": importlib.import_module("redis.retry").Retry(
                importlib.import_module("redis.backoff").NoBackoff(), 0
            ),
        }
        self._base = f"{prefix}{SCHEMA}:"
        self._connection: Any = None
        self._unread: list[int] = []  # numbers of the jobs on the shelf being read
        self._bad_shelves: set[int] = set()  # which were logged

    def connect(self) -> None:
        self._connection = self._redis.Redis(**self._options)
        self._call_redis("ping")

    def find_weaknesses(self) -> list[Weakness]:
        """The settings with which it loses jobs; not telling them is one."""
        try:
            known = self._call_redis("config_get", "*append*") | self._call_redis(
                "config_get", "maxmemory*"
            )
        except Lost:
            raise
        except StoreError as error:
            text = f"this Redis does not tell whether it keeps jobs (CONFIG GET: {error})"
            return [Weakness(text, bearable=True)]
        found = [
            Weakness(
                f"this Redis has {name} {known.get(name, '(unknown)')} and would forget jobs: put "
                f"{name} {wanted} into its redis.conf",
                bearable=True,
            )
            for name, wanted in _KEEPS.items()
            if known.get(name) != wanted
        ]
        policy = known.get("maxmemory-policy", "(unknown)")
        if policy.startswith("allkeys"):
            text = (
                f"this Redis has maxmemory-policy {policy} and would evict jobs to make room: "
                "put maxmemory-policy noeviction into its redis.conf"
            )
            found.append(Weakness(text, bearable=False))
        return found

    def disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def enrol_run(self, prefix: bytes) -> int:
        number: int = self._run_script(_ENROL, prefix)
        return number

    def write_rows(self, beat: Beat, rows: Rows) -> bool:
        words: list[Any] = [*beat, len(rows.doubtful), *rows.doubtful, len(rows.added)]
        for record in rows.added:
            words += (record.number, _pack_record(record))
        words.append(len(rows.delivered))
        for place, count in rows.delivered:
            words += (*place, count)
        words.append(len(rows.removed))
        for place in rows.removed:
            words += place
        return bool(self._run_script(_WRITE if rows.added else _ROOM + _WRITE, *words))

    def list_shelves(self) -> list[Shelf]:
        found = []
        members = self._call_redis("smembers", f"{self._base}shelves")
        for number in sorted(int(member) for member in members if member.isdigit()):
            try:
                facts = self._call_redis("hgetall", f"{self._base}shelf:{number}")
                if not facts:  # it was just cleared, or deleted
                    continue
                counts = (int(facts[name]) for name in (b"keeper", b"beats", b"ended"))
                keeper, beats, ended = counts
                found.append(Shelf(number, facts[b"prefix"], keeper, beats, bool(ended)))
            except (KeyError, ValueError, WrongType):
                if number not in self._bad_shelves:
                    self._bad_shelves.add(number)
                    log.error(
                        "%sshelf:%d is damaged: the jobs in %sjobs:%d will not run; to have them "
                        "taken over, delete it (DEL %sshelf:%d)",
                        *(self._base, number, self._base, number, self._base, number),
                    )
        return found

    def take_shelves(self, beat: Beat, other: Shelf) -> bool:
        return bool(self._run_script(_TAKE, *beat, other.number, other.keeper, other.beats))

    def read_records(self, shelf: int, after: int | None, limit: int) -> list[Record]:
        if after is None:
            fields = self._call_redis("hkeys", f"{self._base}jobs:{shelf}")
            known = {field: int(field) for field in fields if field.isdigit()}
            if strange := [field for field in fields if field != b"%d" % known.get(field, -1)]:
                where = self.set_aside(shelf, strange)
                log.error("%d jobs have no numbers and will not run: %s", len(strange), where)
            self._unread = sorted(known[field] for field in known.keys() - set(strange))[::-1]
        numbers = [self._unread.pop() for _ in range(min(limit, len(self._unread)))]
        if not numbers:
            return []
        jobs = self._call_redis("hmget", f"{self._base}jobs:{shelf}", numbers)
        tries = self._call_redis("hmget", f"{self._base}tries:{shelf}", numbers)
        rows = zip(numbers, jobs, tries, strict=True)
        return [_unpack_record(number, job or b"", count or b"0") for number, job, count in rows]

    def set_aside(self, shelf: int, numbers: Sequence[int | bytes]) -> str:
        self._run_script(_SET_ASIDE, shelf, *numbers)
        return f"HGETALL {self._base}jobs:-{shelf}"

    def clear_shelf(self, shelf: int) -> None:
        self._run_script(_CLEAR, shelf)

    def find_missing_entries(self) -> list[int]:
        return [int(number) for number in self._run_script(_MISSING)]

    def restore_entry(self, shelf: int, prefix: bytes) -> None:
        self._run_script(_RESTORE, shelf, prefix, NO_KEEPER)

    def leave_shelf(self, mine: int) -> None:
        self._run_script(_LEAVE, mine)

    def _run_script(self, script: str, *words: Any) -> Any:
        return self._call_redis("eval", script, 0, self._base, *words)

    def _call_redis(self, name: str, *words: Any) -> Any:
        try:
            return getattr(self._connection, name)(*words)
        except (self._redis.ConnectionError, self._redis.TimeoutError) as error:
            raise Lost(f"Redis: {error}", BRIEF) from error
        except self._redis.RedisError as error:
            brief = "the queue's database refused"
            if "WRONGTYPE" in str(error):
                raise WrongType(f"Redis: {self._name_wrong_key()}", brief) from error
            raise StoreError(f"Redis: {error}", brief) from error

    def _name_wrong_key(self) -> str:
        """Which of the keys that all servers use another program has written, and what to do."""
        kinds: dict[str, bytes] = {"last": b"string", "room": b"hash", "shelves": b"set"}
        found: dict[str, bytes] = {name: self._connection.type(self._base + name) for name in kinds}
        if found["shelves"] in (b"set", b"none"):
            for number in self._connection.smembers(f"{self._base}shelves"):
                for part in ("shelf", "jobs", "tries"):
                    name = f"{part}:{number.decode(errors='backslashreplace')}"
                    kinds[name], found[name] = b"hash", self._connection.type(self._base + name)
        for name, kind in kinds.items():
            if found[name] not in (kind, b"none"):
                key = self._base + name
                return (
                    f"the key {key} is a {found[name].decode()}, not a {kind.decode()}: another "
                    f"program wrote it; rename it (RENAME {key} aside:{key}) and start gearmand "
                    "again"
                )
        return "a key has another type than ours (WRONGTYPE)"


def _pack_record(record: Record) -> bytes:
    names = record.function, record.unique, record.reducer
    head = _HEAD.pack(record.priority, record.due, *map(len, names))
    return b"".join((head, *names, record.workload))


def _unpack_record(number: int, job: bytes, tries: bytes) -> Record:
    """The record, which is not sound if the job is damaged."""
    if len(job) < _HEAD.size:
        return Record(number, b"", b"", -1, 0, b"", job, 0)
    priority, due, *lengths = _HEAD.unpack_from(job)
    at = _HEAD.size
    if at + sum(lengths) > len(job):
        priority = -1
    deliveries = int(tries) if tries.isdigit() else 0
    names = []
    for length in lengths:
        names.append(job[at : at + length])
        at += length
    function, unique, reducer = names
    return Record(number, function, unique, priority, due, reducer, job[at:], deliveries)
