"""Opens the store that the settings name."""

from collections.abc import Iterator, Sequence
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
    match settings.queue:
        case "sqlite":
            from gearman_py.store.sqlite import SQLiteStore

            (reservation,) = descriptors
            return SQLiteStore(Path(settings.queue_file), reservation)
        case "postgres" | "redis":
            # systemd shows the credentials of a unit to the process that it starts, and to no
            # reload.
            known: str = values.get("password", "")
            return _share(_name_database(settings, known), settings, values)
    raise StoreError(f"a queue in {settings.queue} cannot be passed on")


@late_imports(StoreError)
def open_store(settings: Settings) -> Store | None:
    """The store for background jobs, or None. Raises StoreError.

    A backend is imported when it is used: a server without one starts faster.
    """
    match settings.queue:
        case "sqlite":
            from gearman_py.store.sqlite import SQLiteStore

            return SQLiteStore(Path(settings.queue_file))
        case "postgres" | "redis":
            return _share(_name_database(settings), settings)
    return None


@late_imports(StoreError)
def check_files(settings: Settings) -> None:
    """Read what a database needs on this host: its driver, password and CAs. Raises StoreError."""
    if settings.queue in ("postgres", "redis"):
        _name_database(settings)


@late_imports(StoreError)
def check_queue(settings: Settings) -> Iterator[DatabaseFact]:
    """Whether the queue's database can be used; see check_database(). Raises StoreError."""
    return check_database(_name_database(settings), accept_loss=settings.accept_loss)


def _name_database(settings: Settings, known_password: str = "") -> Database:
    if settings.queue == "postgres":
        from gearman_py.store.postgres import Postgres

        password = _read_password(settings.postgres_passfile, known_password)
        return Postgres(settings.postgres, settings.postgres_table, password)
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
