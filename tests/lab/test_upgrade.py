"""Rolling upgrades of real hosts under load: good releases, and each kind of bad one."""

import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, ModuleType

import pytest

from gearman_py import Client, Submit, Worker
from gearman_py.protocol.packets import Packet
from provision.resources.sample_jobs import SAMPLES
from tests.interop.programs import KINDS as KINDS_OF_PEERS
from tests.interop.programs import command
from tests.lab.hosts import INVENTORY, NETWORK
from tests.lab.operator_commands import ROOT, start_command
from tests.peer import Peer
from tests.waiting import LIMIT

SERVER = f"{NETWORK}.247:4730"
WORKERS = tuple(f"worker{n}" for n in range(1, 4))
TWO = "worker1,worker2"  # that show what becomes of a bad release: the first host, and another
ROLLED_BACK = 5
CLIENTS = 4  # that submit in the foreground, one job at a time each
BEGAN = "systemctl show --property=ActiveEnterTimestampMonotonic,NRestarts gearmand"
PAUSE = 0.05  # seconds between two of them: without, load takes all that the upgrade leaves
PICTURE_PAUSE = 0.5  # seconds between two pictures, each of which takes as much CPU as 100 jobs
PROBE_PAUSE = 0.02  # seconds between two looks at a job server that is upgraded
PROBES = 200  # before it is
UPGRADE_SERVER = ("upgrade", "--yes", "--limit", "job_server")


def tree(folder: Path, edits: Mapping[str, str] = MappingProxyType({})) -> Path:
    """A copy of this tree that makes a release of its own: ``edits`` are added to its files."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    for name in listed.stdout.split():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).exists():
            shutil.copy2(ROOT / name, target)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "wheels").symlink_to(ROOT / ".cache" / "wheels")
    unlike_any = {"gearman_py/__init__.py": f"\n# {time.time_ns()}\n"}
    for name, text in [*unlike_any.items(), *edits.items()]:
        file = folder / name
        file.write_text(file.read_text() + text)
    return folder


def begin(
    folder: Path, task: str, *arguments: str, hosts: Path = INVENTORY, **more: str
) -> subprocess.Popen[str]:
    """Start an operator's command, from a tree, to the lab's hosts; ``more``: its environment."""
    if folder == ROOT:
        return start_command(task, "--hosts", str(hosts), *arguments, **more)
    command = [sys.executable, "-m", "invoke", "--search-root", str(folder), task]
    command += ["--hosts", str(hosts)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.Popen(
        [*command, *arguments],
        cwd=folder,
        env=environment | more,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@dataclass
class Ended:
    """How a command ended, and all that it said."""

    status: int
    said: str


def invoke(folder: Path, task: str, *arguments: str, hosts: Path = INVENTORY, **more: str) -> Ended:
    with begin(folder, task, *arguments, hosts=hosts, **more) as process:
        said = process.communicate()[0]
    print(f"$ invoke {task} {' '.join(arguments)}\n{said}exit status {process.returncode}")
    return Ended(process.wait(), said)


@pytest.fixture(scope="module")
def fleet(lab: ModuleType) -> Iterator[ModuleType]:
    """Three workers that run this tree's release."""
    lab.up(print, workers=len(WORKERS))
    done = invoke(ROOT, "deploy", "--yes", "--release", "tree")
    assert done.status == 0, done.said
    yield lab
    back = invoke(ROOT, "deploy", "--yes", "--release", "tree")
    assert back.status == 0, back.said
    lab.up(print)


def root(lab: ModuleType, host: str, script: str) -> str:
    done = lab.run(host, ["sh", "-c", script])
    assert done.returncode == 0, f"{host}: {done.stderr}"
    return str(done.stdout)


def release(lab: ModuleType, host: str) -> str:
    """The release that a host's workers are of: all of one."""
    ids = set()
    for function in ("reverse", "resize", "wc"):
        unit = f"gearman-worker@{function}"
        program = f"tr '\\0' '\\n' < /proc/$(systemctl show -P MainPID {unit})/cmdline | head -1"
        ids.add(re.findall(r"/releases/([^/]+)/", root(lab, host, program))[0])
    assert len(ids) == 1, ids
    return str(ids.pop())


def done(lab: ModuleType, function: str) -> int:
    """How many jobs the units of a function have done, by what each worker says as it leaves."""
    unit, total = f"gearman-worker@{function}", 0
    for host in WORKERS:
        root(lab, host, f"systemctl reset-failed {unit}; systemctl restart {unit}")
        said = "\n".join(lab.journal(host, f"--unit={unit}"))
        total += sum(map(int, re.findall(r"drained after (\d+) jobs?", said)))
    return total


