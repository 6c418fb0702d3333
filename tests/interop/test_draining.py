"""What clients of each kind see when one of their two job servers is drained."""

import asyncio
import select
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from gearman_py import AsyncClient, Client, Worker, WorkerJob
from gearman_py.admin.client import AdminClient
from gearman_py.cli.move_jobs import retire
from gearman_py.net.servers import parse_servers
from gearman_py.net.tls import TLS
from gearman_py.testing import running
from tests.authority import Authority, words
from tests.interop.programs import KINDS, Program, Stage, command, hear
from tests.job_servers import JobServer
from tests.peer import Peer
from tests.server.reloaded import run_reload
from tests.waiting import LIMIT, await_true

FIRST_ANSWER = 10.0  # seconds
each_kind = pytest.mark.parametrize("kind", KINDS)


class DrainedServer(JobServer):
    """A job server that can be drained, with a worker of the functions name and hold.

    ``name`` answers which server it is, ``hold`` does so once ``let_go`` is set.
    """

    def __init__(self, folder: Path, name: str, options: list[str], tls: TLS | None = None) -> None:
        super().__init__(folder)
        self.admin = f"unix:{folder}/admin"
        self.name = name
        self.let_go = threading.Event()
        self.done: list[str] = []
        self.start("--admin-listen", self.admin, *options)
        self.worker = Worker(self.address, concurrency=4, tls=tls)
        self.worker.add_function("name", self.answer_name)
        self.worker.add_function("hold", self.hold)

    def running(self, function: str) -> int:
        with AdminClient(self.admin) as admin:
            return sum(row.running for row in admin.status() if row.name == function)

    def answer_name(self, job: WorkerJob) -> str:
        self.done.append(job.workload.decode())
        return self.name

    def hold(self, job: WorkerJob) -> str:
        self.let_go.wait(LIMIT)
        return self.answer_name(job)

    def drain(self, how: str) -> None:
        """Begin to drain it, in one of the ways in which an operator does."""
        assert self._process is not None
        if how == "signal":
            self._process.process.send_signal(signal.SIGUSR1)
        elif how == "stop":
            self._process.process.terminate()
        else:
            with AdminClient(self.admin) as admin:
                admin.shutdown(graceful=True)
        await_true(lambda: "draining" in self.log or "may end within" in self.log)

    def has_ended(self) -> bool:
        assert self._process is not None
        status = self._process.process.poll()
        assert status in (None, 0), self.log
        return status == 0

    @property
    def log(self) -> str:
        assert self._process is not None
        return self._process.log


@contextmanager
def two_servers(
    folder: Path, *options: str, tls: TLS | None = None
) -> Iterator[tuple[DrainedServer, DrainedServer]]:
    with ExitStack() as stack:
        servers = []
        for name in ("a", "b"):
            (folder / name).mkdir()
            servers.append(server := DrainedServer(folder / name, name, [*options], tls))
            stack.callback(server.stop)
            stack.callback(server.let_go.set)
        for server in servers:
            stack.enter_context(running(server.worker))
        yield servers[0], servers[1]


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[DrainedServer, DrainedServer]]:
    with two_servers(tmp_path) as both:
        yield both


def ask(program: Program, line: str, seconds: float = LIMIT) -> str | None:
    """Have a program submit a job; what it prints, or None if nothing within ``seconds``."""
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdin.write(line.encode() + b"\n")
    program.stdin.flush()
    told, _, _ = select.select([program.stdout], [], [], seconds)
    return hear(program).decode() if told else None


def client_of(
    stage: Stage, kind: str, first: DrainedServer, other: DrainedServer, function: str = "name"
) -> Program:
    """A client whose jobs go to the first server; its list begins with the other.

    libgearman uses the last one that can be reached; Perl's draws by lot for each job.
    """
    return stage.start(command(kind, "turns", f"{other.address},{first.address}", function))


def client_in_use(
    stage: Stage, kind: str, first: DrainedServer, other: DrainedServer, function: str = "name"
) -> Program:
    """A client that has had a job done by the first server.

    libgearman with two servers waits for ever, now and then, for the answer to its first job, which
    has arrived: on a busy machine one in seven, with C gearmand as with ours. Then another is
    started.
    """
    while True:
        program = client_of(stage, kind, first, other, function)
        while (answer := ask(program, "before", FIRST_ANSWER)) != first.name:
            if answer is None:
                break
        else:
            return program


@each_kind
def test_clients_of_others_are_let_go_between_jobs(
    kind: str, servers: tuple[DrainedServer, DrainedServer]
) -> None:
    a, b = servers
    with closing(Stage(a)) as stage:
        program = client_in_use(stage, kind, a, b)
        a.drain("signal")
        await_true(a.has_ended)
        after = [ask(program, f"after {number}") for number in range(6)]
    # They send one where the connection was: it is not accepted, and does not run.
    assert after.count("lost") <= 1
    assert after.count("b") == 6 - after.count("lost")
    assert set(a.done) == {"before"}


