"""The worker: functions, the servers that it serves, and its end.

Each slot does one job at a time: plain functions have slots that are threads, or processes
of their own; async functions have slots in the event loop. A server that is away is tried
for ever.

Drain is: ask for no more jobs, run what a server may already have sent, answer it, leave.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import TypeVar, Unpack

from gearman_py.event_loop import new_event_loop
from gearman_py.net.servers import Servers, parse_servers
from gearman_py.net.tls import TLS
from gearman_py.printable import EntryFormatter
from gearman_py.protocol.codec import MAX_PACKET
from gearman_py.serializer import Serializer
from gearman_py.worker.fork_server import Died
from gearman_py.worker.function_spec import (
    Around,
    Declared,
    Errors,
    Function,
    FunctionOptions,
    Hook,
    OnOutcome,
    hook,
    manager,
    named,
)
from gearman_py.worker.pool import CannotBegin, Crew, Plan, Settings
from gearman_py.worker.registry import Registry
from gearman_py.worker.reload import Predecessor
from gearman_py.worker.service import Service

_log = logging.getLogger("gearman_py.worker")

F = TypeVar("F", bound=Function)
A = TypeVar("A", bound=Around)
H = TypeVar("H", bound=Hook)
T = TypeVar("T", bound=OnOutcome)


class Worker:
    """Serves functions to job servers.

    ``servers`` as in Client. ``client_id`` is what ``workers`` lists it as (left out:
    host:pid). ``prefix`` goes before each function's name on the wire. With an ``address``
    each function is also served as FUNCTION@ADDRESS, for jobs meant for this very worker.
    ``serializer`` (JSON, or your own) makes values of workloads and results.

    ``concurrency`` jobs run at a time: plain functions in so many threads, async ones in the
    event loop. With ``processes`` plain functions run in so many processes instead; each is
    replaced after ``max_jobs_per_child`` jobs, or when it holds more than
    ``max_memory_per_child`` bytes after a job.

    ``timeout``: seconds that a job may take, where its function has no limit of its own (see
    function()). ``drain_timeout``: seconds for the jobs in hand after SIGTERM; then they are
    given up, and the servers give them to other workers. ``max_jobs``: drain after so many.
    ``max_packet``: the most bytes of a packet, a job's or a result's; the job of a larger one
    fails. A job server has such a limit too (``gearmand --max-packet``, as much by default).
    ``exceptions=False`` tells failures as a warning and WORK_FAIL: the C command ``gearman``
    does not understand exceptions. ``reducers=True`` asks servers for ``job.reducer``.

    Nothing is connected before run(), serve() or work().
    """

    def __init__(
        self,
        servers: Servers | None = None,
        *,
        tls: TLS | None = None,
        client_id: str | None = None,
        prefix: str = "",
        address: str = "",
        serializer: Serializer | None = None,
        concurrency: int = 1,
        processes: int = 0,
        max_jobs_per_child: int | None = None,
        max_memory_per_child: int | None = None,
        timeout: float | None = None,
        drain_timeout: float = 60.0,
        max_jobs: int | None = None,
        max_packet: int = MAX_PACKET,
        exceptions: bool = True,
        reducers: bool = False,
    ) -> None:
        self._registry = Registry(
            prefix=prefix,
            serializer=serializer,
            exceptions=exceptions,
            timeout=timeout,
            address=address,
        )
        self._plan = Plan(
            servers=parse_servers(servers, tls=tls),
            client_id=client_id or "",
            concurrency=concurrency,
            processes=processes,
            drain_timeout=drain_timeout,
            max_jobs=max_jobs,
            max_jobs_per_child=max_jobs_per_child,
            max_memory_per_child=max_memory_per_child,
            max_packet=max_packet,
            reducers=reducers,
        )
        self._crew: Crew | None = None
        self._begun = asyncio.Event()

    def __getstate__(self) -> dict[str, object]:
        """For another process: what the worker was told, and not what it is doing."""
        return {**vars(self), "_crew": None, "_begun": asyncio.Event()}

    def configure(
        self,
        *,
        servers: Servers | None = None,
        tls: TLS | None = None,
        timeout: float | None = None,
        address: str | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        """Change what the constructor was told, while the worker has not begun.

        Raises ValueError for what makes no sense.
        """
        if servers is not None:
            self._plan = replace(self._plan, servers=parse_servers(servers, tls=tls))
        if timeout is not None:
            self._registry.limit_all(timeout)
        if address is not None:
            self._registry.addressed(address)
        self._plan = replace(self._plan, **settings)

    def function(
        self,
        name: str,
        *,
        workload: bool = False,
        timeout: float | None = None,
        soft_timeout: float | None = None,
        server_timeout: float | None = None,
        retries: int = 0,
        retry_on: Errors = (Exception,),
        backoff: float = 1.0,
    ) -> Callable[[F], F]:
        """Decorate what is to run as ``name``; it stays callable as it was written.

        It takes a WorkerJob (with ``workload=True`` the workload: bytes, or the value that the
        serializer makes of them) and returns the result: bytes, str or None, or a value for
        the serializer. A generator's yields are sent at once, as data; what it returns is the
        result.

        ``timeout``: seconds after which the job is stopped and fails, its retries included; a
        plain function with one runs in a process, which is killed. ``soft_timeout``: seconds,
        less than that, after which TimeLimit is raised inside it (an async one is cancelled),
        so that it can end by itself. ``server_timeout``: seconds after which the *server* gives
        the job to another worker.

        ``retries``: so often is the function called again after an exception of ``retry_on``
        (a class, or several), ``backoff`` seconds later, then twice as long, up to a minute,
        while the client waits and the slot is held. A worker that drains gives the job back
        instead.

        Raises TypeError or ValueError for what makes no sense, or a second function of the
        same name.
        """
        named(name)

        def register(function: F) -> F:
            self._registry.add(
                name,
                Declared(
                    function=function,
                    workload=workload,
                    timeout=timeout,
                    soft_timeout=soft_timeout,
                    server_timeout=server_timeout,
                    retries=retries,
                    retry_on=retry_on,
                    backoff=backoff,
                ),
            )
            return function

        return register

    def add_function(
        self, name: str, function: Function, **options: Unpack[FunctionOptions]
    ) -> None:
        """function() as a plain call."""
        self.function(name, **options)(function)

    def add_ping(self, name: str, *, alone: bool = False) -> None:
        """Serve ``name`` too, whatever the prefix: it answers its workload.

        For who wants to know whether this very worker does jobs. ``alone``: its other functions,
        which are declared before, are not served. Raises TypeError or ValueError.
        """
        self._registry.add_ping(name, alone=alone)

    def on_startup(self, function: H) -> H:
        """Decorate what is to be called once in each process that runs functions, before them.

        An async one is awaited in the event loop in which async functions run, after the others.
        """
        self._registry.on_startup.append(hook(function))
        return function

    def on_shutdown(self, function: H) -> H:
        """Decorate what is to be called at the end of each process that ran on_startup.

        What it raises is logged.
        """
        self._registry.on_shutdown.append(hook(function))
        return function

    def on_outcome(self, function: T) -> T:
        """Decorate what is to be called with each job and its Outcome, just before the server
        hears of it.

        It is called in the worker's own process, so it hears too of jobs that were stopped at
        their time limit or whose process died. What it raises is logged. It may be async.
        """
        self._registry.on_outcome.append(hook(function))
        return function

    def around(self, function: A) -> A:
        """Decorate a function of the job that returns a context manager to be around it.

        It is entered where the function runs, and sees what the function raises; a job whose
        error it swallows fails all the same. An async context manager is for async functions.
        """
        self._registry.around.append(manager(function))
        return function

    def run(self) -> int:
        """Work until SIGTERM or SIGINT, then drain. The process is this worker's.

        SIGHUP starts the program anew beside this one, and drains when job servers know that
        one; at a terminal it drains. Where logging is not set up, what the worker does is
        printed to stderr.

        Returns the exit status: 0 drained, 1 a second signal or the drain's time limit ended it
        with a job in hand, or it could not begin. Reports to systemd where that is listening.
        Raises ValueError without functions.
        """
        crew = self._begin()
        if not _log.hasHandlers():
            handler = logging.StreamHandler()
            handler.setFormatter(EntryFormatter("%(asctime)s %(levelname)s %(message)s"))
            logging.basicConfig(handlers=[handler])
            _log.setLevel(logging.INFO)
        _log.info("serving %s; SIGTERM or ^C drains", ", ".join(self._registry.declared))
        predecessor = Predecessor.from_environment()
        try:
            crew.open()
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                runner.run(Service(crew, predecessor).run())
        except Died as death:
            _log.error("a worker process could not begin: %s", death)
            return 1
        except CannotBegin:
            _log.exception("an on_startup function failed")
            return 1
        finally:
            crew.close()
        return 1 if crew.stopped else 0

    async def serve(self) -> None:
        """Work until drained or stopped, in the running event loop; signals are the caller's.

        Cancelled, it stops.
        """
        crew = self._begin()
        try:
            crew.open()
            await crew.serve()
        finally:
            crew.close()

    async def registered(self) -> None:
        """Wait until serve(), in another task, has registered each slot with a job server."""
        await self._begun.wait()
        if self._crew is not None:
            await self._crew.until_ready()

    def work(self, *, limit: int | None = None, timeout: float | None = None) -> int:
        """Do up to ``limit`` jobs in this thread, for up to ``timeout`` seconds; how many it did.

        With neither it goes on while there are jobs. For plain functions; signals are the
        caller's. After ^C (KeyboardInterrupt) a job that was running goes back to its server.
        """
        deadline = None if timeout is None else monotonic() + timeout
        crew = self._begin()
        try:
            crew.open()
            return crew.work(limit, deadline)
        finally:
            crew.close()

    def drain(self) -> None:
        """Finish the jobs in hand, take no others, leave. Call it in the event loop's thread."""
        if self._crew is not None:
            self._crew.drain()

    def stop(self) -> None:
        """Leave now; jobs in hand are left to the servers to give to others."""
        if self._crew is not None:
            self._crew.stop()

    def _begin(self) -> Crew:
        self._registry.complete()
        self._crew = Crew(self._plan, self._registry)
        self._begun.set()
        return self._crew
