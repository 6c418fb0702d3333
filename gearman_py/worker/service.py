"""A worker as a process of its own: signals, systemd, reload.

SIGTERM and SIGINT drain; a second one stops at once. SIGHUP starts the program again and drains
once that is registered; at a terminal, which sends it when it is closed, it drains, unless a
reload was requested. SIGUSR1 writes every thread's stack to stderr.
"""

import asyncio
import faulthandler
import logging
import os
import signal
from contextlib import suppress
from time import monotonic

from gearman_py.net.servers import ServerAddress
from gearman_py.sdnotify import notify, watchdog_interval
from gearman_py.worker.metrics import WorkerMetrics
from gearman_py.worker.metrics_listener import MetricsListener
from gearman_py.worker.pool import WorkerPool
from gearman_py.worker.reload import (
    Predecessor,
    ReloadFailed,
    is_reload_requested,
    report_reload,
    start_successor,
)

_log = logging.getLogger("gearman_py.worker")

# Two different signals within this many seconds are one request: a supervisor may send both.
_SAME_REQUEST_WINDOW = 1.0
_METRICS_INTERVAL = 5.0  # seconds between two writings of the metrics
_BURST_INTERVAL = 0.05  # seconds between two looks at whether a burst is over
_STATUS_INTERVAL = 10.0  # seconds between status lines where no watchdog sets the pace


