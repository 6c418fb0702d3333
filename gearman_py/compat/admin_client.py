"""GearmanAdminClient: asks one server about itself, by python-gearman's names."""

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
    """Asks one server. Every question raises ServerUnavailable, InvalidAdminClientState after
    ``poll_timeout`` seconds, or ProtocolError when the server refuses it."""

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
        """Every function, with its jobs (``queued`` counts those that run too) and workers."""
        with self._asking() as admin:
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
        with self._asking() as admin:
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
        """Every job that the server holds; the values by pygearman's names for the columns."""
        with self._asking() as admin:
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
        """The unique of every job that the server holds, each in a list, as pygearman has it."""
        with self._asking() as admin:
            return tuple({"unique": [unique]} for unique in admin.unique_jobs())

    def get_version(self) -> str:
        """The server's version, after "OK "."""
        with self._asking() as admin:
            return f"OK {admin.version()}"

    def get_pid(self) -> str:
        """The server's process id, after "OK "."""
        with self._asking() as admin:
            return f"OK {admin.pid()}"

    def send_maxqueue(self, task: Name, max_size: int) -> str:
        """Let no more than ``max_size`` jobs of a function wait; answers "OK"."""
        with self._asking() as admin:
            admin.value(f"maxqueue {as_text(task)} {max_size}")
        return "OK"

    def send_shutdown(self, graceful: bool = True) -> None:
        """Stop the server, after its jobs if ``graceful``."""
        with self._asking() as admin:
            admin.shutdown(graceful=graceful)

    def cancel_job(self, handle: Name) -> str:
        """Take a waiting job from its queue; answers "OK"."""
        with self._asking() as admin:
            admin.cancel(as_text(handle))
        return "OK"

    def ping_server(self) -> float:
        """The seconds that a few bytes take to the server and back."""
        with self._asking(), Client(str(self._server), submit_timeout=self.poll_timeout) as client:
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
    def _asking(self) -> Iterator[AdminClient]:
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