def p99(found: Sequence[float]) -> float:
    """What one of a hundred reaches, or more."""
    return statistics.quantiles(found, n=100)[98]


@dataclass
class Load:
    """Clients that have jobs done all the while: `reverse` and `resize` foreground, `wc`
    background."""

    server: str = SERVER
    latencies: list[tuple[float, float]] = field(default_factory=list)  # when, seconds
    wrong: list[str] = field(default_factory=list)
    queued: int = 0
    resized: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    def _foreground(self, number: int) -> None:
        with Client(self.server, timeout=60) as client:
            for job in range(1_000_000):
                if self._over.wait(PAUSE):
                    return
                workload, began = f"{number}-{job}", time.monotonic()
                try:
                    answer = client.do("reverse", workload.encode()).decode()
                except Exception as error:
                    answer = repr(error)[::-1]
                self.latencies.append((began, time.monotonic() - began))
                if answer != workload[::-1]:
                    self.wrong.append(f"{workload}: {answer[::-1]}")

    def _pictures(self) -> None:
        sample = SAMPLES["resize"]
        with Client(self.server, timeout=60) as client:
            while not self._over.wait(PICTURE_PAUSE):
                try:
                    wrong = sample.judge(client.do("resize", sample.workload()))
                except Exception as error:
                    wrong = repr(error)
                self.resized += 1
                if wrong:
                    self.wrong.append(f"resize: {wrong}")

    def _background(self) -> None:
        with Client(self.server, timeout=60) as client:
            while not self._over.wait(PAUSE):
                client.submit("wc", b"line\n", background=True)
                self.queued += 1

    @contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._foreground, args=(n,)) for n in range(CLIENTS)]
        threads += [threading.Thread(target=each) for each in (self._background, self._pictures)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def p99(self, begin: float, end: float) -> float:
        """Milliseconds that one of a hundred jobs begun in that time took, or longer."""
        return p99([1000 * seconds for began, seconds in self.latencies if begin <= began < end])


def upgraded_under_load(
    lab: ModuleType, folder: Path, limit: str = "worker"
) -> tuple[Ended, Load, dict[str, int]]:
    """Upgrade the workers while jobs come in: what was said, the load, and the jobs done."""
    before = {function: done(lab, function) for function in ("reverse", "wc", "resize")}
    load = Load()
    with load.running():
        began = time.monotonic()
        while len(load.latencies) < 100:
            time.sleep(0.05)
        middle = time.monotonic()
        said = invoke(folder, "upgrade", "--yes", "--limit", limit)
        end = time.monotonic()
    print(
        f"{len(load.latencies)} foreground jobs, {load.resized} pictures, "
        f"{load.queued} background; p99 "
        f"{load.p99(began, middle):.1f} ms before, {load.p99(middle, end):.1f} ms meanwhile"
    )
    return said, load, {each: done(lab, each) - count for each, count in before.items()}


def test_an_upgrade_under_load_loses_fails_and_repeats_no_job(
    fleet: ModuleType, tmp_path: Path
) -> None:
    old = {host: release(fleet, host) for host in WORKERS}
    folder = tree(tmp_path / "tree")
    said, load, jobs = upgraded_under_load(fleet, folder)
    assert said.status == 0
    assert load.wrong == []
    # Each upgraded host has done one job more of each kind: the one it was asked to show.
    assert jobs["reverse"] == len(load.latencies) + len(WORKERS)
    assert jobs["wc"] == load.queued + len(WORKERS)
    assert jobs["resize"] == load.resized + len(WORKERS)
    for host in WORKERS:
        assert release(fleet, host) != old[host]
    lines = [line.split()[:2] for line in said.said.splitlines()]
    assert [line for line in lines if line[1:] == ["upgraded"]][: len(WORKERS)] == [
        [host, "upgraded"] for host in WORKERS
    ]

    back = invoke(folder, "rollback", "--yes", "--limit", "worker")
    assert back.status == 0, back.said
    assert {host: release(fleet, host) for host in WORKERS} == old
    refused = invoke(folder, "plan", "--limit", "worker1", "--release", "tree")
    assert "was given up (rolled back by" in refused.said
    kept = invoke(folder, "plan", "--limit", "worker")
    assert kept.status == 0, kept.said
    bad = r"stays; this tree's release, \S+, was given up \(on worker\d: rolled back by"
    assert re.search(bad, kept.said)


BAD = {
    "crashes on start": {
        "gearman_py/cli/worker.py": "\ndef main(arguments=None):\n    sys.exit('I am broken')\n"
    },
    "fails every job": {
        "gearman_py/functions/reverse.py": "\ndef reverse(workload):\n    raise ValueError('no')\n"
    },
    "hangs": {
        "gearman_py/functions/reverse.py": (
            "\ndef reverse(workload):\n    import time\n    time.sleep(3600)\n"
        )
    },
}


# The others take a minute and a half: UPGRADES=all.
KINDS = BAD if os.environ.get("UPGRADES") == "all" else ["fails every job"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_release_that_does_not_work_is_given_up_before_any_job_meets_it(
    fleet: ModuleType, tmp_path: Path, kind: str
) -> None:
    old = {host: release(fleet, host) for host in WORKERS}
    said, load, jobs = upgraded_under_load(fleet, tree(tmp_path / "tree", BAD[kind]), TWO)
    assert said.status == ROLLED_BACK
    assert load.wrong == []
    assert jobs == {"reverse": len(load.latencies), "wc": load.queued, "resize": load.resized}
    assert {host: release(fleet, host) for host in WORKERS} == old
    assert "given up, before anything that runs was touched" in said.said
    again = invoke(tmp_path / "tree", "upgrade", "--yes", "--limit", "worker")
    assert "was given up" in again.said
    assert again.status == 3


def test_a_release_that_only_fails_in_its_unit_is_put_back_with_the_reason(
    fleet: ModuleType, tmp_path: Path
) -> None:
    old = {host: release(fleet, host) for host in WORKERS}
    broken = (
        "\ndef resize(workload):\n"
        "    if 'gearman-worker@' in open('/proc/self/cgroup').read():\n"
        "        raise ValueError('not here')\n"
        "    return whole(workload)\n"
    )
    broken = "\nwhole = resize\n" + broken
    folder = tree(tmp_path / "tree", {"gearman_py/functions/resize.py": broken})
    said, load, jobs = upgraded_under_load(fleet, folder, TWO)
    assert said.status == ROLLED_BACK
    # Nothing but jobs that are really done could have shown it: worker1 met some.
    assert all("not here" in one for one in load.wrong)
    assert jobs["reverse"] == len(load.latencies) + 2  # asked on the way there, and back
    assert {host: release(fleet, host) for host in WORKERS} == old
    assert f"worker1: resize@worker1 through {NETWORK}.247:4730: " in said.said
    assert "ValueError: not here" in said.said
    assert re.search(r"worker1 +rolled back  ", said.said)
    assert re.search(r"worker2 +staged  but not in use, because of worker1", said.said)
    assert "rolled back, and every host runs what it ran before" in said.said


def test_an_upgrade_whose_operator_is_killed_is_finished_by_the_next(
    fleet: ModuleType, tmp_path: Path
) -> None:
    folder, load = tree(tmp_path / "tree"), Load()
    before = done(fleet, "reverse")
    with load.running():
        with begin(folder, "upgrade", "--yes", "--limit", "worker", "--batch", "1") as process:
            assert process.stdout
            for line in process.stdout:
                if line.split()[:2] == ["worker1", "upgraded"]:
                    process.kill()
        finished = invoke(folder, "upgrade", "--yes", "--limit", "worker", "--batch", "1")
    assert finished.status == 0, finished.said
    assert "worker1  ok" in finished.said
    assert len({release(fleet, host) for host in WORKERS}) == 1
    assert load.wrong == []
    asked = done(fleet, "reverse") - before - len(load.latencies)
    assert len(WORKERS) <= asked <= len(WORKERS) + 1  # worker2 may have been asked twice


@dataclass
class Probe:
    """Has a job done again and again, and connects anew beside it."""

    latencies: list[tuple[float, float]] = field(default_factory=list)  # when, seconds
    problems: list[str] = field(default_factory=list)

    def ask_while(self, old: Client, wanted: Callable[[], bool]) -> None:
        while wanted():
            try:
                workload, began = b"%d" % len(self.latencies), time.monotonic()
                assert old.do("reverse", workload) == workload[::-1]
                self.latencies.append((began, time.monotonic() - began))
                with Client(SERVER, timeout=60) as client:
                    client.ping()
            except Exception as error:
                self.problems.append(repr(error))
            time.sleep(PROBE_PAUSE)

    def describe(self, begin: float, end: float) -> str:
        found = [1000 * seconds for began, seconds in self.latencies if begin <= began < end]
        return f"p99 {p99(found):.0f} ms (longest {max(found):.0f} ms)"


def is_accelerated(lab: ModuleType) -> bool:
    """Whether the process that serves has the accelerator loaded."""
    maps = "grep -c _gearman_speedups /proc/$(systemctl show -P MainPID gearmand)/maps || true"
    return int(root(lab, "server1", maps)) > 0


def test_an_upgrade_of_the_job_server_is_not_noticed_by_its_peers(
    fleet: ModuleType, tmp_path: Path
) -> None:
    """From pure Python to the accelerator, and by a rollback back. Without a compiler it stays."""
    folder = tree(tmp_path / "tree")
    done = invoke(ROOT, *UPGRADE_SERVER, GEARMAN_PURE="1")
    assert done.status == 0, done.said
    assert "server1: pure Python, without the accelerator: GEARMAN_PURE is set on " in done.said
    assert not is_accelerated(fleet)
    told = "server1: pure Python, without the accelerator; `./invoke upgrade --hosts "
    assert told in invoke(ROOT, "status").said
    probe = Probe()
    workloads = {b"%d" % number for number in range(500)}
    with Client(SERVER, timeout=60) as client:
        jobs = [
            Submit(function="kept", workload=workload, background=True)
            for workload in sorted(workloads)
        ]
        handles = {job.handle for job in client.submit_many(jobs)}
    began = root(fleet, "server1", BEGAN)
    with ExitStack() as opened:
        waiting = [opened.enter_context(waiting_client(kind)) for kind in KINDS_OF_PEERS]
        worker = Peer((SERVER.partition(":")[0], 4730))
        opened.enter_context(worker.socket)
        worker.say(Packet.CAN_DO, b"held")
        running = grab_job(worker)
        old = opened.enter_context(Client(SERVER, timeout=60))
        probe.ask_while(old, lambda: len(probe.latencies) < PROBES)
        middle = time.monotonic()
        said = change_job_server(folder, probe, old, *UPGRADE_SERVER)
        print(
            f"{len(probe.latencies)} foreground jobs; {probe.describe(0, middle)} before, "
            f"{probe.describe(middle, math.inf)} meanwhile"
        )
        assert "~ reload gearmand.service  (it runs " in said
        assert probe.problems == []
        assert len(probe.latencies) > PROBES + 50
        assert is_accelerated(fleet)
        done = invoke(folder, *UPGRADE_SERVER, CC="absent-cc")
        assert "nothing to change" in done.said
        for handle in (running, *(grab_job(worker) for _ in waiting[1:])):
            worker.say(Packet.WORK_COMPLETE, handle, b"done")
        for each in waiting:
            assert each.communicate(timeout=LIMIT)[0].splitlines()[-1] == b"complete done"
        said = change_job_server(ROOT, probe, old, "rollback", *UPGRADE_SERVER[1:])
    assert "~ reload gearmand.service  (it runs " in said
    assert probe.problems == []
    assert not is_accelerated(fleet)
    assert root(fleet, "server1", BEGAN) == began, "systemd started it again"
    run = []
    ours = Worker(SERVER)
    ours.add_function("kept", lambda job: run.append((job.workload, job.handle)))
    ours.work()
    assert len(run) == len(workloads)
    assert {workload for workload, _ in run} == workloads
    assert {handle for _, handle in run} == handles
    assert invoke(ROOT, *UPGRADE_SERVER).status == 0
    assert is_accelerated(fleet)


def change_job_server(folder: Path, probe: Probe, client: Client, *words: str) -> str:
    """Run a command of a tree while jobs are asked for; return what it said."""
    with begin(folder, *words) as process:
        probe.ask_while(client, lambda: process.poll() is None)
        said = process.stdout.read() if process.stdout else ""
    assert process.returncode == 0, said
    return said


@contextmanager
def waiting_client(kind: str) -> Iterator[subprocess.Popen[bytes]]:
    """A client that waits for a job of `held`, and whose job is queued."""
    pipe = subprocess.PIPE
    words = command(kind, "do", SERVER, "held")
    with subprocess.Popen(words, cwd=ROOT, stdin=pipe, stdout=pipe) as client:
        try:
            assert client.stdin and client.stdout
            client.stdin.write(b"x")
            client.stdin.close()
            assert client.stdout.readline().startswith(b"created ")
            client.stdin = None
            yield client
        finally:
            client.kill()


def grab_job(worker: Peer) -> bytes:
    answer = worker.ask(Packet.GRAB_JOB)
    assert answer[0] == "JOB_ASSIGN"
    return bytes(answer[1])
