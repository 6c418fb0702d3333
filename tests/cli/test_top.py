"""gearadmin top: all job servers as one, on a terminal of 80 columns; gearadmin --stats."""

import asyncio
import fcntl
import json
import os
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gearman_py import AdminClient, AdminError, AsyncAdminClient, Client
from gearman_py.admin.answers import FunctionStats
from gearman_py.cli.top import COLUMNS, Snapshot, TopScreen, format_seconds
from gearman_py.protocol.packets import Packet
from tests.job_servers import C_GEARMAND, running_server
from tests.peer import Peer
from tests.ports import reserve_port
from tests.waiting import LIMIT, await_true

Run = Callable[..., subprocess.CompletedProcess[bytes]]


WRITTEN = re.compile(r"\x1b\[([\d;?]*)([A-Za-z])|\x1b[()].|\x1b.|\x0f|\x0e|(.)", re.DOTALL)


def draw(written: str) -> str:
    """What a VT100 of 24 x 80 shows after that."""
    cells = [[" "] * 80 for _ in range(25)]
    row = column = 0
    for found in WRITTEN.finditer(written):
        numbers = [int(each) for each in re.findall(r"\d+", found[1] or "")]
        count = numbers[0] if numbers else 1
        match found[2] or found[3]:
            case "H" if found[2]:
                row, column = (numbers[0] - 1, numbers[1] - 1) if len(numbers) == 2 else (0, 0)
            case "J" if found[2]:
                cells[row][column:] = " " * (80 - column)
                cells[row + 1 :] = [[" "] * 80 for _ in cells[row + 1 :]]
            case "K" if found[2]:
                cells[row][column:] = " " * (80 - column)
            case "A" if found[2]:
                row -= count
            case "B" if found[2]:
                row += count
            case "C" if found[2]:
                column += count
            case "D" if found[2]:
                column -= count
            case "\r":
                column = 0
            case "\n":
                row += 1
            case "\b":
                column -= 1
            case str() if found[3]:
                cells[row][column] = found[3]
                column = min(79, column + 1)
    return "\n".join("".join(each).rstrip() for each in cells)


class Screen:
    """gearadmin top on a terminal."""

    def __init__(self, *words: str) -> None:
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gearman_py.cli.gearadmin", "top", *words],
            stdin=slave,
            stdout=slave,
            env={**os.environ, "TERM": "vt100"},
            start_new_session=True,
        )
        os.close(slave)
        self._written = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self._master, 4096):
                self._written += data
        except OSError:  # EIO: the program is gone
            pass

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def await_text(self, text: str) -> None:
        await_true(lambda: text in draw(self._written.decode(errors="ignore")))

    def close(self) -> None:
        self.process.kill()
        self.process.wait(LIMIT)
        os.close(self._master)


@pytest.fixture
def screen() -> Iterator[Callable[..., Screen]]:
    opened = []

    def begin(*words: str) -> Screen:
        opened.append(Screen(*words))
        return opened[-1]

    yield begin
    for each in opened:
        each.close()


@pytest.mark.interop
def test_two_servers_are_watched_as_one(
    gearmand: Any, screen: Callable[..., Screen], tmp_path: Path
) -> None:
    """One of them C's, and one that is not there."""
    dead = f"127.0.0.1:{reserve_port()}"
    with (
        running_server(C_GEARMAND, tmp_path) as (host, port),
        Client(gearmand.address) as client,
        Client(f"{host}:{port}") as other,
    ):
        for _ in range(3):
            client.do_background("resize", b"x")
            other.do_background("resize", b"x")
        client.do_background("reverse", b"x")
        servers = gearmand.address, f"{host}:{port}", dead
        top = screen(*(word for server in servers for word in ("-h", server)))
        top.await_text("2 of 3 job servers   7 waiting   0 running")
        top.await_text(f"{dead}: Connection refused")
        top.await_text("       6       0       0")
        top.press("/rev\n")
        top.await_text("1 waiting")
        top.press("\x1b")
        top.await_text("7 waiting")
        top.press("q")
        assert top.process.wait(LIMIT) == 0


def test_top_ends_with_its_terminal() -> None:
    """Even as a process that the terminal does not control, which SIGHUP does not reach."""
    master, slave = os.openpty()
    command = [sys.executable, "-m", "gearman_py.cli.gearadmin", "top", "-h", "127.0.0.1:1"]
    environment = {**os.environ, "TERM": "vt100"}
    top = subprocess.Popen(
        command, stdin=slave, stdout=slave, env=environment, start_new_session=True
    )
    try:
        os.close(slave)
        assert os.read(master, 4096)
        os.close(master)
        assert top.wait(LIMIT) == 141
    finally:
        top.kill()


def show(screen: TopScreen, width: int = 80, height: int = 24) -> list[str]:
    lines, _ = screen.lines(width, height)
    return lines


