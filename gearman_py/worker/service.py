"""A worker as a process of its own: signals, systemd, reload.

SIGTERM and SIGINT drain, a second one leaves at once. SIGHUP starts the program anew and
drains when that is registered; at a terminal, which sends it when it is closed, it drains,
unless a reload was asked for. SIGUSR1 writes every thread's stack to stderr.
"""

import asyncio
import faulthandler
import logging
import os
import signal
from time import monotonic

from gearman_py.sdnotify import notify, watchdog_interval
from gearman_py.worker.pool import Crew
from gearman_py.worker.reload import (
    HandoverFailed,
    Predecessor,
    hand_over,
    reload_was_asked,
    tell,
)

_log = logging.getLogger("gearman_py.worker")

# Seconds in which two different signals are one request: a supervisor may send both.
_ONE_REQUEST = 1.0
_SIGN_OF_LIFE = 10.0  # seconds between status lines where no watchdog sets the pace


class Service:
    """Runs a crew until a signal ends it."""

    def __init__(self, crew: Crew, predecessor: Predecessor | None) -> None:
        self._crew = crew
        self._predecessor = predecessor
        self._relieved = False  # systemd listens to our successor now
        self._reloading: asyncio.Task[None] | None = None
        self._first: tuple[str, float] = ("", 0.0)  # the signal that began the drain, and when
        self._at_terminal = _has_terminal()
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._nohup = self._at_terminal and ignored

    async def run(self) -> None:
        """Work until drained or stopped."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, signal.Signals(number).name)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        faulthandler.register(signal.SIGUSR1)
        reporting = asyncio.create_task(self._report())
        try:
            await self._crew.serve()
            if self._predecessor is not None:
                await self._predecessor.gone()
        finally:
            reporting.cancel()
        how = "stopped" if self._crew.stopped else "drained"
        _log.info("%s after %d jobs", how, self._crew.answered)

    def _signalled(self, name: str) -> None:
        first, when = self._first
        if self._crew.draining and name != first and monotonic() < when + _ONE_REQUEST:
            _log.info("%s: draining already", name)
        elif self._crew.draining:
            _log.warning("%s again: leaving at once", name)
            if self._predecessor is not None:
                self._predecessor.hurry()
            self._crew.stop()
        else:
            _log.info("%s: draining", name)
            self._first = name, monotonic()
            self._notify("STOPPING=1", "STATUS=draining")
            self._crew.drain()

    def _hung_up(self) -> None:
        if not self._at_terminal or reload_was_asked():
            self._reload()
        elif not (self._nohup or self._crew.draining):
            self._signalled("SIGHUP")

    def _reload(self) -> None:
        if self._crew.draining or (self._reloading and not self._reloading.done()):
            _log.warning("SIGHUP: a reload or a drain is under way already")
        else:
            _log.info("SIGHUP: starting a new worker beside this one")
            self._reloading = asyncio.create_task(self._hand_over())

    async def _hand_over(self) -> None:
        loop = asyncio.get_running_loop()
        if self._nohup:  # which the successor inherits
            loop.remove_signal_handler(signal.SIGHUP)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            successor = await hand_over()
        except HandoverFailed as error:
            loop.add_signal_handler(signal.SIGHUP, self._hung_up)
            _log.error("reload failed, this worker goes on: %s", error)
            tell(str(error))
        else:
            _log.info("worker %d has taken over: draining", successor)
            self._relieved = True
            self._crew.drain()
            tell("")

    async def _report(self) -> None:
        """Tell systemd when job servers know us, and then that we are alive."""
        ready = self._crew.until_ready
        if self._predecessor is None:
            await ready()
        elif not await self._predecessor.relieve(ready):
            _log.error("the worker that started this one has given it up: leaving")
            self._predecessor = None
            self._crew.drain()
            return
        # systemd does not count anew for a successor: it may have to be heard of at once.
        self._notify("READY=1", "WATCHDOG=1", f"STATUS={self._crew.status()}")
        pause = watchdog_interval() or _SIGN_OF_LIFE
        while True:
            await asyncio.sleep(pause)
            if self._crew.well:
                self._notify("WATCHDOG=1", f"STATUS={self._crew.status()}")
            else:
                self._notify(f"STATUS=stuck; {self._crew.status()}")

    def _notify(self, *lines: str) -> None:
        if not self._relieved:
            notify(*lines)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
