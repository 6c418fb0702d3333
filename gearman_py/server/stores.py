"""Opens the store that the settings name."""

from pathlib import Path

from gearman_py.server.settings import Settings
from gearman_py.store.base import Store, StoreError
from gearman_py.store.database import Database


def open_store(settings: Settings) -> Store | None:
    """The store for background jobs, or None. Raises StoreError.

    A backend is imported when it is used: a server without one starts faster.
    """
    match settings.queue:
        case "sqlite":
            from gearman_py.store.sqlite import SQLiteStore

            return SQLiteStore(Path(settings.queue_file))
        case "postgres":
            from gearman_py.store.postgres import Postgres

            return _share(Postgres(settings.postgres, settings.postgres_table), settings)
        case "redis":
            from gearman_py.store.redis import Redis

            where = settings.redis_server, settings.redis_port
            password = _read_password(settings.redis_passfile)
            return _share(Redis(*where, password, settings.redis_prefix), settings)
    return None


def _share(database: Database, settings: Settings) -> Store:
    from gearman_py.store.shared import SharedStore

    return SharedStore(database, settings.handle_prefix, accept_loss=settings.accept_loss)


def _read_password(path: str) -> str:
    """The content of a file that others cannot read; "" without a file."""
    if not path:
        return ""
    try:
        if Path(path).stat().st_mode & 0o007:
            raise StoreError(f"{path}: all users can read the password: chmod o= {path}")
        return Path(path).read_text().strip()
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