def test_rows_are_sorted_filtered_and_walked_through() -> None:
    top = TopScreen()
    names = [f"function-{number:02}" for number in range(40)]
    before = {name: FunctionStats(name) for name in names}
    now = {
        name: FunctionStats(
            name,
            waiting=number,
            accepted=2 * number,
            completed=number,
            started=number,
            run_seconds=number * 0.25,
        )
        for number, name in enumerate(names)
    }
    top.update(Snapshot(10.0, before, [], 1))
    top.update(Snapshot(12.0, now, [], 1))
    lines = show(top)
    assert len(lines) == 24
    assert lines[2].split() == [
        "39",
        "0",
        "0",
        "0ms",
        "39.0",
        "19.5",
        "0.0",
        "250ms",
        "function-39",
    ]
    for _ in range(30):
        top.press("j")
    lines, selected = top.lines(80, 24)
    assert lines[selected].endswith("function-09")
    top.press("r")
    assert show(top)[2].endswith("function-30") or top.rows()[0].stats.name == "function-00"
    for heading in [column.heading for column in COLUMNS[1:]]:
        top.press("s")
        assert top.sort == heading
    for key in "/-07":
        top.press(key)
    assert [row.stats.name for row in top.rows()] == ["function-07"]
    assert show(top)[-1] == "/-07"


def test_80_columns_are_enough_and_long_names_are_cut() -> None:
    top = TopScreen()
    name = "a function \x1b[31m with a very long name " * 5
    many = FunctionStats(
        name, waiting=1_234_567, running=1_234_567, workers=1_234_567, accepted=10**7
    )
    top.update(Snapshot(1.0, {name: many}, ["127.0.0.1:4730: " + "why " * 40], 2))
    for width in (80, 40):
        lines = show(top, width)
        assert max(map(len, lines)) < width
        assert not any("\x1b" in line for line in lines)
    assert "FUNCTION" in show(top)[2]
    assert " 1234567 1234567 1234567" in show(top)[3]


def test_seconds_take_little_room() -> None:
    texts = [format_seconds(each) for each in (0.0, 0.05, 1.5, 59, 90, 7200, 200_000)]
    assert texts == ["0ms", "50ms", "1.5s", "59s", "2m", "2h", "2d"]


def test_top_needs_a_terminal(run: Run) -> None:
    done = run("gearadmin", "top")
    assert done.returncode == 2
    assert b"top needs a terminal; for scripts: gearadmin --stats --json" in done.stderr


async def ask_asynchronously(address: str) -> list[FunctionStats]:
    async with AsyncAdminClient(address) as admin:
        return await admin.stats()


def test_stats_are_exact(gearmand: Any, run: Run) -> None:
    host, _, port = gearmand.address.rpartition(":")
    with Client(gearmand.address) as client:
        for number in range(3):
            client.do_background("f", b"x", unique=str(number))
        client.do_background("f", b"x", unique="2")
    worker = Peer((host, int(port)))
    with worker.socket:
        worker.say(Packet.CAN_DO, b"f")
        for packet in (Packet.WORK_COMPLETE, Packet.WORK_FAIL):
            handle = worker.ask(Packet.GRAB_JOB)[1]
            worker.say(packet, handle, *([b"x"] if packet is Packet.WORK_COMPLETE else []))
        assert worker.ask(Packet.GRAB_JOB)[0] == "JOB_ASSIGN"
        with AdminClient(gearmand.address) as admin:
            (row,) = admin.stats()
        (same,) = asyncio.run(ask_asynchronously(gearmand.address))
        (printed,) = json.loads(
            run("gearadmin", "-h", gearmand.address, "--stats", "--json").stdout
        )
    expected = FunctionStats(
        *("f", 1, 1, 0, 0, 1, 0.0),
        accepted=3,
        coalesced=1,
        started=3,
        completed=1,
        failed=1,
        wait_seconds=row.wait_seconds,
        kept_failed=1,
        run_seconds=row.run_seconds,
        workers_wanted=1,
        server=str(gearmand.address),
    )
    assert row == same == FunctionStats(**printed) == expected
    with AdminClient(gearmand.address) as admin:
        assert admin.stats()[0].requeued == 1


def test_jobs_are_counted_before_anything_else_happens_to_them(gearmand: Any) -> None:
    with Client(gearmand.address) as client, AdminClient(gearmand.address) as admin:
        client.do_background("waits")
        client.do_background("waits")
        assert [row.accepted for row in admin.stats()] == [2]


@pytest.mark.interop
def test_c_server_has_no_stats(tmp_path: Path) -> None:
    with (
        running_server(C_GEARMAND, tmp_path) as (host, port),
        AdminClient(f"{host}:{port}") as admin,
        pytest.raises(AdminError, match="Unknown server command"),
    ):
        admin.stats()


def test_keys_that_are_not_known_are_skipped() -> None:
    assert FunctionStats.from_line("f\tjobs=3\tnew=x\toldest_seconds=0.5") == FunctionStats(
        "f", jobs=3, oldest_seconds=0.5
    )


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["top"], 2, "this Python was built without it"),
        (["--help"], 0, ""),
    ],
)
def test_a_python_without_curses_has_all_but_top(words: list[str], status: int, said: str) -> None:
    without = "import sys; sys.modules['curses'] = None; from gearman_py.cli.gearadmin import main"
    command = [sys.executable, "-c", f"{without}; sys.exit(main(sys.argv[1:]))", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert said in done.stderr
    assert "Traceback" not in done.stderr
