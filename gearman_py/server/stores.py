"""Opens the store that the settings name."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gearman_py.config import read_password
from gearman_py.optional_module import late_imports
from gearman_py.server.settings import Settings
from gearman_py.store.base import Store, StoreError
from gearman_py.store.database import Database
from gearman_py.store.database_check import DatabaseFact, check_database


@late_imports(StoreError)
def take_store(settings: Settings, values: dict[str, Any], descriptors: Sequence[int]) -> Store:
    """The store that another process has passed on. Raises StoreError."""
    if name_database := DATABASES.get(settings.queue):
        # systemd shows the credentials of a unit to the process that it starts, and to no reload.
        return _share(name_database(settings, values.get("password", "")), settings, values)
    if settings.queue == "sqlite":
        from gearman_py.store.sqlite import SQLiteStore

        (reservation,) = descriptors
        return SQLiteStore(Path(settings.queue_file), reservation)
    raise StoreError(f"a queue in {settings.queue} cannot be passed on")


@late_imports(StoreError)
def open_store(settings: Settings) -> Store | None:
    """The store for background jobs, or None. Raises StoreError.

    A backend is imported when it is used: a server without one starts faster.
    """
    if name_database := DATABASES.get(settings.queue):
        return _share(name_database(settings, ""), settings)
    if settings.queue == "sqlite":
        from gearman_py.store.sqlite import SQLiteStore

        return SQLiteStore(Path(settings.queue_file))
    return None


@late_imports(StoreError)
def check_files(settings: Settings) -> None:
    """Read what a database needs on this host: its driver, password and CAs. Raises StoreError."""
    if name_database := DATABASES.get(settings.queue):
        name_database(settings, "")


@late_imports(StoreError)
def check_queue(settings: Settings) -> Iterator[DatabaseFact]:
    """Whether the queue's database can be used; see check_database(). Raises StoreError."""
    database = DATABASES[settings.queue](settings, "")
    return check_database(database, accept_loss=settings.accept_loss)


def _name_postgres(settings: Settings, known_password: str) -> Database:
    from gearman_py.store.postgres import Postgres

    password = _read_password(settings.postgres_passfile, known_password)
    return Postgres(settings.postgres, settings.postgres_table, password)


def _name_redis(settings: Settings, known_password: str) -> Database:
    from gearman_py.store.redis import Redis

    return Redis(
        settings.redis_server,
        settings.redis_port,
        settings.redis_prefix,
        user=settings.redis_user,
        password=_read_password(settings.redis_passfile, known_password),
        tls=settings.redis_tls,
        ca=settings.redis_ca,
    )


DATABASES: dict[str, Callable[[Settings, str], Database]] = {
    "postgres": _name_postgres,
    "redis": _name_redis,
}
"""Where each kind of queue that servers share is, with the password that is known already."""


def _read_password(path: str, known: str) -> str:
    """``known``: what the process before this one read, for a file that cannot be read now."""
    try:
        return read_password(path)
    except ValueError as error:
        if known:
            return known
        raise StoreError(str(error)) from error


def _share(database: Database, settings: Settings, passed: dict[str, Any] | None = None) -> Store:
    from gearman_py.store.passable import PassableStore

    loss = settings.accept_loss
    return PassableStore(database, settings.handle_prefix, accept_loss=loss, passed=passed)