@each_kind
def test_a_running_job_of_others_is_not_lost(
    kind: str, servers: tuple[DrainedServer, DrainedServer]
) -> None:
    a, b = servers
    a.let_go.set()
    b.let_go.set()
    with closing(Stage(a)) as stage, ThreadPoolExecutor() as threads:
        program = client_in_use(stage, kind, a, b, "hold")
        a.let_go.clear()
        earlier = len(a.done)
        heard: list[str | None] = []

        asking = threads.submit(lambda: heard.extend(ask(program, "held") for _ in range(20)))
        await_true(lambda: a.running("hold"), interval=0.02)  # Perl's may have begun with the other
        before = len(heard)
        a.drain("admin")
        a.let_go.set()
        asking.result(LIMIT)
        await_true(a.has_ended)
    assert heard[before] == "a"
    assert heard[before + 1 :].count("lost") <= 1
    assert heard[-1] == "b"
    assert len(a.done) - earlier == heard.count("a")


@pytest.mark.parametrize("how", ["signal", "admin", "stop"])
def test_our_clients_waiting_jobs_run_on_the_other_server_and_those_that_run_end_here(
    how: str, tmp_path: Path
) -> None:
    with two_servers(tmp_path, "--drain-timeout", "60") as (a, b):
        drain_amid_jobs(a, b, how)


@pytest.mark.parametrize("how", ["signal", "stop", "reloaded"])
def test_a_drain_is_the_same_over_tls(how: str, tmp_path: Path) -> None:
    """Also where another process has the TLS sessions of a server, which was reloaded."""
    authority = Authority(tmp_path, "ca")
    tls = authority.issue("client")
    options = [*words(authority.issue("server")), "--drain-timeout", "60"]
    with two_servers(tmp_path, *options, tls=tls) as (a, b):
        drain_amid_jobs(a, b, how, tls=tls)


def drain_amid_jobs(
    a: DrainedServer, b: DrainedServer, how: str, *, tls: TLS | None = None
) -> None:
    """Of 60 jobs, four run on ``a`` as it is drained; the others go to ``b`` at once."""
    b.let_go.set()
    with Client([a.address, b.address], tls=tls) as client, ThreadPoolExecutor() as threads:
        workloads = [b"%d" % number for number in range(60)]
        outcomes = threads.submit(lambda: [*client.map("hold", workloads, ordered=False)])
        await_true(lambda: a.running("hold") == 4)
        if how == "reloaded":
            assert run_reload(a.pid).returncode == 0
            how = "admin"
        began = time.monotonic()
        a.drain(how)
        await_true(lambda: len(b.done) == 56)
        assert time.monotonic() - began < 30, "the jobs that run here were not waited for"
        assert not outcomes.done()
        a.let_go.set()
        names = outcomes.result(LIMIT)
        await_true(a.has_ended)
        assert client.do("name", b"x") == b"b"
    assert sorted(names) == [b"a"] * 4 + [b"b"] * 56
    assert len(a.done + b.done) == 61, "none ran twice"


