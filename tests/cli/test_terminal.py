"""The commands on a terminal of 60 columns."""

import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

CLEAR = "\r\x1b[K"


class Terminal:
    """A terminal, and what was written to it."""

    def __init__(self) -> None:
        self._master, self.slave = os.openpty()
        size = struct.pack("HHHH", 24, 60, 0, 0)
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, size)
        self._text = b""
        self._reader = Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self._master, 4096):
                self._text += data
        except OSError:  # EIO: the terminal is closed
            pass

    def shows(self, text: str) -> bool:
        """Whether that has been written by now."""
        return text in self._text.decode()

    def written(self) -> str:
        """Everything that was written, with the original line ends."""
        if self.slave >= 0:
            os.close(self.slave)
            self.slave = -1
            self._reader.join(30)
            os.close(self._master)
        return self._text.decode().replace("\r\n", "\n")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    made = Terminal()
    yield made
    made.written()


@pytest.fixture(scope="module")
def slow(shared_gearmand: Any) -> Iterator[None]:
    """A worker whose job "halves" reports progress and sends data between."""
    code = Path(__file__).with_name("halves.py")
    worker = subprocess.Popen([sys.executable, str(code), shared_gearmand.address])
    yield
    worker.kill()
    worker.wait()


def gearman(shared_gearmand: Any, *words: str, **streams: Any) -> subprocess.CompletedProcess[Any]:
    where = ("-p", str(shared_gearmand.port), "-h", "127.0.0.1")
    command = [sys.executable, "-m", "gearman_py.cli.gearman", *where, *words]
    return subprocess.run(command, stdin=subprocess.DEVNULL, timeout=120, **streams)


@pytest.mark.usefixtures("slow")
def test_the_progress_bar_is_removed_at_the_end(shared_gearmand: Any, terminal: Terminal) -> None:
    done = gearman(shared_gearmand, "-f", "halves", "x", stdout=-1, stderr=terminal.slave)
    assert done.stdout == b"first\nsecond\n"
    half = f"halves 50% [{'=' * 20}{' ' * 20}]"
    whole = f"halves 100% [{'=' * 40}]"
    assert terminal.written() == f"\r{half}\x1b[K{CLEAR}\r{whole}\x1b[K{CLEAR}"


@pytest.mark.usefixtures("slow")
def test_output_on_the_same_terminal_is_not_written_over(
    shared_gearmand: Any, terminal: Terminal
) -> None:
    gearman(shared_gearmand, "-f", "ragged", "x", stdout=terminal.slave, stderr=terminal.slave)
    bar = f"ragged 50% [{'=' * 20}{' ' * 20}]"
    assert terminal.written() == f"no end of line\n\r{bar}\x1b[K{CLEAR}end\n"


@pytest.mark.usefixtures("slow")
def test_progress_is_lines_where_the_terminal_is_dumb(
    shared_gearmand: Any, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    gearman(shared_gearmand, "-f", "halves", "x", stdout=-1, stderr=terminal.slave)
    assert terminal.written() == "50% Complete\n100% Complete\n"


@pytest.mark.usefixtures("slow")
def test_interrupt_removes_the_bar(
    shared_gearmand: Any, program: Any, until: Any, terminal: Terminal
) -> None:
    where = ("-p", str(shared_gearmand.port), "-f", "stuck", "x")
    client = program("gearman", *where, stderr=terminal.slave)
    until(lambda: terminal.shows("stuck"))
    client.send_signal(signal.SIGINT)
    assert client.wait(30) == 130
    assert terminal.written() == f"\rstuck 1 of 0\x1b[K{CLEAR}"


def gearadmin(
    shared_gearmand: Any, terminal: Terminal, *words: str
) -> subprocess.CompletedProcess[Any]:
    where = ("-h", "127.0.0.1", "-p", str(shared_gearmand.port))
    command = [sys.executable, "-m", "gearman_py.cli.gearadmin", *where, *words]
    return subprocess.run(command, stdout=terminal.slave, timeout=120)


@pytest.mark.parametrize(("no_color", "bold", "plain"), [("", "\x1b[1m", "\x1b[m"), ("1", "", "")])
def test_listings_have_headings(
    shared_gearmand: Any,
    terminal: Terminal,
    monkeypatch: pytest.MonkeyPatch,
    no_color: str,
    bold: str,
    plain: str,
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    gearadmin(shared_gearmand, terminal, "--create-function", "a-rather-long-name", "--status")
    done, heading, *rows = terminal.written().splitlines()
    assert done == "OK"
    width = min(40, max(len(row.split("  ")[0]) for row in rows))  # one long name moves no other
    assert heading == f"{bold}{'FUNCTION':{width}}  JOBS  RUNNING  WORKERS{plain}"
    assert f"{'a-rather-long-name':{width}}     0        0        0" in rows


def test_connections_are_listed_with_their_functions(
    shared_gearmand: Any, terminal: Terminal
) -> None:
    gearadmin(shared_gearmand, terminal, "--workers")
    heading, *rows = terminal.written().splitlines()
    assert heading.removeprefix("\x1b[1m").split()[:3] == ["FD", "ADDRESS", "ID"]
    assert any(row.split()[1:] == ["127.0.0.1", "-"] for row in rows)