class WorkerService:
    """Runs a pool until a signal ends it, or, in a ``burst``, until no server has a job."""

    def __init__(
        self,
        pool: WorkerPool,
        predecessor: Predecessor | None,
        metrics: WorkerMetrics,
        listen: ServerAddress | None = None,
        *,
        burst: bool = False,
    ) -> None:
        self._burst = burst
        self._pool = pool
        self._metrics = metrics
        self._listen = listen  # for metrics
        self._predecessor = predecessor
        self._replaced = False  # systemd follows the successor now
        self._reloading: asyncio.Task[None] | None = None
        self._first: tuple[str, float] = ("", 0.0)  # the signal that began the drain, and when
        self._at_terminal = _has_terminal()
        self._on_terminal = [descriptor for descriptor in range(3) if os.isatty(descriptor)]
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._nohup = self._at_terminal and ignored

    async def run(self) -> None:
        """Work until drained or stopped."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._handle_signal, signal.Signals(number).name)
        loop.add_signal_handler(signal.SIGHUP, self._handle_hangup)
        faulthandler.register(signal.SIGUSR1)
        reporting = asyncio.create_task(self._report_status())
        writing = asyncio.create_task(self._write_metrics())
        self._answering = asyncio.create_task(self._serve_metrics())
        bursting = asyncio.create_task(self._end_burst()) if self._burst else None
        try:
            await self._pool.serve()
            if self._predecessor is not None:
                await self._predecessor.wait_ended()
        finally:
            reporting.cancel()
            writing.cancel()
            self._answering.cancel()
            if bursting is not None:
                bursting.cancel()
            self._remove_metrics()
        how = "stopped" if self._pool.stopped else "drained"
        jobs = self._pool.members.counters.total
        _log.info("%s after %d %s", how, jobs, "job" if jobs == 1 else "jobs")

    async def _end_burst(self) -> None:
        slots = self._pool.members.slots  # none before it serves
        while not (slots and all(slot.is_idle for slot in slots)):
            await asyncio.sleep(_BURST_INTERVAL)  # slots in threads do not tell
            slots = self._pool.members.slots
        if not self._pool.is_draining:
            self._pool.drain()

    def _handle_signal(self, name: str) -> None:
        first, when = self._first
        if self._pool.is_draining and name != first and monotonic() < when + _SAME_REQUEST_WINDOW:
            _log.info("%s: already draining", name)
        elif self._pool.is_draining:
            _log.warning("%s again: stopping at once", name)
            if self._predecessor is not None:
                self._predecessor.stop_now()
            self._pool.stop()
        else:
            _log.info("%s: draining", name)
            self._first = name, monotonic()
            self._notify_systemd("STOPPING=1", "STATUS=draining")
            self._pool.drain()
            if self._reloading:  # the new worker ends when it sees that
                self._reloading.cancel()

    def _handle_hangup(self) -> None:
        if not self._at_terminal or is_reload_requested():
            self._start_reload()
        elif not (self._nohup or self._pool.is_draining):
            self._leave_closed_terminal()
            self._handle_signal("SIGHUP")

    def _leave_closed_terminal(self) -> None:
        """What was written there could not be flushed: Python 3.14 would end with status 120."""
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in self._on_terminal:
            if not os.isatty(descriptor):
                os.dup2(null, descriptor)
        os.close(null)

    def _start_reload(self) -> None:
        if self._pool.is_draining or (self._reloading and not self._reloading.done()):
            _log.warning("SIGHUP: a reload or a drain is already in progress")
        else:
            _log.info("SIGHUP: starting a new worker beside this one")
            self._reloading = asyncio.create_task(self._reload_worker())

    async def _reload_worker(self) -> None:
        loop = asyncio.get_running_loop()
        if self._nohup:  # which the successor inherits
            loop.remove_signal_handler(signal.SIGHUP)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            successor = await start_successor()
        except ReloadFailed as error:
            loop.add_signal_handler(signal.SIGHUP, self._handle_hangup)
            _log.error("reload failed, this worker continues: %s", error)
            report_reload(str(error))
        except asyncio.CancelledError:
            _log.info("the reload has ended: this worker was told to stop")
            report_reload("the worker was told to stop")
            raise
        else:
            _log.info("worker %d has taken over: draining", successor)
            self._replaced = True
            self._answering.cancel()  # its successor has the address
            self._pool.drain()
            report_reload("")

    async def _report_status(self) -> None:
        """Tell systemd when the worker is registered, and then that it is alive."""
        ready = self._pool.wait_ready
        if self._predecessor is None:
            await ready()
        elif not await self._predecessor.take_over(ready):
            _log.error("the worker that started this one has given up on it: stopping")
            self._predecessor = None
            self._pool.drain()
            return
        # systemd does not restart its watchdog for a successor: report at once.
        self._notify_systemd("READY=1", "WATCHDOG=1", f"STATUS={self._pool.status_line()}")
        pause = watchdog_interval() or _STATUS_INTERVAL
        while True:
            await asyncio.sleep(pause)
            if self._pool.members.is_healthy:
                self._notify_systemd("WATCHDOG=1", f"STATUS={self._pool.status_line()}")
            else:
                self._notify_systemd(f"STATUS=stuck; {self._pool.status_line()}")

    async def _write_metrics(self) -> None:
        """Write them at intervals, until a successor does."""
        problem = ""
        while self._metrics.path is not None and not self._replaced:
            if self._pool.members.slots:
                try:
                    await asyncio.to_thread(self._metrics.write)
                    problem = ""
                except OSError as error:
                    if problem != (problem := f"{error.filename}: {error.strerror}"):
                        _log.error("metrics cannot be written: %s", problem)
            await asyncio.sleep(_METRICS_INTERVAL)

    async def _serve_metrics(self) -> None:
        """Answer at the address for metrics, once a predecessor does so no more."""
        if self._listen is not None:
            await MetricsListener(self._listen, self._metrics, self._find_problem).serve()

    def _find_problem(self) -> str:
        """Why the worker is not healthy; "" if it is."""
        members = self._pool.members
        if self._pool.is_draining:
            return "draining"
        if not members.is_ready:
            return "a slot is not registered with a job server"
        return "" if members.is_healthy else "a slot is stuck"

    def _remove_metrics(self) -> None:
        if not self._replaced:
            with suppress(OSError):
                self._metrics.remove()

    def _notify_systemd(self, *lines: str) -> None:
        if not self._replaced:
            notify(*lines)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
