"""Clients of ours and of PHP that have a function's jobs done while something else goes on."""

import os
import statistics
import subprocess
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from gearman_py import Client
from tests.lab.hosts import NETWORK
from tests.waiting import await_true

Result = TypeVar("Result")

JOB_SERVER = f"{NETWORK}.247:4730"
PHP_CLIENT = Path(__file__).with_name("load.php")
CLIENTS = 2  # of each kind, with one job at a time
AROUND = 20  # jobs that are done before, and that begin after
PAUSE = 0.05  # seconds between two jobs of a client: without, load takes all that the rest leaves


class Answered(NamedTuple):
    """A job that was done: when it began and ended, on the monotonic clock."""

    began: float
    ended: float
    handle: str
    answer: bytes


@dataclass
class JobLoad:
    function: str
    workload: str
    pause: float = PAUSE
    jobs: list[Answered] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _clients: list[Future[None]] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Clients have jobs done meanwhile. The first job that fails is an error here."""
        with ThreadPoolExecutor(2 * CLIENTS) as pool, self._php_clients() as programs:
            self._clients += [pool.submit(self._submit) for _ in range(CLIENTS)]
            self._clients += [pool.submit(self._read_answers, each) for each in programs]
            yield
        for client in self._clients:
            client.result()

    def await_jobs(self, number: int) -> None:
        """Until so many more are done."""
        wanted = len(self.jobs) + number

        def is_done() -> bool:
            for client in self._clients:
                if client.done():
                    client.result()
            return len(self.jobs) >= wanted

        await_true(is_done, limit=120)

    def p99(self, begin: float, end: float) -> float:
        """Milliseconds that one of a hundred jobs begun in that time took, or longer."""
        found = [job.ended - job.began for job in self.jobs if begin <= job.began < end]
        return 1000 * statistics.quantiles(found, n=100, method="inclusive")[98]

    def _submit(self) -> None:
        with Client(JOB_SERVER, timeout=60) as client:
            while not self._over.wait(self.pause):
                began = time.monotonic()
                job = client.submit(self.function, self.workload)
                answer = job.result()
                self.jobs.append(Answered(began, time.monotonic(), job.handle, answer))

    @contextmanager
    def _php_clients(self) -> Iterator[list[subprocess.Popen[str]]]:
        words = ["php", str(PHP_CLIENT), self.function, self.workload, str(self.pause)]
        environment = {**os.environ, "GEARMAN_SERVERS": JOB_SERVER}
        pipe = subprocess.PIPE
        programs = [
            subprocess.Popen(words, stdin=pipe, stdout=pipe, env=environment, text=True)
            for _ in range(CLIENTS)
        ]
        try:
            yield programs
        finally:
            self._over.set()
            for program in programs:
                assert program.stdin
                program.stdin.close()

    def _read_answers(self, program: subprocess.Popen[str]) -> None:
        assert program.stdout
        with program.stdout as lines:
            for line in lines:
                began, ended, handle, answer = line.split(" ")
                self.jobs.append(Answered(float(began), float(ended), handle, b64decode(answer)))
        assert program.wait() == 0, "a job of a PHP client failed"


def jobs_around(
    function: str, workload: str, change: Callable[[], Result], *, pause: float = PAUSE
) -> tuple[list[Answered], Result]:
    """All jobs of a load before, while and after ``change`` goes on, as they begin.

    The last AROUND of them begin when it is over.
    """
    load = JobLoad(function, workload, pause)
    with load.running():
        before = time.monotonic()
        load.await_jobs(AROUND)
        began = time.monotonic()
        result = change()
        ended = time.monotonic()
        load.await_jobs(AROUND + 2 * CLIENTS)  # which may have begun before
    print(
        f"{len(load.jobs)} jobs of {function}; p99 {load.p99(before, began):.0f} ms before, "
        f"{load.p99(began, ended):.0f} ms meanwhile"
    )
    return sorted(load.jobs), result


def under_load(
    function: str, workload: str, change: Callable[[], Result], *, pause: float = PAUSE
) -> tuple[list[bytes], Result]:
    """The answers of :func:`jobs_around`."""
    jobs, result = jobs_around(function, workload, change, pause=pause)
    return [job.answer for job in jobs], result
