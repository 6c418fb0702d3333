"""The programs in peers/: clients and workers that understand the same words in each language.

``do``, ``queue``, ``status``, ``many``, ``ping`` are clients of one kind of question each,
``work`` is a worker; each says at its top what it takes and prints. The C ones are
libgearman itself, driven through ctypes: its tool `gearman` offers only a part of it.
"""

import subprocess
import sys
from pathlib import Path

from tests.job_servers import JobServer
from tests.waiting import await_true

ROOT = Path(__file__).parents[2]
PEERS = Path(__file__).parent / "peers"
KINDS = ("C", "PHP", "Perl")

Lines = list[bytes]
Program = subprocess.Popen[bytes]


def command(kind: str, program: str, server: str, *words: object) -> list[str]:
    """The command that starts such a program; its servers are HOST:PORT,..."""
    language = {
        "C": [sys.executable, "-m", f"tests.interop.peers.c.{program}"],
        "PHP": ["php", str(PEERS / "php" / f"{program}.php")],
        "Perl": ["perl", str(PEERS / "perl" / f"{program}.pl")],
    }[kind]
    return [*language, server, *map(str, words)]


def tool(server: str, *words: str) -> list[str]:
    """Debian's `gearman`."""
    host, port = server.split(":")
    return ["gearman", "-h", host, "-p", port, *words]


def run(command: list[str], workload: bytes = b"") -> Lines:
    """What it prints; fails where it fails."""
    done = subprocess.run(command, input=workload, capture_output=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def ask(kind: str, program: str, server: str, *words: object, workload: bytes = b"") -> Lines:
    """What such a client prints."""
    return run(command(kind, program, server, *words), workload)


class Stage:
    """Where programs are started; ``close`` kills what is left of them."""

    def __init__(self, server: JobServer) -> None:
        self._server = server
        self._running: list[Program] = []

    def start(self, command: list[str], workload: bytes | None = None) -> Program:
        """Start a program and have it read this workload; None: it may be told one later."""
        pipe = subprocess.PIPE
        program = subprocess.Popen(
            command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL
        )
        self._running.append(program)
        if workload is not None:
            say(program, workload)
        return program

    def client(self, kind: str, *words: object, workload: bytes = b"x") -> Program:
        """Start a client of one foreground job."""
        return self.start(command(kind, "do", self._server.address, *words), workload)

    def worker(
        self, kind: str, *functions: str, limit: int = 0, servers: str | None = None
    ) -> Program:
        """Start a worker that does BEHAVIOUR for each "FUNCTION BEHAVIOUR"."""
        words = [word for function in functions for word in (*function.split(), str(limit))]
        started = command(kind, "work", servers or self._server.address, *words)
        return self.serving(started, *(function.split()[0] for function in functions))

    def serving(self, command: list[str], *functions: str) -> Program:
        """Start a worker and wait until the server knows that it can do these functions."""
        workers = self._server.workers_of
        before = {function: workers(function) for function in functions}
        program = self.start(command)
        await_true(lambda: all(workers(function) > before[function] for function in functions))
        return program

    def close(self) -> None:
        for program in self._running:
            program.kill()
            with program:  # closes its pipes and waits
                pass


def say(program: Program, text: bytes = b"\n") -> None:
    """Send a started program something to read, and no more."""
    assert program.stdin is not None
    program.stdin.write(text)
    program.stdin.close()


def hear(program: Program) -> bytes:
    """The next line that a started program prints."""
    assert program.stdout is not None
    return program.stdout.readline().removesuffix(b"\n")
