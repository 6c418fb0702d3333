"""GearmanAdminClient: administers one server, with the API of python-gearman."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import finalize

from gearman_py.admin.answers import WorkerInfo, parse_rows
from gearman_py.admin.client import AdminClient
from gearman_py.client.sync import Client
from gearman_py.compat.connection_manager import GearmanConnectionManager, Host, Name, as_text
from gearman_py.compat.errors import (
    GearmanError,
    InvalidAdminClientState,
    ProtocolError,
    ServerUnavailable,
    unavailable,
)
from gearman_py.errors import AdminError, ConnectionLost, JobTimeout

DEFAULT_ADMIN_CLIENT_TIMEOUT = 10.0

Row = dict[str, Any]


class GearmanAdminClient(GearmanConnectionManager):
    """Administers one server. All methods raise ServerUnavailable, InvalidAdminClientState after
    ``poll_timeout`` seconds, or ProtocolError if the server refuses."""

    def __init__(
        self,
        host_list: Iterable[Host] | None = None,
        poll_timeout: float = DEFAULT_ADMIN_CLIENT_TIMEOUT,
    ) -> None:
        super().__init__(host_list)
        if len(self.connection_list) > 1:
            raise GearmanError(
                f"Only pass a single host to the constructor of {type(self).__name__}"
            )
        self.poll_timeout = poll_timeout
        self._admin: AdminClient | None = None

    def get_status(self) -> tuple[Row, ...]:
        """All functions, with their jobs (``queued`` includes running ones) and workers."""
        with self._admin_client() as admin:
            return tuple(
                {
                    "task": one.name,
                    "queued": one.total,
                    "running": one.running,
                    "workers": one.workers,
                }
                for one in admin.status()
            )

    def get_workers(self) -> tuple[Row, ...]:
        """Every connection of the server; a name with a space comes as two, as in pygearman."""
        with self._admin_client() as admin:
            lines = admin.listing("workers")
            return tuple(
                {
                    "file_descriptor": str(one.fd),
                    "ip": one.address,
                    "client_id": one.client_id,
                    "tasks": one.functions,
                }
                for one in parse_rows(admin.server, "workers", lines, WorkerInfo.from_line)
            )

    def get_jobs(self) -> tuple[Row, ...]:
        """All jobs of the server; columns have the names of pygearman."""
        with self._admin_client() as admin:
            return tuple(
                {
                    "handle": one.handle,
                    "queued": one.retries,
                    "canceled": int(one.ignored),
                    "enabled": int(one.background),
                }
                for one in admin.jobs()
            )

    def get_unique_jobs(self) -> tuple[Row, ...]:
        """The uniques of all jobs, each in a list, as in pygearman."""
        with self._admin_client() as admin:
            return tuple({"unique": [unique]} for unique in admin.unique_jobs())

    def get_version(self) -> str:
        """The version of the server, after "OK "."""
        with self._admin_client() as admin:
            return f"OK {admin.version()}"

    def get_pid(self) -> str:
        """The process id of the server, after "OK "."""
        with self._admin_client() as admin:
            return f"OK {admin.pid()}"

    def send_maxqueue(self, task: Name, max_size: int) -> str:
        """Limit the queue of a function to ``max_size`` jobs; returns "OK"."""
        with self._admin_client() as admin:
            admin.value(f"maxqueue {as_text(task)} {max_size}")
        return "OK"

    def send_shutdown(self, graceful: bool = True) -> None:
        """Stop the server, after its jobs if ``graceful``."""
        with self._admin_client() as admin:
            admin.shutdown(graceful=graceful)

    def cancel_job(self, handle: Name) -> str:
        """Remove a waiting job from its queue; returns "OK"."""
        with self._admin_client() as admin:
            admin.cancel(as_text(handle))
        return "OK"

    def ping_server(self) -> float:
        """The round-trip time in seconds."""
        with (
            self._admin_client(),
            Client(str(self._server), submit_timeout=self.poll_timeout) as client,
        ):
            return client.ping()

    def shutdown(self) -> None:
        """Close the connection."""
        if self._admin is not None:
            self._admin.close()
            self._admin = None

    @property
    def _server(self) -> Any:
        if not self.connection_list:
            raise ServerUnavailable([("no server", "none was given")])
        return self.connection_list[0]

    @contextmanager
    def _admin_client(self) -> Iterator[AdminClient]:
        if self._admin is None:
            self._admin = AdminClient(str(self._server), timeout=self.poll_timeout)
            finalize(self, self._admin.close)
        try:
            yield self._admin
        except ConnectionLost as error:
            raise unavailable(error) from error
        except JobTimeout as error:
            raise InvalidAdminClientState(str(error)) from error
        except AdminError as error:
            raise ProtocolError(str(error)) from error