def test_retiring_over_tls_gives_back_what_waits(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    tls = authority.issue("client")
    with (
        two_servers(tmp_path, *words(authority.issue("server")), tls=tls) as (a, b),
        Client([a.address, b.address], tls=tls) as ours,
        Client(a.address, tls=tls) as alone,
        ThreadPoolExecutor() as threads,
        AdminClient(a.admin) as admin,
    ):
        b.let_go.set()
        held = [alone.submit("hold", b"%d" % number) for number in range(4)]
        await_true(lambda: a.running("hold") == 4)
        waiting = [ours.submit("hold", b"%d" % number) for number in range(4, 20)]
        retiring = threads.submit(retire, admin, parse_servers(b.address, tls=tls))
        assert [job.result(LIMIT) for job in waiting] == [b"b"] * 16
        assert not retiring.done()
        a.let_go.set()
        assert [job.result(LIMIT) for job in held] == [b"a"] * 4
        assert retiring.result(LIMIT).endswith("stops")
        await_true(a.has_ended)


def test_retiring_a_server_gives_back_what_waits_and_lets_run_what_only_others_submit(
    servers: tuple[DrainedServer, DrainedServer],
) -> None:
    a, b = servers
    with (
        Client([a.address, b.address]) as ours,
        Client(a.address) as alone,
        ThreadPoolExecutor() as threads,
        AdminClient(a.admin) as admin,
    ):
        held = [alone.submit("hold", b"%d" % number) for number in range(6)]
        await_true(lambda: a.running("hold") == 4)
        waiting = [ours.submit("hold", b"%d" % number) for number in range(6, 20)]
        queued = ours.submit("hold", b"20", background=True, unique="queued")
        b.let_go.set()
        retiring = threads.submit(retire, admin, parse_servers(b.address))
        assert [job.result(LIMIT) for job in waiting] == [b"b"] * 14
        assert not retiring.done()
        a.let_go.set()
        assert [job.result(LIMIT) for job in held] == [b"a"] * 6
        assert retiring.result(LIMIT).endswith("stops")
        await_true(a.has_ended)
        assert queued.handle
        await_true(lambda: len(a.done + b.done) == 21)


@pytest.mark.parametrize("kind", [*KINDS, "ours"])
def test_a_client_with_this_server_alone_is_closed_once(
    kind: str, servers: tuple[DrainedServer, DrainedServer]
) -> None:
    """It comes back, as it has nowhere else to go, and its jobs run here until the end."""
    a, b = servers
    with ExitStack() as stack:
        if kind == "ours":
            client = stack.enter_context(Client(a.address))

            def do(line: str) -> str | None:
                return client.do("name", line).decode()
        else:
            program = stack.enter_context(closing(Stage(a))).start(
                command(kind, "turns", a.address, "name")
            )
            do = partial(ask, program)
        assert do("before") == "a"
        watching = stack.enter_context(Peer(("127.0.0.1", a.port)).socket)
        holding = stack.enter_context(Client(a.address))
        held = holding.submit("hold", b"held")
        await_true(lambda: a.running("hold") == 1)
        admin = stack.enter_context(AdminClient(a.admin))
        threads = stack.enter_context(ThreadPoolExecutor())
        retiring = threads.submit(retire, admin, parse_servers(b.address))
        stack.callback(a.let_go.set)
        assert watching.recv(1) == b"", "connections are closed once"
        after = [do(f"after {number}") for number in range(20)]
        assert after.count("lost") <= 1
        assert after.count("a") == 20 - after.count("lost")
        a.let_go.set()
        assert held.result(LIMIT) == b"a"
        assert retiring.result(LIMIT).endswith("stops")


def test_no_job_of_ours_is_lost_and_none_runs_twice_while_a_server_is_drained(
    servers: tuple[DrainedServer, DrainedServer],
) -> None:
    """Threads submit in the foreground and in the background, one job after the other."""
    a, b = servers
    stop = threading.Event()
    with Client([a.address, b.address]) as client, ThreadPoolExecutor() as threads:

        def submit(thread: int) -> list[str]:
            sent: list[str] = []
            while not stop.is_set():
                sent.append(f"{thread} {len(sent)}")
                if thread % 2:
                    client.do_background("name", sent[-1])
                else:
                    client.do("name", sent[-1])
            return sent

        submitting = [threads.submit(submit, number) for number in range(8)]
        await_true(lambda: len(a.done) > 100)
        a.drain("signal")
        await_true(a.has_ended)
        before = len(b.done)
        await_true(lambda: len(b.done) > before + 100)
        stop.set()
        sent = [each for thread in submitting for each in thread.result(LIMIT)]
        await_true(lambda: len(a.done + b.done) >= len(sent))
    assert sorted(a.done + b.done) == sorted(sent)


def test_nor_of_an_asyncio_client(servers: tuple[DrainedServer, DrainedServer]) -> None:
    a, b = servers

    async def submit_some(client: AsyncClient, task: int, until: asyncio.Event) -> list[str]:
        sent: list[str] = []
        while not until.is_set():
            sent.append(f"{task} {len(sent)}")
            await client.do("name", sent[-1])
        return sent

    async def submit_all() -> list[str]:
        until = asyncio.Event()
        async with AsyncClient([a.address, b.address]) as client:
            tasks = [asyncio.create_task(submit_some(client, n, until)) for n in range(16)]
            await asyncio.to_thread(await_true, lambda: len(a.done) > 100)
            await asyncio.to_thread(a.drain, "admin")
            await asyncio.to_thread(await_true, a.has_ended)
            until.set()
            return [each for sent in await asyncio.gather(*tasks) for each in sent]

    sent = asyncio.run(submit_all())
    assert sorted(a.done + b.done) == sorted(sent)


def test_a_stop_gives_back_what_waits(servers: tuple[DrainedServer, DrainedServer]) -> None:
    """Without --drain-timeout a server stops at once, and what runs there is lost."""
    a, b = servers
    with Client([a.address, b.address]) as client:
        jobs = [client.submit("idle", b"%d" % number) for number in range(20)]
        there = {job.server for job in jobs}
        assert len(there) == 2
        assert a._process is not None
        assert a._process.end() == 0
        late = Worker(b.address)
        late.add_function("idle", lambda job: b.name)
        with running(late):
            assert [job.result(LIMIT) for job in jobs] == [b"b"] * 20
