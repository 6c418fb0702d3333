"""The worker: its functions, the servers that it serves, and how it ends.

Each slot runs one job at a time: slots of plain functions are threads, or processes of their
own; slots of async functions are in the event loop. A server that cannot be reached is tried
again without limit.

To drain is to ask for no more jobs, run what a server may already have sent, answer it, and end.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import TypeVar, Unpack

from gearman_py.event_loop import new_event_loop
from gearman_py.net.servers import Servers, parse_servers
from gearman_py.net.tls import TLS
from gearman_py.printable import EntryFormatter
from gearman_py.protocol.codec import MAX_PACKET
from gearman_py.serializer import Serializer
from gearman_py.worker.fork_server import ProcessDied
from gearman_py.worker.function_spec import (
    Function,
    FunctionOptions,
    FunctionSpec,
    Hook,
    Middleware,
    OnOutcome,
    RetryOn,
)
from gearman_py.worker.job_proof import JobProof
from gearman_py.worker.metrics import OutcomeCounts, WorkerMetrics
from gearman_py.worker.metrics_listener import METRICS_PORT
from gearman_py.worker.pool import StartupFailed, WorkerPool
from gearman_py.worker.pool_config import PoolConfig, PoolOptions
from gearman_py.worker.registry import FunctionRegistry
from gearman_py.worker.reload import Predecessor
from gearman_py.worker.service import WorkerService
from gearman_py.worker.validation import check_function_name, check_hook, check_middleware

_log = logging.getLogger("gearman_py.worker")

F = TypeVar("F", bound=Function)
A = TypeVar("A", bound=Middleware)
H = TypeVar("H", bound=Hook)
T = TypeVar("T", bound=OnOutcome)


class Worker:
    """Serves functions to job servers.

    ``servers`` is as in Client. ``client_id`` is its name in the listing ``workers`` (default:
    host:pid). ``prefix`` goes before each function's name on the wire. With an ``address``
    each function is also served as FUNCTION@ADDRESS, for jobs meant for this worker.
    ``serializer`` (JSON, or your own) converts workloads and results to and from values.

    ``concurrency`` jobs run at a time: plain functions in that number of threads, async ones in
    the event loop. With ``processes``, plain functions run in that number of processes instead,
    with (2, 8) in as many of 2 to 8 as are needed and memory allows; each is replaced after
    ``max_jobs_per_child`` jobs, or when it holds more than ``max_memory_per_child`` bytes after a
    job.

    ``timeout``: seconds that a job may take, if its function has no limit of its own (see
    function()). ``drain_timeout``: seconds for the running jobs after SIGTERM; then they are
    abandoned, and the servers give them to other workers. ``max_jobs``: drain after this many.
    ``max_packet``: the maximum bytes of a packet, of a job or a result; the job of a larger one
    fails. A job server has such a limit too (``gearmand --max-packet``, the same by default).
    ``exceptions=False`` reports failures as a warning and WORK_FAIL: the C command ``gearman``
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
        processes: int | tuple[int, int] = 0,
        max_jobs_per_child: int | None = None,
        max_memory_per_child: int | None = None,
        timeout: float | None = None,
        drain_timeout: float = 60.0,
        max_jobs: int | None = None,
        max_packet: int = MAX_PACKET,
        exceptions: bool = True,
        reducers: bool = False,
    ) -> None:
        self._registry = FunctionRegistry(
            prefix=prefix,
            serializer=serializer,
            exceptions=exceptions,
            timeout=timeout,
            address=address,
        )
        self._config = PoolConfig(
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
        self._pool: WorkerPool | None = None
        self._started = asyncio.Event()

    def __getstate__(self) -> dict[str, object]:
        """For pickle: the declarations, without what is running."""
        return {**vars(self), "_pool": None, "_started": asyncio.Event()}

    def configure(
        self,
        *,
        servers: Servers | None = None,
        tls: TLS | None = None,
        timeout: float | None = None,
        address: str | None = None,
        prefix: str = "",
        functions: Collection[str] = (),
        **settings: Unpack[PoolOptions],
    ) -> None:
        """Change options of the constructor before the worker starts.

        ``timeout`` is also the most that functions with a limit of their own are given.
        ``prefix`` is put before the existing one. ``functions``: of those declared, serve only
        these, named as on the wire. Raises TypeError or ValueError for invalid ones.
        """
        if servers is not None:
            self._config = replace(self._config, servers=parse_servers(servers, tls=tls))
        if timeout is not None:
            self._registry.limit_time(timeout)
        if address is not None:
            self._registry.set_address(address)
        if functions:
            self._registry.keep_only(functions)
        if prefix:
            self._registry.add_prefix(prefix)
        self._config = replace(self._config, **settings)

    def function(
        self,
        name: str,
        *,
        workload: bool = False,
        timeout: float | None = None,
        soft_timeout: float | None = None,
        server_timeout: float | None = None,
        retries: int = 0,
        retry_on: RetryOn = (Exception,),
        backoff: float = 1.0,
    ) -> Callable[[F], F]:
        """Decorate the function to run as ``name``; it stays callable as it was written.

        It takes a WorkerJob (with ``workload=True`` the workload: bytes, or the value that the
        serializer makes of them) and returns the result: bytes, str or None, or a value for
        the serializer. What a generator yields is sent at once, as data; what it returns is the
        result.

        ``timeout``: seconds after which the job is stopped and fails, retries included; a
        plain function with one runs in a process, which is killed. ``soft_timeout``: seconds,
        less than that, after which TimeLimit is raised inside it (an async one is cancelled),
        so that it can end on its own. ``server_timeout``: seconds after which the *server* gives
        the job to another worker.

        ``retries``: how many times the function is called again after an exception of
        ``retry_on`` (a class, or several), ``backoff`` seconds later, then twice as long, up to
        a minute. A background job waits for that at the job server. With one that a client waits
        for, and at a C job server, the slot stays occupied, and a worker that drains gives the
        job back instead.

        Raises TypeError or ValueError for invalid options, or for a second function of the
        same name.
        """
        check_function_name(name)

        def add_spec(function: F) -> F:
            self._registry.add_function(
                name,
                FunctionSpec(
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

        return add_spec

    def add_function(
        self, name: str, function: Function, **options: Unpack[FunctionOptions]
    ) -> None:
        """function() as a plain call."""
        self.function(name, **options)(function)

    def add_ping(self, name: str, *, alone: bool = False) -> None:
        """Serve ``name`` too, without the prefix: it answers its workload.

        It shows whether this particular worker runs jobs. With ``alone`` its other functions, which
        are declared before, are not served. Raises TypeError or ValueError.
        """
        self._registry.add_ping(name, alone=alone)

    def on_startup(self, function: H) -> H:
        """Decorate a function to be called once in each process that runs jobs, before them.

        An async one is awaited in the event loop in which async functions run, after the others.
        """
        self._registry.on_startup.append(check_hook(function))
        return function

    def on_shutdown(self, function: H) -> H:
        """Decorate a function to be called at the end of each process that ran on_startup.

        Exceptions that it raises are logged.
        """
        self._registry.on_shutdown.append(check_hook(function))
        return function

    def on_outcome(self, function: T) -> T:
        """Decorate a function to be called with each job and its Outcome, just before the
        server is told.

        It is called in the worker's own process, also for jobs that were stopped at their time
        limit or whose process died. Exceptions that it raises are logged. It may be async.
        """
        self._registry.on_outcome.append(check_hook(function, "job", "outcome"))
        return function

    def around(self, function: A) -> A:
        """Decorate a function that takes the job and returns a context manager for its run.

        It is entered where the function runs, and sees what the function raises; a job whose
        error it suppresses still fails. An async context manager is for async functions.
        """
        self._registry.middlewares.append(check_middleware(function))
        return function

    def run(
        self, *, metrics_file: Path | str | None = None, metrics_listen: str | None = None
    ) -> int:
        """Work until SIGTERM or SIGINT, then drain. It takes over the process and its signals.

        SIGHUP starts the program again beside this one, and drains once job servers have
        registered that one; at a terminal it drains. If logging is not set up, what the worker
        does is printed to stderr.

        ``metrics_file``, NAME.prom in a folder that node_exporter reads, has the worker's metrics
        while it runs; at ``metrics_listen`` ("127.0.0.1:9419") it answers GET /metrics, /healthz.

        Returns the exit status: 0 if it drained; 1 if it could not start, or if a second signal
        or the drain's time limit ended it while a job was running. Reports to systemd if that is
        listening. Raises ValueError without functions.
        """
        outcomes = OutcomeCounts()
        listen = parse_servers(metrics_listen, port=METRICS_PORT)[0] if metrics_listen else None
        if metrics_file or listen:
            self._registry.on_outcome.append(outcomes.note_outcome)
        pool = self._start_pool()
        metrics = WorkerMetrics(Path(metrics_file) if metrics_file else None, pool, outcomes)
        if not _log.hasHandlers():
            handler = logging.StreamHandler()
            handler.setFormatter(EntryFormatter("%(asctime)s %(levelname)s %(message)s"))
            logging.basicConfig(handlers=[handler])
            _log.setLevel(logging.INFO)
        _log.info("serving %s; SIGTERM or ^C drains", ", ".join(self._registry.functions))
        predecessor = Predecessor.from_environment()
        self._registry.job_proof = proof = JobProof.create()
        try:
            pool.open()
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                burst = self._config.burst
                runner.run(WorkerService(pool, predecessor, metrics, listen, burst=burst).run())
        except ProcessDied as death:
            _log.error("a worker process could not start: %s", death)
            return 1
        except StartupFailed:
            _log.exception("an on_startup function failed")
            return 1
        finally:
            pool.close()
            if proof is not None:
                proof.close()
        return 1 if pool.stopped else 0

    async def serve(self) -> None:
        """Work until drained or stopped, in the running event loop; signals are the caller's.

        If it is cancelled, the worker stops.
        """
        pool = self._start_pool()
        try:
            pool.open()
            await pool.serve()
        finally:
            pool.close()

    async def registered(self) -> None:
        """Wait until serve(), in another task, has registered each slot with a job server."""
        await self._started.wait()
        if self._pool is not None:
            await self._pool.wait_ready()

    def work(self, *, limit: int | None = None, timeout: float | None = None) -> int:
        """Run up to ``limit`` jobs in this thread, for up to ``timeout`` seconds; return how many.

        Without either, it continues while there are jobs. For plain functions; signals are the
        caller's. After ^C (KeyboardInterrupt) a job that was running goes back to its server.
        """
        deadline = None if timeout is None else monotonic() + timeout
        pool = self._start_pool()
        try:
            pool.open()
            return pool.run_jobs(limit, deadline)
        finally:
            pool.close()

    def drain(self) -> None:
        """Finish the running jobs, take no others, and end. Call it in the event loop's thread."""
        if self._pool is not None:
            self._pool.drain()

    def stop(self) -> None:
        """Stop now; the servers give the running jobs to other workers."""
        if self._pool is not None:
            self._pool.stop()

    def _start_pool(self) -> WorkerPool:
        self._registry.finish_declaring()
        self._pool = WorkerPool(self._config, self._registry)
        self._started.set()
        return self._pool
