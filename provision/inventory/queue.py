"""Where a job server keeps background jobs, as the inventory says it and gearmand's options do."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from gearman_py.config import PASSWORD
from provision.errors import InventoryError
from provision.inventory.host import Host, Inventory
from provision.inventory.secrets import Secret

QUEUE = "gearman_queue"
DURABLE = "gearman_durable"  # what says it in older inventories
DATABASE = "gearman_database"
DATABASE_PASSWORD = "gearman_database_password"  # noqa: S105  # the name of a variable
DATABASE_CA = "gearman_database_ca"
OF_DATABASES = (DATABASE, DATABASE_PASSWORD, DATABASE_CA)
FILE = "/var/lib/gearmand/queue.db"
DRIVERS = {"postgres": "psycopg", "redis": "redis"}
"""A kind of queue in a database -> the package that speaks with it, also gearman_py's extra."""
POSTGRES_FORMS = "postgresql://USER@HOST/NAME, or `host=... dbname=...`"
REDIS_URLS = "redis://[USER@]HOST[:PORT], rediss:// for TLS, or unix:///PATH"


@dataclass(frozen=True)
class Queue:
    """``kind``: memory, sqlite, postgres or redis. ``options``: those of gearmand for it.

    ``password`` and ``ca`` are files that it reads besides: the options do not name them.
    """

    kind: str
    options: tuple[str, ...] = ()
    password: Secret | None = None
    ca: Path | None = None


def queue_of(host: Host, ca_file: str) -> Queue:
    """The queue of a job server, on which the database's CA is in ``ca_file``.

    Raises :class:`InventoryError`.
    """
    kind = queue_kind(host)
    if kind not in DRIVERS:
        _refuse_database(host, kind)
        return Queue(kind, ("-q", "sqlite", "--queue-file", FILE) if kind == "sqlite" else ())
    if not host.is_set(DATABASE):
        raise InventoryError(
            f"{host.where_is(QUEUE)}: {QUEUE}: {kind} needs {DATABASE}, which says where it is"
        )
    ca = _path_of_ca(host)
    where = host.variables[DATABASE]
    if PASSWORD.search(where):
        raise _wrong_database(
            host, f"a password must not stand in it: give it as {DATABASE_PASSWORD}"
        )
    options = _postgres_options if kind == "postgres" else _redis_options
    found = tuple(options(host, where, ca_file if ca else ""))
    return Queue(kind, ("-q", kind, *found), host.variables.get(DATABASE_PASSWORD), ca)


def release_extras(inventory: Inventory) -> tuple[str, ...]:
    """The extras of gearman_py that the fleet's queues need: one release is for all its hosts."""
    kinds = {queue_kind(host) for host in inventory.group("job_server")}
    return tuple(sorted(kinds & DRIVERS.keys()))


def queue_kind(host: Host) -> str:
    """memory, sqlite, postgres or redis."""
    if not host.is_set(QUEUE) and not host.variables[DURABLE]:
        return "memory"
    return str(host.variables[QUEUE])


def _refuse_database(host: Host, kind: str) -> None:
    for name in OF_DATABASES:
        if host.is_set(name):
            raise InventoryError(
                f"{host.where_is(name)}: {name} is for {QUEUE}: postgres or redis, and that of "
                f"{host.name} is {kind}"
            )


def _path_of_ca(host: Host) -> Path | None:
    if not host.is_set(DATABASE_CA):
        return None
    path = host.folder / Path(host.variables[DATABASE_CA]).expanduser()
    if not path.is_file():
        raise InventoryError(f"{host.where_is(DATABASE_CA)}: {DATABASE_CA}: no file {path}")
    return path


def _postgres_options(host: Host, where: str, ca: str) -> Iterable[str]:
    if ca and "sslrootcert" in where:
        raise _wrong_database(host, f"it names sslrootcert, and so does {DATABASE_CA}: leave one")
    wanted = {"sslmode": "verify-full", "sslrootcert": ca} if ca else {}
    added = [f"{name}={value}" for name, value in wanted.items() if name not in where]
    if "://" not in where:
        return "--postgres", " ".join([where, *added])
    if urlsplit(where).scheme not in ("postgres", "postgresql"):
        raise _wrong_database(host, f"expected {POSTGRES_FORMS}")
    joint = "&" if "?" in where else "?"
    return "--postgres", where + joint * bool(added) + "&".join(added)


def _redis_options(host: Host, where: str, ca: str) -> Iterator[str]:
    url = urlsplit(where)
    if url.scheme == "unix" and url.path and not url.netloc:
        yield from ("--redis-server", unquote(url.path))
    elif url.scheme in ("redis", "rediss") and url.hostname and url.path in ("", "/"):
        yield from ("--redis-server", url.hostname)
        if port := _port_of(host, url):
            yield from ("--redis-port", str(port))
    else:
        raise _wrong_database(host, f"expected {REDIS_URLS}")
    if url.query or url.fragment:
        raise _wrong_database(host, f"nothing may follow its path; expected {REDIS_URLS}")
    if url.username:
        yield from ("--redis-user", unquote(url.username))
    if url.scheme == "rediss":
        yield "--redis-tls"
        if ca:
            yield from ("--redis-ca", ca)
    elif ca:
        raise _wrong_database(host, f"it is without TLS, and {DATABASE_CA} is for TLS: rediss://")


def _port_of(host: Host, url: SplitResult) -> int | None:
    try:
        return url.port
    except ValueError as error:
        raise _wrong_database(host, str(error)) from None


def _wrong_database(host: Host, why: str) -> InventoryError:
    # Not the value: a password may be in it.
    return InventoryError(f"{host.where_is(DATABASE)}: {DATABASE}: {why}")
