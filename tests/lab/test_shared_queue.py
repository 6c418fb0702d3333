"""Two job servers of an inventory that share a database: one is killed, held up, cut off."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from gearman_py import TLS, Client, GearmanError, Worker
from tests.authority import Authority
from tests.lab.hosts import INVENTORY as LAB_INVENTORY
from tests.lab.hosts import NETWORK, root
from tests.lab.operator_commands import ROOT
from tests.lab.test_upgrade import invoke
from tests.server import databases
from tests.server.guarded_databases import PASSWORD, USER, Postgres, Redis
from tests.tally import tally
from tests.waiting import LIMIT, await_true

HERE = f"{NETWORK}.1"  # of this machine, in the lab's network
SERVERS_BY_NAME = {"server1": f"{NETWORK}.247:4730", "client1": f"{NETWORK}.246:4730"}
SERVERS = list(SERVERS_BY_NAME.values())
PAUSE = 0.01  # seconds between two jobs: without, load takes all that the servers leave
JOURNAL = "journalctl --unit gearmand --since=-120s"
CUT_OFF = """
nft add table inet cut
nft 'add chain inet cut out { type filter hook output priority 0; }'
nft add rule inet cut out tcp dport %d drop
"""
VARIABLE = "DATABASE_PASSWORD"
INVENTORY = f"""\
all:
  vars:
    gearman_memory: %s
    gearman_tls: %s
    ansible_user: deploy
    ansible_ssh_private_key_file: id_ed25519
  children:
    job_server:
      vars:
        gearman_queue: %s
        gearman_database: %s
        gearman_database_ca: ca.pem
        gearman_database_password: {{env: {VARIABLE}}}
      hosts:
        server1: {{ansible_host: {NETWORK}.247}}
        client1:
    client:
      hosts:
        client1: {{ansible_host: {NETWORK}.246}}
    worker:
      hosts:
        worker1: {{ansible_host: {NETWORK}.248, gearman_functions: [wc]}}
"""


@pytest.fixture
def folder(keyless_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of an inventory that gets its password from the environment."""
    monkeypatch.setenv(VARIABLE, PASSWORD)
    return keyless_folder


@pytest.fixture
def of_databases() -> Iterator[Path]:
    with databases.open_folder() as made:
        yield made


