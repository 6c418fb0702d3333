"""The worker: functions, the servers that it serves, and its end.

One job at a time, whichever server it comes from. A server that is away is tried for ever.

Drain is: ask for no more jobs, run what a server may already have sent, answer it, leave.
"""

import asyncio
import inspect
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from gearman_py.protocol.packets import Packet
from gearman_py.sdnotify import notify, watchdog_interval
from gearman_py.servers import Servers, parse_servers
from gearman_py.worker.job import Data, Failed, WorkerJob, as_bytes
from gearman_py.worker.link import Link
from gearman_py.worker.thread import JobThread

_log = logging.getLogger("gearman_py.worker")

_EXCEPTION_SIZE = 512  # bytes of an exception's text: a line to read, not a dump
_SIGN_OF_LIFE = 10.0  # seconds between status lines where no watchdog sets the pace

Function = Callable[..., Awaitable[Data | None] | Data | None]
F = TypeVar("F", bound=Function)


class _Registered(NamedTuple):
    function: Function
    workload: bool  # it is given the bytes, not the WorkerJob


class Worker:
    """Serves functions to job servers.

    ``servers`` as in Client. ``client_id`` is what ``workers`` lists it as (left out:
    host:pid). ``drain_timeout``: seconds for the job in hand after SIGTERM; then it is
    given up, and the server gives it to another worker. ``max_jobs``: drain after so many.
    Nothing is connected before run() or serve().
    """

    def __init__(
        self,
        servers: Servers | None = None,
        *,
        client_id: str | None = None,
        drain_timeout: float = 60.0,
        max_jobs: int | None = None,
    ) -> None:
        self._servers = parse_servers(servers)
        self._client_id = client_id or f"{socket.gethostname()}:{os.getpid()}"
        self._drain_timeout = drain_timeout
        self._max_jobs = max_jobs
        self._functions: dict[str, _Registered] = {}
        self._thread = JobThread()
        self._links: list[Link] = []
        self._ready = asyncio.Event()  # a server knows our functions
        self._jobs_done = 0
        self._draining = False
        self._stopped = False

    def function(self, name: str, *, workload: bool = False) -> Callable[[F], F]:
        """Decorate what is to run as ``name``; it stays callable as it was written.

        It takes a WorkerJob (the workload's bytes with ``workload=True``) and returns the
        result: bytes, str or None. Plain functions run in a thread, ``async`` ones in the
        event loop. Raises ValueError for a second function of the same name.
        """

        def register(function: F) -> F:
            self.add_function(name, function, workload=workload)
            return function

        return register

    def add_function(self, name: str, function: Function, *, workload: bool = False) -> None:
        """function() as a plain call."""
        if not name or "\0" in name:
            raise ValueError(f"{name!r} cannot be the name of a function")
        if name in self._functions:
            raise ValueError(f"there is a function {name!r} already")
        self._functions[name] = _Registered(function, workload)

    def run(self) -> int:
        """Work until SIGTERM or SIGINT, then drain. The process is this worker's.

        Returns its exit status: 0 drained, 1 a second signal or the drain's time limit
        ended it with a job in hand. Reports to systemd where that is listening.
        """
        return asyncio.run(self._run())

    async def _run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, signal.Signals(number).name)
        reporting = asyncio.create_task(self._report())
        try:
            await self.serve()
        finally:
            reporting.cancel()
        _log.info("%s after %d jobs", "stopped" if self._stopped else "drained", self._jobs_done)
        return 1 if self._stopped else 0

    async def serve(self) -> None:
        """Work until drained or stopped; signals are the caller's."""
        if not self._functions:
            raise ValueError("a worker needs at least one function")
        slot = asyncio.Lock()
        self._links = [
            Link(
                *(server, self._functions, self._client_id),
                *(slot, self._perform, self._ready),
                alone=len(self._servers) == 1,
            )
            for server in self._servers
        ]
        try:
            async with asyncio.TaskGroup() as tasks:
                for link in self._links:
                    link.start(tasks)
        finally:
            self._thread.close()

    def drain(self) -> None:
        """Finish the job in hand, take no other, leave. Call it in the event loop's thread."""
        if self._draining:
            return
        self._draining = True
        for link in self._links:
            link.drain()
        if any(link.busy for link in self._links):
            asyncio.get_running_loop().call_later(self._drain_timeout, self._drained_too_long)

    def stop(self) -> None:
        """Leave now; a job in hand is left to the server to give to another worker."""
        self._draining = True
        self._stopped = any(link.busy for link in self._links)
        for link in self._links:
            link.stop()

    def _drained_too_long(self) -> None:
        if any(link.busy for link in self._links):
            _log.error("the job in hand did not end within %g s: left", self._drain_timeout)
            self.stop()

    def _signalled(self, name: str) -> None:
        if self._draining:
            _log.warning("%s again: leaving at once", name)
            self.stop()
        else:
            _log.info("%s: draining", name)
            notify("STOPPING=1", "STATUS=draining")
            self.drain()

    async def _report(self) -> None:
        """Tell systemd when the first server knows us, and then that we are alive."""
        pause = watchdog_interval() or _SIGN_OF_LIFE
        await self._ready.wait()
        notify("READY=1", self._status())
        while True:
            await asyncio.sleep(pause)
            notify("WATCHDOG=1", self._status())

    def _status(self) -> str:
        known = sum(link.registered for link in self._links)
        busy = "a job in hand" if any(link.busy for link in self._links) else "waiting for jobs"
        state = "draining" if self._draining else busy
        return (
            f"STATUS={state}; {self._jobs_done} done; "
            f"registered with {known} of {len(self._links)} job servers"
        )

    async def _perform(self, job: WorkerJob) -> tuple[Packet, *tuple[bytes, ...]]:
        """Run the function of a job; return the packet that ends it and its payload."""
        try:
            registered = self._functions[job.function]
            argument = job.workload if registered.workload else job
            if inspect.iscoroutinefunction(registered.function):
                result = await registered.function(argument)
            else:
                result = await self._thread.run(registered.function, argument)
            return Packet.WORK_COMPLETE, as_bytes(result)
        except Failed as failed:
            _log.warning("%s %s failed: %s", job.function, job.handle, failed)
            return (Packet.WORK_FAIL,)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            _log.exception("%s %s failed", job.function, job.handle)
            return Packet.WORK_EXCEPTION, one_line(error)
        finally:
            self._count()

    def _count(self) -> None:
        self._jobs_done += 1
        if self._jobs_done == self._max_jobs:  # before the next is asked for
            self.drain()


def one_line(error: BaseException) -> bytes:
    """An exception as its client reads it: ``Type: text``, without line ends."""
    text = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(":")
    return text.encode(errors="backslashreplace")[:_EXCEPTION_SIZE]
