"""A Redis that several job servers share (see gearman_py.store.shared).

A shelf has three hashes: its state, its jobs by number, and how often jobs were assigned. Each
change is one script, which Redis runs and writes to its append-only file as a whole; with
``appendfsync always`` it answers when that is on disk.

redis-py is an extra (``gearman_py[redis]``) and imported when it is needed.
"""

import importlib
import logging
import ssl
import struct
from collections.abc import Sequence
from typing import Any

from gearman_py.config import format_size
from gearman_py.optional_module import import_optional
from gearman_py.store import redis_scripts
from gearman_py.store.base import Record, StoreError
from gearman_py.store.database import BRIEF, NO_KEEPER, READ_BYTES, Beat, Lost, Rows, Shelf
from gearman_py.store.weakness import Weakness

log = logging.getLogger("gearmand")

PATIENCE = 4.0  # seconds for an answer
SCHEMA = "1"
# The header of a record: priority, due, and the lengths of function, unique and reducer, which
# follow it; then comes the workload.
_HEAD = struct.Struct("<bqIII")

WRONG_TYPE = b"WRONGTYPE"  # what the script LIST has instead of the facts of a shelf

# Settings without which it may lose jobs.
_KEEPS = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}


class Redis:
    """The Redis at ``host`` (or a Unix socket's path) and ``port``; keys begin with ``prefix``.

    ``ca``: with ``tls``, a file of the CAs that its certificate may have; "" for the system's.
    Raises StoreError if redis-py is not installed, or ``ca`` cannot be read.
    """

    def __init__(
        self,
        host: str,
        port: int,
        prefix: str,
        *,
        user: str = "",
        password: str = "",
        tls: bool = False,
        ca: str = "",
    ) -> None:
        self._redis: Any = import_optional(
            "redis", "-q redis needs redis-py", "'gearman_py[redis]'", StoreError
        )
        self.password = password
        where = {"unix_socket_path": host} if "/" in host else {"host": host, "port": port}
        self._options = where | {
            "username": user or None,
            "password": password or None,
            "socket_timeout": PATIENCE,
            "socket_connect_timeout": PATIENCE,
            "socket_keepalive": True,
            # redis-py must not repeat what was perhaps done.
            "retry": importlib.import_module("redis.retry").Retry(
                importlib.import_module("redis.backoff").NoBackoff(), 0
            ),
        }
        if tls:
            _check_authorities(ca)
            self._options |= {"ssl": True, "ssl_ca_certs": ca or None}
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
                f"this Redis has {name} {known.get(name, '(unknown)')} and may lose jobs: put "
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
        return found + self._find_default_user_weakness()

    def _find_default_user_weakness(self) -> list[Weakness]:
        """Redis reads its file as the default user, and drops scripts that this one may not run."""
        if not self._options["username"]:
            return []
        try:
            rules = self._call_redis("acl_getuser", "default")
        except Lost:
            raise
        except StoreError as error:
            text = f"this Redis does not tell what its default user may do (ACL GETUSER: {error})"
            return [Weakness(text, bearable=True)]
        commands = [*rules["categories"], *rules["commands"]]
        limited = "+@all" not in commands or any(each.startswith("-") for each in commands)
        if not limited and {"*", "~*", f"~{self._base}*"}.intersection(rules["keys"]):
            return []
        text = (
            "this Redis would forget jobs when it starts again, as its default user may not do "
            "all that gearmand does: put `user default off +@all ~* &*` into its redis.conf or "
            "ACL file (it need not be able to log in)"
        )
        return [Weakness(text, bearable=True)]

    def describe_login(self) -> str:
        found = self._call_redis("info", "server")
        where = self._options.get("unix_socket_path")
        where = where or f"{self._options['host']}:{self._options['port']}"
        user = self._options["username"] or "default"
        tls = "TLS" if self._options.get("ssl") else "without TLS"
        return f"Redis {found['redis_version']} at {where}, user {user}, {tls}"

    def describe_durability(self) -> str:
        return ", ".join(f"{name} {wanted}" for name, wanted in _KEEPS.items())

    def describe_room(self) -> tuple[str, bool]:
        found = self._call_redis("info", "memory")
        used, most = int(found["used_memory"]), int(found["maxmemory"])
        limit = f"of {format_size(most)}" if most else "without a limit (maxmemory)"
        text = f"memory: {format_size(used)} {limit}, {found['maxmemory_policy']}"
        return text, bool(most) and used > 0.9 * most

    def disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def enrol_run(self, prefix: bytes) -> int:
        number: int = self._run_script(redis_scripts.ENROL, prefix)
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
        words.append(len(rows.rewritten))
        for place, record in rows.rewritten:
            words += (*place, _pack_record(record), record.deliveries)
        needs_room = rows.added or rows.rewritten
        script = redis_scripts.WRITE if needs_room else redis_scripts.ROOM + redis_scripts.WRITE
        return bool(self._run_script(script, *words))

    def list_shelves(self, numbers: Sequence[int] | None = None) -> list[Shelf]:
        if numbers is not None and not numbers:  # the script would list all
            return []
        found = []
        for member, *facts in self._run_script(redis_scripts.LIST, *(numbers or ())):
            number = int(member)
            known = dict(zip(facts[::2], facts[1::2], strict=False))
            try:
                counts = (int(known[name]) for name in (b"keeper", b"beats", b"ended"))
                keeper, beats, ended = counts
                found.append(Shelf(number, known[b"prefix"], keeper, beats, bool(ended)))
            except (KeyError, ValueError):
                if facts != [WRONG_TYPE] and not self._has_jobs(number):
                    self.clear_shelf(number)
                elif number not in self._bad_shelves:
                    self._bad_shelves.add(number)
                    log.error(
                        "%sshelf:%d is damaged: the jobs in %sjobs:%d will not run; to have them "
                        "taken over, delete it (DEL %sshelf:%d)",
                        *(self._base, number, self._base, number, self._base, number),
                    )
        return sorted(found)

    def _has_jobs(self, shelf: int) -> bool:
        return bool(self._call_redis("exists", f"{self._base}jobs:{shelf}"))

    def take_shelves(self, beat: Beat, other: Shelf) -> bool:
        return bool(
            self._run_script(redis_scripts.TAKE, *beat, other.number, other.keeper, other.beats)
        )

    def read_records(self, shelf: int, after: int | None, limit: int) -> list[Record]:
        if after is None:
            fields = self._call_redis("hkeys", f"{self._base}jobs:{shelf}")
            known = {field: int(field) for field in fields if field.isdigit()}
            if strange := [field for field in fields if field != b"%d" % known.get(field, -1)]:
                where = self.set_aside(shelf, strange)
                log.error("%d jobs have no numbers and will not run: %s", len(strange), where)
            self._unread = sorted(known[field] for field in known.keys() - set(strange))[::-1]
        numbers = self._unread[: -limit - 1 : -1]
        if not numbers:
            return []
        rows = self._run_script(redis_scripts.READ, shelf, READ_BYTES, *numbers)
        del self._unread[-len(rows) :]
        return [_unpack_record(number, *row) for number, row in zip(numbers, rows, strict=False)]

    def set_aside(self, shelf: int, numbers: Sequence[int | bytes]) -> str:
        self._run_script(redis_scripts.SET_ASIDE, shelf, *numbers)
        return f"HGETALL {self._base}jobs:-{shelf}"

    def clear_shelf(self, shelf: int) -> None:
        self._run_script(redis_scripts.CLEAR, shelf)

    def find_missing_entries(self) -> list[int]:
        return [int(number) for number in self._run_script(redis_scripts.MISSING)]

    def restore_entry(self, shelf: int, prefix: bytes) -> None:
        self._run_script(redis_scripts.RESTORE, shelf, prefix, NO_KEEPER)

    def leave_shelf(self, mine: int) -> None:
        self._run_script(redis_scripts.LEAVE, mine)

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
                raise StoreError(f"Redis: {self._name_wrong_key()}", brief) from error
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


def _check_authorities(path: str) -> None:
    """Raises StoreError: redis-py would say it at each attempt to connect, without the path."""
    try:
        ssl.create_default_context(cafile=path or None)
    except OSError as error:  # ssl.SSLError is one
        raise StoreError(f"--redis-ca {path}: {error.strerror or error}") from error


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
