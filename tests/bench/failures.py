"""How long clients wait when one of two job servers fails, or the network, or their database.

    python -m tests.bench.failures [EVENT ...]        # as root

The first server is in a network namespace of its own, the second and a Redis on this machine, as
are the clients and the workers; so the first can be cut off from them, or from the database. Of
the clients that wait for a foreground job of a second each, half submit again what is lost
(``on_lost="resubmit"``). Prints for each event the longest that one waited for a result, when the
first lost job was told, and how long the submitters of background jobs waited at most.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gearman_py import AdminClient, Client, GearmanError, Worker
from gearman_py.testing import running
from tests.job_servers import OUR_GEARMAND, GearmandProcess
from tests.ports import reserve_port
from tests.server import databases
from tests.server.databases import Redis
from tests.waiting import await_true

SPACE, LINKS = "gearman-bench", ("gearman-near", "gearman-far")
NEAR, FAR = "198.18.77.1", "198.18.77.2"
CLIENTS = 8  # that wait
JOB = 1.0  # seconds that a job takes
PAUSE = 0.02  # seconds between two background jobs
OUTAGE = 15.0  # seconds
SILENCE = 110.0  # the same where connections just fall silent: keepalive takes 90


@dataclass
class Waits:
    """What the clients saw: seconds."""

    results: float = 0.0
    resubmitted: float = 0.0
    submissions: float = 0.0
    lost: list[float] = field(default_factory=list)  # since the event
    refused: int = 0

    def __str__(self) -> str:
        lost = f"{len(self.lost)} told of a lost job" + (
            f" after {min(self.lost):.1f} to {max(self.lost):.1f} s" if self.lost else ""
        )
        return (
            f"longest wait for a result {self.results:.1f} s, of those that submit again "
            f"{self.resubmitted:.1f} s; {lost}; longest wait of a submitter "
            f"{self.submissions:.1f} s, {self.refused} refused"
        )


class Scene:
    """Two servers, their database, and what can happen to them."""

    def __init__(self, folder: Path, database: Redis) -> None:
        self._folder, self.database = folder, database
        self.port = reserve_port()
        self._options = [*database.options, "--redis-server", NEAR]
        self.first = f"{FAR}:{self.port}"
        self.second = f"{NEAR}:{self.port}"

    def start(self, address: str, *before: str) -> GearmandProcess:
        (folder := self._folder / f"{address}-{time.monotonic_ns()}").mkdir()
        where = ["-L", address, "-p", str(self.port), "-v", "--job-handle-prefix", f"H:{address}"]
        where += ["--drain-timeout", "10", "--admin-listen", f"unix:{folder}/admin"]
        server = GearmandProcess([*where, *self._options], folder, before=before)
        await_true(lambda: "listens on" in server.log, 30)
        self.admin = f"unix:{folder}/admin"
        return server

    def start_first(self) -> None:
        self._first = self.start(FAR, "ip", "netns", "exec", SPACE)
        with AdminClient(self.admin) as admin:
            self.pid = int(admin.value("getpid"))

    def signal_first(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def end_first(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.signal_first(signal.SIGKILL)
        self._first.process.wait()

    def await_end(self) -> None:
        await_true(lambda: self._first.process.poll() is not None, 30)


@contextlib.contextmanager
def blocked(*rule: str) -> Iterator[None]:
    """What the first server sends so does not arrive."""
    tool = "ip", "netns", "exec", SPACE, "iptables"
    subprocess.run([*tool, "-A", "OUTPUT", *rule, "-j", "DROP"], check=True)
    try:
        yield
    finally:
        subprocess.run([*tool, "-D", "OUTPUT", *rule, "-j", "DROP"], check=True)


def kill(scene: Scene) -> None:
    scene.end_first()
    time.sleep(1)  # as systemd
    scene.start_first()


def freeze(scene: Scene) -> None:
    scene.signal_first(signal.SIGSTOP)
    time.sleep(SILENCE)
    scene.signal_first(signal.SIGCONT)
    scene.await_end()
    scene.start_first()


def lose_host(scene: Scene) -> None:
    with blocked():
        time.sleep(SILENCE)
    scene.await_end()
    scene.start_first()


def cut_from_clients(scene: Scene) -> None:
    with blocked("-p", "tcp", "--sport", str(scene.port)):
        time.sleep(SILENCE)


def cut_from_database(scene: Scene) -> None:
    with blocked("-p", "tcp", "--dport", str(scene.database.port)):
        time.sleep(OUTAGE)
    scene.await_end()
    scene.start_first()


def lose_database(scene: Scene) -> None:
    databases.kill(scene.database)
    time.sleep(OUTAGE)
    scene.database.start()


def lose_both(scene: Scene) -> None:
    databases.kill(scene.database)
    scene.end_first()
    time.sleep(OUTAGE)
    scene.database.start()
    scene.start_first()


def drain(scene: Scene) -> None:
    scene.signal_first(signal.SIGTERM)
    scene.await_end()
    scene.start_first()


def reload(scene: Scene) -> None:
    words = ["ip", "netns", "exec", SPACE, *OUR_GEARMAND, "--reload", str(scene.pid)]
    subprocess.run(words, check=True)
    with AdminClient(scene.admin) as admin:
        scene.pid = int(admin.value("getpid"))


EVENTS: dict[str, Callable[[Scene], None]] = {
    "killed": kill,
    "frozen": freeze,
    "host gone": lose_host,
    "cut off from clients": cut_from_clients,
    "cut off from the database": cut_from_database,
    "database gone": lose_database,
    "server and database gone": lose_both,
    "drained": drain,
    "reloaded": reload,
}


class Peers:
    """Clients that wait, clients that submit background jobs, and workers, of both servers."""

    def __init__(self, scene: Scene) -> None:
        self._servers = [scene.first, scene.second]
        self._over = threading.Event()
        self._lock = threading.Lock()
        self.waits = Waits()
        self.began = 0.0  # when it happened

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        worker = Worker(self._servers, concurrency=2 * CLIENTS)
        worker.add_function("wait", lambda job: time.sleep(JOB))
        worker.add_function("note", lambda job: None)
        threads = [threading.Thread(target=self._wait, args=(n,)) for n in range(CLIENTS)]
        threads += [threading.Thread(target=self._submit) for _ in range(2)]
        with running(worker):
            for thread in threads:
                thread.start()
            yield
            self._over.set()
            for thread in threads:
                thread.join()

    def _wait(self, number: int) -> None:
        again = number % 2 == 0
        with Client(self._servers, on_lost="resubmit" if again else "raise") as client:
            while not self._over.is_set():
                began = time.monotonic()
                try:
                    client.do("wait")
                except GearmanError:
                    with self._lock:
                        self.waits.lost.append(time.monotonic() - self.began)
                waited = time.monotonic() - began
                with self._lock:
                    which = "resubmitted" if again else "results"
                    setattr(self.waits, which, max(waited, getattr(self.waits, which)))

    def _submit(self) -> None:
        with Client(self._servers) as client:
            while not self._over.wait(PAUSE):
                began = time.monotonic()
                refused = 0
                try:
                    client.do_background("note")
                except GearmanError:
                    refused = 1
                with self._lock:
                    self.waits.refused += refused
                    longest = max(self.waits.submissions, time.monotonic() - began)
                    self.waits.submissions = longest


@contextlib.contextmanager
def namespace() -> Iterator[None]:
    """The network of the first server."""
    near, far = LINKS
    inside = "ip", "-n", SPACE
    subprocess.run(["ip", "netns", "add", SPACE], check=True)
    try:
        for words in (
            ["ip", "link", "add", near, "type", "veth", "peer", far, "netns", SPACE],
            ["ip", "address", "add", f"{NEAR}/30", "dev", near],
            ["ip", "link", "set", near, "up"],
            [*inside, "address", "add", f"{FAR}/30", "dev", far],
            [*inside, "link", "set", far, "up"],
            [*inside, "link", "set", "lo", "up"],
        ):
            subprocess.run(words, check=True)
        yield
    finally:
        subprocess.run(["ip", "link", "delete", near], check=False)
        subprocess.run(["ip", "netns", "delete", SPACE], check=True)


def measure(event: str, folder: Path) -> Waits:
    with contextlib.ExitStack() as stack:
        stack.enter_context(namespace())
        database = Redis(stack.enter_context(databases.open_folder()), address=NEAR)
        stack.enter_context(databases.running(database))
        scene = Scene(folder, database)
        second = scene.start(NEAR)
        stack.callback(second.process.wait)
        stack.callback(second.kill)
        scene.start_first()
        stack.callback(scene.end_first)
        peers = Peers(scene)
        with peers.running():
            time.sleep(3 * JOB)
            peers.waits, peers.began = Waits(), time.monotonic()
            EVENTS[event](scene)
            time.sleep(3 * JOB)
        return peers.waits


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("events", nargs="*", default=[*EVENTS], choices=[*EVENTS])
    for event in parser.parse_args().events:
        with tempfile.TemporaryDirectory() as folder:
            print(f"{event}: {measure(event, Path(folder))}", flush=True)


if __name__ == "__main__":
    main()