class Load:
    """Background jobs of a client and a worker of both servers, and what became of them."""

    def __init__(self, tls: TLS | None) -> None:
        self._tls = tls
        self.acknowledged: set[int] = set()
        self.runs: Counter[int] = Counter()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Jobs are submitted until the block ends, and then all that were acknowledged have run."""
        over, done = threading.Event(), threading.Event()
        threads = [
            threading.Thread(target=self._submit, args=(over,)),
            threading.Thread(target=self._work, args=(done,)),
        ]
        for thread in threads:
            thread.start()
        try:
            yield
            over.set()
            await_true(lambda: self.acknowledged <= set(self.runs), 4 * LIMIT, interval=0.1)
        finally:
            over.set()
            done.set()
            for thread in threads:
                thread.join()

    def await_more(self, number: int = 100) -> float:
        """Seconds until so many more jobs are acknowledged."""
        began, wanted = time.monotonic(), len(self.acknowledged) + number
        await_true(lambda: len(self.acknowledged) > wanted, 2 * LIMIT)
        return time.monotonic() - began

    def queue_late_ones(self, server: str) -> None:
        """Jobs that wait at a server, and have to be taken over by another if it fails."""
        with Client(server, tls=self._tls) as client:
            for number in range(-10, 0):
                await_true(partial(self._is_queued, client, number))

    def _is_queued(self, client: Client, number: int) -> bool:
        with suppress(GearmanError):
            client.do_background("count", b"%d" % number, at=time.time() + 20)
            self.acknowledged.add(number)
        return number in self.acknowledged

    def _submit(self, over: threading.Event) -> None:
        with Client(SERVERS, tls=self._tls) as client:
            for number in itertools.count():
                if over.wait(PAUSE):
                    return
                with suppress(GearmanError):  # then nobody can know whether it will run
                    client.do_background("count", b"%d" % number)
                    self.acknowledged.add(number)

    def _work(self, done: threading.Event) -> None:
        worker = Worker(SERVERS, tls=self._tls)
        worker.add_function("count", lambda job: self.runs.update([int(job.workload)]))
        while not done.is_set():
            with suppress(GearmanError):
                worker.work(timeout=1.0)


def write_inventory(
    folder: Path, queue: str, database: str, memory: str = "512M", tls: str = "false"
) -> None:
    (folder / "hosts.yml").write_text(INVENTORY % (memory, tls, queue, database))


def deploy_tree(folder: Path) -> None:
    """With a release that brings what the queue takes."""
    done = invoke(ROOT, "deploy", "--release", "tree", "--yes", hosts=folder)
    assert done.status == 0, done.said
    assert PASSWORD not in done.said


def test_two_servers_on_a_database_lose_no_job_whatever_happens_to_one(
    lab: ModuleType, folder: Path, of_databases: Path
) -> None:
    """On PostgreSQL, and then on Redis, where the fleet has TLS."""
    authority = Authority(folder, "ca")
    postgres = Postgres(of_databases, authority, HERE)
    (of_databases / "redis").mkdir()
    redis = Redis(of_databases / "redis", authority, HERE)
    place = f"{HERE}:{postgres.port}"
    with databases.running(postgres), databases.running(redis):
        jobs = f"postgresql://{USER}@{place}/jobs"
        write_inventory(folder, "postgres", jobs)
        deploy_tree(folder)
        assert invoke(ROOT, "plan", hosts=folder).status == 0
        assert invoke(ROOT, "smoke", hosts=folder).status == 0
        check_that_nothing_tells_the_password(lab)
        check_that_a_wrong_password_stops_nothing(lab, folder)
        check_that_the_doctor_asks_the_database(folder)
        with journals_if_it_fails(lab):
            trouble(lab, folder, postgres.port)
            databases.kill(postgres)
            check_that_what_still_serves_is_left_alone(lab, folder, jobs)
        databases.Postgres.start(postgres)

        write_inventory(folder, "redis", f"rediss://{USER}@{HERE}:{redis.tls_port}", tls="true")
        refused = invoke(ROOT, "deploy", "--yes", hosts=folder)
        assert refused.status == 3
        assert "gearman_queue: redis needs redis, which release" in refused.said
        deploy_tree(folder)
        with journals_if_it_fails(lab):
            trouble(lab, folder, redis.tls_port, files_of_worker(lab, folder))
        deploy_tree(LAB_INVENTORY)  # as other tests expect it


def server_pids(lab: ModuleType) -> list[str]:
    return [root(lab, host, "systemctl show -P MainPID gearmand") for host in SERVERS_BY_NAME]


def check_that_the_doctor_asks_the_database(folder: Path) -> None:
    done = invoke(ROOT, "doctor", hosts=folder)
    assert done.said.count("  ok    database    PostgreSQL ") == len(SERVERS), done.said
    assert invoke(ROOT, "status", hosts=folder).status == 0


def check_that_what_still_serves_is_left_alone(lab: ModuleType, folder: Path, jobs: str) -> None:
    """While the database is gone; and it is told that it is."""
    with Client(SERVERS) as client, suppress(GearmanError):
        client.do_background("count", b"0")
    before = server_pids(lab)

    def told() -> bool:
        return invoke(ROOT, "status", hosts=folder).said.count("refuses jobs: background") == 2

    await_true(told, 2 * LIMIT, interval=1)
    assert invoke(ROOT, "status", hosts=folder).status == 3
    done = invoke(ROOT, "doctor", "--problems", hosts=folder)
    assert done.status == 3
    assert done.said.count("its job server refuses jobs: background jobs cannot be stored") == 2
    assert done.said.count("fail  database    jobs cannot be stored: ") == 2
    assert "--purge" not in done.said
    write_inventory(folder, "postgres", jobs, memory="400M")  # which takes a restart
    upgraded = invoke(ROOT, "upgrade", "--yes", "--gap", hosts=folder)
    assert upgraded.status == 5
    assert "given up, before anything that runs was touched" in upgraded.said
    assert server_pids(lab) == before
    write_inventory(folder, "postgres", jobs)


def check_that_a_wrong_password_stops_nothing(lab: ModuleType, folder: Path) -> None:
    before = server_pids(lab)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "guess-of-someone")
        refused = invoke(ROOT, "deploy", "--yes", hosts=folder)
    assert refused.status == 5, refused.said
    assert "password authentication failed" in refused.said
    assert "given up, before its job server was touched" in refused.said
    assert server_pids(lab) == before
    done = invoke(ROOT, "deploy", "--yes", hosts=folder)
    assert done.status == 0, done.said


def check_that_nothing_tells_the_password(lab: ModuleType) -> None:
    everywhere = "cat /etc/systemd/system/gearmand.service /proc/[0-9]*/cmdline; journalctl"
    for host in SERVERS_BY_NAME:
        assert PASSWORD not in root(lab, host, everywhere)
        environment = "cat /proc/$(systemctl show -P MainPID gearmand)/environ"
        assert PASSWORD not in root(lab, host, environment)


@contextmanager
def journals_if_it_fails(lab: ModuleType) -> Iterator[None]:
    try:
        yield
    except AssertionError:
        for host in SERVERS_BY_NAME:
            print(host, root(lab, host, JOURNAL))
        raise


def files_of_worker(lab: ModuleType, folder: Path) -> TLS:
    """The certificate and the key of worker1, for use here."""
    for name in ("host.pem", "host.key"):
        (folder / name).write_text(root(lab, "worker1", f"cat /etc/gearman/tls/{name}"))
    return TLS(*(str(folder / name) for name in ("tls/ca.pem", "host.pem", "host.key")))


def trouble(lab: ModuleType, folder: Path, port: int, tls: TLS | None = None) -> None:
    """What may happen to a server while clients and workers go on."""
    load = Load(tls)
    with load.running():
        load.await_more()
        root(lab, "server1", "systemctl kill --signal=KILL gearmand")
        waits = {"killed": load.await_more()}
        load.queue_late_ones(SERVERS_BY_NAME["server1"])
        root(lab, "server1", "systemctl kill --signal=STOP gearmand")
        waits["held up"] = load.await_more()
        await_true(lambda: "took over" in root(lab, "client1", JOURNAL), 2 * LIMIT, interval=0.5)
        root(lab, "server1", "systemctl kill --signal=CONT gearmand")
        waits["goes on"] = load.await_more()
        root(lab, "client1", CUT_OFF % port)
        waits["cut off"] = load.await_more()
        refusing = "refusing background jobs"
        await_true(lambda: refusing in root(lab, "client1", JOURNAL), 2 * LIMIT, interval=0.5)
        root(lab, "client1", "nft delete table inet cut")
        waits["back"] = load.await_more()
        root(lab, "server1", "systemctl reload gearmand")
        waits["reloaded"] = load.await_more()
        for verb in ("drain", "undrain"):
            done = invoke(ROOT, verb, "server1", "--yes", hosts=folder)
            assert done.status == 0, done.said
            waits[f"{verb}ed"] = load.await_more()
    twice = sum(count > 1 for count in load.runs.values())
    tally("database fleet", acknowledged=len(load.acknowledged), lost=0, ran_twice=twice)
    print({name: round(seconds, 1) for name, seconds in waits.items()})
