"""Databases that job servers can share, each a process of its own that can be killed or held up."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import redis

from tests.ports import reserve_port
from tests.waiting import LIMIT, await_true

LOOPBACK = "127.0.0.1"


class Database(Protocol):
    """``options``: what a job server is told to use it."""

    options: list[str]

    def start(self) -> None: ...

    def pids(self) -> list[int]: ...


class Postgres:
    """PostgreSQL, as the user postgres: it refuses to run as root."""

    def __init__(self, folder: Path, empty: Path | None = None, *, address: str = LOOPBACK) -> None:
        """``empty``: the data of one that was made but never started, to begin with."""
        # Debian's are in no PATH, a folder a version.
        [*_, self._programs] = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        self._as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
        shutil.chown(folder, "postgres", "postgres")
        self.data = folder / "data"
        self.port = reserve_port()
        if empty is None:
            words = ["-D", str(self.data), "-A", "trust", "-U", "postgres", "--no-sync"]
            self._run("initdb", *words)
        else:
            subprocess.run(["cp", "-a", empty, self.data], check=True)
        self.address = address
        self.where = f"host={address} port={self.port} user=postgres dbname=postgres"
        self.options = ["-q", "postgres", "--postgres", self.where]

    def _run(self, program: str, *words: str) -> None:
        command = [*self._as, str(self._programs / program), *words]
        subprocess.run(command, check=True, capture_output=True, cwd="/")

    def start(self) -> None:
        (self.data / "postmaster.pid").unlink(missing_ok=True)  # of one that was killed
        options = f"-p {self.port} -c listen_addresses={self.address} -c unix_socket_directories="
        log = str(self.data / "log")
        self._run("pg_ctl", "start", "-w", "-D", str(self.data), "-l", log, "-o", options)

    def pids(self) -> list[int]:
        first = int((self.data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [first, *map(int, children)]


class Redis:
    """Redis, which keeps what it says that it keeps."""

    def __init__(self, folder: Path, *words: str, address: str = LOOPBACK) -> None:
        self.address = address
        self.port = reserve_port()
        self._command = ["redis-server", "--port", str(self.port), "--bind", address]
        self._pid = folder / "pid"
        self._command += ["--daemonize", "yes", "--pidfile", str(self._pid)]
        self._command += ["--dir", str(folder), "--save", "", "--protected-mode", "no"]
        self._command += words or ("--appendonly", "yes", "--appendfsync", "always")
        self.options = ["-q", "redis", "--redis-port", str(self.port)]

    def start(self) -> None:
        subprocess.run(self._command, check=True, stdout=subprocess.DEVNULL)
        await_true(self._answers)

    def connect(self) -> Any:
        """A client of it."""
        return redis.Redis(host=self.address, port=self.port)

    def _answers(self) -> bool:
        try:
            with socket.create_connection((self.address, self.port), LIMIT) as peer:
                peer.sendall(b"PING\r\n")
                return peer.recv(100) == b"+PONG\r\n"
        except OSError:
            return False

    def pids(self) -> list[int]:
        return [int(self._pid.read_text())]


class Wire:
    """A way to a port of this host that can be disturbed.

    ``deaf``: answers are thrown away. ``cut``: new connections are held too. ``holds``: something
    is held. ``delivered``: it has arrived.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._door = socket.create_server((LOOPBACK, 0))
        self.port: int = self._door.getsockname()[1]
        self.deaf = self.cut = False
        self.holds = self.delivered = False
        self._since = b""
        self._held: set[socket.socket] = set()
        self._open: set[socket.socket] = set()
        self._released = threading.Event()
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._begin(self._accept)

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *error: object) -> None:
        self._released.set()
        self._door.shutdown(socket.SHUT_RDWR)
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in [self._door, *self._ends]:
            end.close()

    def hold(self, since: bytes = b"") -> None:
        """Keep back what comes by the connections that there are, from these bytes on."""
        self._since = since
        self._held |= self._open

    def release(self) -> None:
        """Let it arrive."""
        self._released.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._door.accept()
                far = socket.create_connection((LOOPBACK, self._to))
                self._open.add(near)
                if self.cut:
                    self._held.add(near)
                self._ends += (near, far)
                self._begin(self._carry, near, far)
                self._begin(self._carry, far, near)

    def _begin(self, target: Callable[..., None], *ends: socket.socket) -> None:
        self._threads.append(threading.Thread(target=target, args=ends, daemon=True))
        self._threads[-1].start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(2**16):
                held = source in self._held and self._since in data
                if held:
                    first = data.index(self._since)
                    target.sendall(data[:first])
                    data = data[first:]
                    self.holds = True
                    self._released.wait()
                if source in self._open or not self.deaf:
                    target.sendall(data)
                self.delivered |= held
            target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that other users reach."""
    folder = Path(tempfile.mkdtemp(prefix="database-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def running(database: Database) -> Iterator[None]:
    """It runs until the block ends."""
    database.start()
    try:
        yield
    finally:
        kill(database)


def send(database: Database, number: signal.Signals) -> None:
    """Send a signal to all of its processes."""
    for pid in database.pids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def kill(database: Database) -> None:
    """Kill -9, and wait until nothing of it is left."""
    send(database, signal.SIGSTOP)  # else it goes on to make processes
    pids = database.pids()
    send(database, signal.SIGKILL)
    deadline = time.monotonic() + LIMIT
    while any(_alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _alive(pid: int) -> bool:
    """Whether it may have its sockets: the other threads of a zombie may not have ended yet."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z" or len(os.listdir(f"/proc/{pid}/task")) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False
