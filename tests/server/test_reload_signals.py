"""What is asked of a job server in the pause of its reload is done, by whoever serves after it."""

import contextlib
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gearman_py.protocol.packets import Packet
from gearman_py.server.reload_channel import GO
from tests.peer import Peer
from tests.server.reloaded import Server, run_reload
from tests.waiting import await_true

pytestmark = pytest.mark.slow

# A signal comes as the running server sends this to the new one, amid the pause.
SIGNALLED = """
import os, sys
{before}
from gearman_py.server.reload_channel import ReloadChannel
from gearman_py.cli.gearmand import main
send = ReloadChannel.send
def send_beside_signal(channel, section, *enclosed):
    if {what!r} in (*section, section.get("word")):
        os.kill(os.getpid(), {number})
    send(channel, section, *enclosed)
ReloadChannel.send = send_beside_signal
sys.exit(main())
"""
WITHOUT_UVLOOP = "sys.modules['uvloop'] = None"
FAILING = """
import sys
from gearman_py.server.takeover import Takeover
from gearman_py.server.reload_channel import ReloadError
from gearman_py.cli.gearmand import main
def begin(*_):
    raise ReloadError("a test")
Takeover.begin = begin
sys.exit(main())
"""


def signalled(number: int, what: str = "doors", before: str = "") -> tuple[str, str]:
    return "-c", SIGNALLED.format(number=int(number), what=what, before=before)


@pytest.mark.parametrize("before", ["", WITHOUT_UVLOOP], ids=["uvloop", "asyncio"])
@pytest.mark.parametrize("what", ["doors", "pages", GO])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signal_that_stops_the_server_is_not_lost(
    serve: Callable[..., Server], number: int, what: str, before: str
) -> None:
    """A job is under way, so that the time to end is seen to be given."""
    server = serve("--drain-timeout", "60", program=signalled(number, what, before))
    client, worker = Peer(server.address), Peer(server.address)
    with contextlib.closing(client.socket), contextlib.closing(worker.socket):
        _, handle = client.ask(Packet.SUBMIT_JOB, b"f", b"", b"w")
        worker.say(Packet.CAN_DO, b"f")
        assert worker.ask(Packet.GRAB_JOB)[1] == handle
        done = run_reload(server.pid)
        assert (done.returncode, done.stderr) == (0, "")
        server.pid = int(worker.command("getpid").split()[1])
        worker.say(Packet.WORK_COMPLETE, handle, b"r")
        assert client.hear() == ("WORK_COMPLETE", handle, b"r")
        await_true(lambda: not Path(f"/proc/{server.pid}").exists())


def test_hangup_is_not_lost(serve: Callable[..., Server]) -> None:
    server = serve(program=signalled(signal.SIGHUP))
    done = run_reload(server.pid)
    assert (done.returncode, done.stderr) == (0, "")
    before, server.pid = server.pid, server.serving_process()
    assert server.pid != before
    assert server.process.log.count("SIGHUP: reopening the log file") == 1


def test_signal_stops_the_server_that_goes_on(serve: Callable[..., Server]) -> None:
    server = serve(program=signalled(signal.SIGTERM))
    failed = run_reload(server.pid, program=("-c", FAILING))
    assert (failed.returncode, "a test" in failed.stderr) == (1, True)
    await_true(lambda: server.process.process.poll() is not None)


def test_simultaneous_reloads_are_told_of_each_other(serve: Callable[..., Server]) -> None:
    server = serve()
    with ThreadPoolExecutor(5) as threads:
        all_done = list(threads.map(run_reload, [server.pid] * 5))
    before, server.pid = server.pid, server.serving_process()
    assert server.pid != before
    assert sorted(done.returncode for done in all_done) == [0, 1, 1, 1, 1]
    for done in all_done:
        assert done.returncode == 0 or "another reload" in done.stderr
