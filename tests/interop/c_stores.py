"""Where a C gearmand can keep its queue: a file, or a database as a process of its own."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.job_servers import running_process
from tests.ports import reserve_port
from tests.server.databases import Postgres, Redis, kill
from tests.waiting import await_result, await_true


class CStore(NamedTuple):
    """``options`` are the C gearmand's; ``source`` is what our --import is told.

    ``ordered``: it keeps the order, priorities other than normal, and times. ``tells_clients``:
    whether a C gearmand uses it can be known.
    """

    options: list[str]
    source: str
    ordered: bool = True
    tells_clients: bool = True


@contextmanager
def sqlite(folder: Path) -> Iterator[CStore]:
    file = str(folder / "c queue.db")
    yield CStore(["-q", "libsqlite3", "--libsqlite3-db", file], f"libsqlite3:{file}")


@contextmanager
def postgres(_folder: Path) -> Iterator[CStore]:
    with TemporaryDirectory(dir="/var/tmp") as outside:  # its user cannot reach ``folder``
        Path(outside).chmod(0o755)
        database = Postgres(Path(outside))
        database.start()
        try:
            options = ["-q", "Postgres", "--libpq-conninfo", database.where]
            yield CStore(options, f"libpq:{database.where}")
        finally:
            kill(database)


@contextmanager
def mysql(folder: Path) -> Iterator[CStore]:
    port = reserve_port()
    common = ["--no-defaults", "--user=root", f"--datadir={folder / 'data'}"]
    words = ["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]
    subprocess.run(["mariadb-install-db", *common, *words], check=True, capture_output=True)
    where = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder / 'socket'}"]
    logs = [f"--pid-file={folder / 'pid'}", f"--log-error={folder / 'log'}"]
    client = ["mariadb", "--no-defaults", "-h", "127.0.0.1", "-P", str(port), "-u", "root", "-e"]

    def run(statement: str) -> bool:
        return not subprocess.run([*client, statement], capture_output=True).returncode

    with running_process(["/usr/sbin/mariadbd", *common, *where, *logs]):
        await_true(lambda: run("CREATE DATABASE gearman"))
        own = ["--mysql-host", "127.0.0.1", "--mysql-port", str(port), "--mysql-user", "root"]
        yield CStore(
            ["-q", "MySQL", *own, "--mysql-db", "gearman"],
            f"mysql:host=127.0.0.1 port={port} user=root db=gearman",
        )


@contextmanager
def redis(folder: Path) -> Iterator[CStore]:
    database = Redis(folder)
    database.start()
    try:
        options = ["-q", "redis", "--redis-server", "127.0.0.1", "--redis-port", str(database.port)]
        yield CStore(options, f"redis:port={database.port}", ordered=False)
    finally:
        kill(database)


@contextmanager
def memcached(_folder: Path) -> Iterator[CStore]:
    port = reserve_port()
    where = ["-l", "127.0.0.1", "-p", str(port)]
    with running_process(["memcached", "-u", "nobody", *where]):
        await_result(lambda: socket.create_connection(("127.0.0.1", port)), OSError).close()
        options = ["-q", "libmemcached", "--libmemcached-servers", f"127.0.0.1:{port}"]
        yield CStore(options, f"libmemcached:port={port}", False, False)


STORES = (sqlite, postgres, mysql, redis, memcached)
