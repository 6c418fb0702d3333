"""gearmand --reload PID: another process serves the same connections, and no peer hears of it."""

import contextlib
import itertools
import os
import pwd
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gearman_py import AdminClient, Client
from gearman_py.broker import snapshot
from gearman_py.protocol.codec import request
from gearman_py.protocol.packets import Packet
from gearman_py.server.reload_channel import (
    FORMAT,
    GO,
    LARGE_BYTES,
    READY,
    SERVING,
    TAKEN,
    ReloadChannel,
    ReloadError,
    channel_name,
)
from tests.attacks import attack
from tests.interop.programs import KINDS, command
from tests.job_servers import OUR_GEARMAND, Address, GearmandProcess
from tests.peer import Peer
from tests.ports import reserve_port
from tests.server.reloaded import Server, converse_over_reload, run_reload
from tests.waiting import LIMIT, await_result, await_true

Connect = Callable[..., Peer]
pytestmark = pytest.mark.slow

# Seconds after which the server gives a new program up, in the tests that wait for it.
SHORT_PAUSE = 1
IMPATIENT = f"""
import sys
from gearman_py.server import reload
from gearman_py.cli.gearmand import main
reload.PAUSE_TIMEOUT = {SHORT_PAUSE}
sys.exit(main())
"""

SMALL = """
import sys
from gearman_py.server import reload
from gearman_py.cli.gearmand import main
reload.allowed_bytes = lambda: 2**25
sys.exit(main())
"""
WITHOUT_UVLOOP = """
import sys
sys.modules["uvloop"] = None
from gearman_py.cli.gearmand import main
sys.exit(main())
"""

# As programs before enclosures: they neither read nor write them.
OLDER = """
import sys
from gearman_py.server.reload_channel import ReloadChannel
from gearman_py.cli.gearmand import main
send = ReloadChannel.send
def send_plainly(channel, section, enclosed=()):
    assert not enclosed
    send(channel, {name: value for name, value in section.items() if name != "encloses"})
ReloadChannel.send = send_plainly
sys.exit(main())
"""

NAME_TAKEN = """
import os, sys
sys.path.insert(0, os.getcwd())
from gearman_py.cli.gearmand import main
from tests.squatter import taken_names
with taken_names(f"gearmand-reload-{os.getpid()}", f"gearmand-reload-{os.getpid()}-f00"):
    sys.exit(main())
"""


@pytest.fixture
def connect() -> Iterator[Callable[[Address], Peer]]:
    with contextlib.ExitStack() as opened:

        def begin(address: Address) -> Peer:
            peer = Peer(address)
            opened.callback(peer.socket.close)
            return peer

        yield begin


def test_peers_in_all_states_go_on(serve: Callable[..., Server], connect: Connect) -> None:
    server = serve()
    connections = converse_over_reload(server, lambda: connect(server.address))
    server.end()
    assert connections[-1].closed()


def test_older_program_gets_all_bytes_as_text(
    serve: Callable[..., Server], connect: Connect
) -> None:
    server = serve(program=("-c", OLDER))
    converse_over_reload(server, lambda: connect(server.address))


def test_large_bytes_are_passed_on_as_they_are(serve: Callable[..., Server]) -> None:
    """As text they took most of the time in which peers wait."""
    server = serve()
    with contextlib.closing((peer := Peer(server.address)).socket):
        begun = request(Packet.ECHO_REQ, bytes(LARGE_BYTES + 1))[:-1]
        peer.socket.sendall(request(Packet.ECHO_REQ, b"whole") + begun)
        assert peer.hear() == ("ECHO_RES", b"whole")
        with new_program(server) as channel:
            tell_hello(channel, encloses=True)
            receive_descriptors(channel)
            (found,) = channel.receive()["enclosed"]
            assert bytes(LARGE_BYTES) in found


def test_log_level_stays_unless_it_is_named(serve: Callable[..., Server], connect: Connect) -> None:
    server = serve("-vv")
    peer = connect(server.address)
    assert peer.command("verbose") == b"OK DEBUG\n"
    server.reload()
    assert peer.command("verbose") == b"OK DEBUG\n"
    told = len(server.process.log)
    connect(server.address)
    await_true(lambda: " connected" in server.process.log[told:])
    server.reload("-L", "127.0.0.1", "-p", "0")
    assert peer.command("verbose") == b"OK WARNING\n"


def test_time_limits_and_epoch_jobs_go_on(serve: Callable[..., Server], connect: Connect) -> None:
    server = serve()
    client, worker = connect(server.address), connect(server.address)
    _, handle = client.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"w")
    worker.say(Packet.CAN_DO_TIMEOUT, b"f", b"3000")
    assert worker.ask(Packet.GRAB_JOB)[1] == handle
    server.reload()
    await_true(lambda: b"f\t1\t0\t1" in client.command("status"))
    assert worker.ask(Packet.GRAB_JOB)[1] == handle


@pytest.mark.interop
def test_clients_and_workers_under_load_hear_nothing_of_it(serve: Callable[..., Server]) -> None:
    server = serve()
    where = f"{server.address[0]}:{server.address[1]}"
    port = str(server.address[1])
    words = [sys.executable, "-m", "gearman_py.cli.worker", "-p", port, "reverse"]
    workers = [subprocess.Popen(words) for _ in range(2)]
    ended = threading.Event()

    def ask() -> int:
        jobs = 0
        with Client(where) as client:
            while not ended.is_set():
                inputs = [b"%d" % (jobs + number) for number in range(50)]
                answers = list(client.map("reverse", inputs))
                assert answers == [each[::-1] for each in inputs]
                jobs += len(inputs)
        return jobs

    waiting: list[subprocess.Popen[bytes]] = []
    try:
        waiting += [begin_waiting(kind, where) for kind in KINDS]
        with ThreadPoolExecutor(3) as pool:
            futures = [pool.submit(ask) for _ in range(3)]
            try:
                for _ in range(5):
                    server.reload()
            finally:
                ended.set()
            assert all(future.result(LIMIT) > 0 for future in futures)
        with contextlib.closing((held := Peer(server.address)).socket):
            held.say(Packet.CAN_DO, b"held")
            for _ in waiting:
                held.say(Packet.WORK_COMPLETE, held.ask(Packet.GRAB_JOB)[1], b"done")
            for client in waiting:
                assert client.communicate(timeout=LIMIT)[0].splitlines()[-1] == b"complete done"
        assert all(worker.poll() is None for worker in workers)
        with contextlib.closing(Peer(server.address).socket) as connected:
            connected.sendall(b"stats\r\n")
            row = connected.recv(2**16)
        assert b"failed=0\trequeued=0" in row
    finally:
        for process in (*workers, *waiting):
            process.kill()
            process.wait()


def begin_waiting(kind: str, server: str) -> subprocess.Popen[bytes]:
    """A client of another library that waits for a job of `held`, which is queued."""
    pipe = subprocess.PIPE
    client = subprocess.Popen(command(kind, "do", server, "held"), stdin=pipe, stdout=pipe)
    assert client.stdin
    assert client.stdout
    client.stdin.write(b"x")
    client.stdin.close()
    client.stdin = None
    assert client.stdout.readline().startswith(b"created ")
    return client


@pytest.mark.parametrize("times", [2_000, 100_000], ids=["small", "large"])
def test_messages_under_way_are_whole_and_in_order(
    serve: Callable[..., Server], times: int
) -> None:
    """Peers send all the time, so that parts of messages arrive at every moment of a reload."""
    server = serve()
    ended = threading.Event()

    def send(peer: Peer) -> None:
        numbers = itertools.count()
        while not ended.is_set():
            peer.say(Packet.ECHO_REQ, b"%d " % next(numbers) * times)
        peer.say(Packet.ECHO_REQ, b"last")

    with contextlib.ExitStack() as opened, ThreadPoolExecutor(8) as pool:
        peers = [Peer(server.address) for _ in range(2)]
        for peer in peers:
            opened.enter_context(peer.socket)

        def read(peer: Peer) -> None:
            for number in itertools.count():
                if (answer := peer.hear()) == ("ECHO_RES", b"last"):
                    return
                assert answer[0] == "ECHO_RES", number
                assert answer[1] == b"%d " % number * times

        threads = [pool.submit(each, peer) for peer in peers for each in (read, send)]
        try:
            for _ in range(3):
                server.reload()
        finally:
            ended.set()
        for thread in threads:
            thread.result(LIMIT)


def test_clients_that_connect_at_any_moment_are_served(serve: Callable[..., Server]) -> None:
    """Clients come whether others have been answered or not, so also while the server pauses."""
    server = serve(program=("-c", WITHOUT_UVLOOP))
    ended = threading.Event()

    def connect_again() -> None:
        waiting: deque[Peer] = deque()
        while waiting or not ended.is_set():
            if not ended.wait(0.005):
                waiting.append(Peer(server.address))
                waiting[-1].say(Packet.ECHO_REQ, b"x")
            if len(waiting) > 100 or ended.is_set():
                peer = waiting.popleft()
                with contextlib.closing(peer.socket):
                    assert peer.hear() == ("ECHO_RES", b"x")

    with ThreadPoolExecutor(1) as pool:
        client = pool.submit(connect_again)
        try:
            for _ in range(8):
                server.reload()
        finally:
            ended.set()
        client.result(2 * LIMIT)


def reload_and_kill(server: Server) -> bool:
    """Kill the command of a reload after its fork; whether it had not ended by then."""
    before = server.pid
    with subprocess.Popen([*OUR_GEARMAND, "--reload", str(before)]) as command:
        children = Path(f"/proc/{command.pid}/task/{command.pid}/children")
        await_true(lambda: children.read_text() or command.poll() is not None)
        command.kill()
    await_true(lambda: server.serving_process() != before)
    server.pid = server.serving_process()
    return command.returncode == -signal.SIGKILL


def test_server_is_replaced_though_the_command_is_killed(
    serve: Callable[..., Server], connect: Connect
) -> None:
    server = serve()
    peer = connect(server.address)
    while not reload_and_kill(server):
        pass
    assert peer.ask(Packet.ECHO_REQ, b"still") == ("ECHO_RES", b"still")
    server.reload()


def test_command_may_have_no_standard_streams(
    serve: Callable[..., Server], connect: Connect
) -> None:
    server = serve()
    peer = connect(server.address)
    words = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *OUR_GEARMAND, "--reload", str(server.pid)]
    assert subprocess.run(words, timeout=2 * LIMIT).returncode == 0
    assert peer.ask(Packet.ECHO_REQ, b"still") == ("ECHO_RES", b"still")
    before, server.pid = server.pid, server.serving_process()
    assert server.pid != before


def test_junk_is_refused(serve: Callable[..., Server]) -> None:
    server = serve()
    with new_program(server) as channel:
        channel.socket.sendall(bytes(7) + b"\4junk")
        with pytest.raises(ReloadError, match="not a message"):
            channel.receive()
    assert "Traceback" not in server.process.log
    server.reload()


def test_file_that_cannot_be_written_is_found_before_the_server_leaves(
    serve: Callable[..., Server], connect: Connect, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    server = serve("--pid-file", str(folder / "pid"))
    peer = connect(server.address)
    (folder / "pid").unlink()
    folder.rmdir()
    refused = run_reload(server.pid)
    assert refused.returncode == 1
    assert refused.stderr.startswith("gearmand: not reloaded: cannot write the pid file ")
    assert refused.stderr.count("pid file") == 1
    assert peer.ask(Packet.ECHO_REQ, b"still") == ("ECHO_RES", b"still")
    assert server.serving_process() == server.pid


def test_pid_file_that_cannot_be_written_is_found_though_rights_allow_it(
    serve: Callable[..., Server],
) -> None:
    server = serve()
    refused = run_reload(server.pid, "-L", "127.0.0.1", "-p", "0", "-P", "/proc/gearmand.pid")
    why = "gearmand: not reloaded: cannot write the pid file /proc/gearmand.pid: "
    assert (refused.returncode, refused.stderr[: len(why)]) == (1, why)
    assert server.serving_process() == server.pid


def test_pid_file_of_another_name_replaces_the_former(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    former, other, where = tmp_path / "former", tmp_path / "other", ("-L", "127.0.0.1", "-p", "0")
    server = serve("--pid-file", str(former))
    assert run_reload(server.pid, *where, "-P", str(other)).returncode == 0
    server.pid = server.serving_process()
    assert other.read_text() == f"{server.pid}\n"
    assert not former.exists()
    assert run_reload(server.pid, *where).returncode == 0
    server.pid = server.serving_process()
    assert not other.exists()


def test_http_client_is_told_once_to_send_its_body(serve: Callable[..., Server]) -> None:
    server = serve("-r", "http", "--http-port", "0")
    ports = [int(each.split()[0].strip(",")) for each in server.process.log.split(" port ")[1:]]
    server.address = ("127.0.0.1", ports[0])
    with socket.create_connection(("127.0.0.1", ports[1]), LIMIT) as client:
        head = b"POST /f HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 0004\r\n"
        client.sendall(head + b"X-Gearman-Background: true\r\n\r\n")
        assert client.recv(2**16) == b"HTTP/1.1 100 Continue\r\n\r\n"
        server.reload()
        server.reload()
        client.sendall(b"abcd")
        assert client.recv(2**16).startswith(b"HTTP/1.1 200 OK\r\n")
        client.sendall(head + b"\r\n")  # each request is
        assert client.recv(2**16) == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_http_requests_are_answered(serve: Callable[..., Server], connect: Connect) -> None:
    server = serve("-r", "http", "--http-port", "0")
    where = server.process.log.partition("port ")[2]
    ports = [int(each.split()[0].strip(",")) for each in server.process.log.split(" port ")[1:]]
    assert where
    server.address = ("127.0.0.1", ports[0])
    worker = connect(server.address)
    with (
        socket.create_connection(("127.0.0.1", ports[1]), LIMIT) as waiting,
        socket.create_connection(("127.0.0.1", ports[1]), LIMIT) as half,
    ):
        head = b"POST /f HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"
        waiting.sendall(head + b"abcd")
        await_true(lambda: b"f\t1\t" in worker.command("status"))
        half.sendall(head + b"ef")
        worker.say(Packet.CAN_DO, b"f")
        _, handle, _, _ = worker.ask(Packet.GRAB_JOB)
        worker.say(Packet.WORK_DATA, handle, b"first ")
        assert worker.ask(Packet.ECHO_REQ, b"done") == ("ECHO_RES", b"done")
        server.reload()
        worker.say(Packet.WORK_COMPLETE, handle, b"second")
        assert waiting.recv(2**16).endswith(b"first second")
        half.sendall(b"gh")
        await_true(lambda: b"f\t1\t0" in worker.command("status"))
        assert worker.ask(Packet.GRAB_JOB)[3] == b"efgh"


def test_stored_jobs_change_hands_and_none_is_lost(
    serve: Callable[..., Server], connect: Connect, tmp_path: Path
) -> None:
    """Submissions that wait for the disk are acknowledged, before or after."""
    file = tmp_path / "queue.db"
    server = serve("-q", "sqlite", "--queue-file", str(file))
    client, worker = connect(server.address), connect(server.address)
    ended = threading.Event()
    acknowledged: set[bytes] = set()

    def submit() -> None:
        peer = Peer(server.address)
        with peer.socket:
            while not ended.is_set():
                kind, handle = peer.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"w")
                assert kind == "JOB_CREATED"
                assert handle not in acknowledged
                acknowledged.add(handle)

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(submit) for _ in range(4)]
        try:
            for _ in range(4):
                server.reload()
        finally:
            ended.set()
        for future in futures:
            future.result(LIMIT)
    worker.say(Packet.CAN_DO, b"f")
    ran = set()
    for _ in range(10):
        _, handle, *_ = worker.ask(Packet.GRAB_JOB)
        worker.say(Packet.WORK_COMPLETE, handle, b"")
        ran.add(handle)
    assert worker.ask(Packet.ECHO_REQ, b"")[0] == "ECHO_RES"
    shown = client.command("show jobs")
    assert {row.split(b"\t")[0] for row in shown.splitlines()[:-1]} == acknowledged - ran
    server.end()
    again = serve("-q", "sqlite", "--queue-file", str(file))
    assert connect(again.address).command("show jobs").splitlines() == shown.splitlines()


@pytest.mark.parametrize("step", ["tell_ready", "tell_taken"])
def test_store_is_taken_back_from_a_program_that_fails(
    serve: Callable[..., Server], connect: Connect, tmp_path: Path, step: str
) -> None:
    file = tmp_path / "queue.db"
    server = serve("-q", "sqlite", "--queue-file", str(file))
    peer = connect(server.address)
    handles = [peer.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"w")[1]]
    failing = HANGING.format(step=step).replace("time.sleep(600)", "")
    done = subprocess.run([sys.executable, "-c", failing, str(server.pid)], check=False)
    assert done.returncode in (0, -signal.SIGKILL)
    await_true(lambda: "not reloaded, going on" in server.process.log)
    handles.append(peer.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"w")[1])
    second = subprocess.run(
        [*OUR_GEARMAND, "-p", "0", "-q", "sqlite", "--queue-file", str(file)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert f"is in use by process {server.pid}" in second.stderr
    server.reload()
    shown = peer.command("show jobs").splitlines()
    assert [row.split(b"\t")[0] for row in shown[:-1]] == handles


def test_files_of_sockets_and_process_stay(serve: Callable[..., Server], tmp_path: Path) -> None:
    admin, pid_file = tmp_path / "admin", tmp_path / "pid"
    server = serve("--admin-listen", f"unix:{admin}", "-P", str(pid_file))
    with socket.socket(socket.AF_UNIX) as operator:
        operator.settimeout(LIMIT)
        operator.connect(str(admin))
        server.reload()
        assert server.process.process.wait(LIMIT) == 0
        assert pid_file.read_text() == f"{server.pid}\n"
        server.reload()
        assert pid_file.read_text() == f"{server.pid}\n"
        with socket.socket(socket.AF_UNIX) as another:
            another.connect(str(admin))
            another.sendall(b"shutdown\r\n")
            assert another.recv(100) == b"OK\r\n"
        await_true(lambda: not Path(f"/proc/{server.pid}").exists())
        assert operator.recv(100) == b""
    assert not admin.exists()
    assert not pid_file.exists()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["-L", "127.0.0.1", "-p", "1"], "--port cannot be changed by a reload: 0 in the running"),
        (["-L", "127.0.0.1", "-p", "0", "--job-handle-prefix", "X"], "--job-handle-prefix"),
        (["-L", "127.0.0.1", "-p", "0", "-q", "sqlite", "--queue-file", "x"], "--queue-type"),
        (["-L", "127.0.0.1", "-p", "0", "-u", "nosuch"], "user 'nosuch' does not exist; "),
        (["-L", "127.0.0.1", "-p", "0", "-u", "nobody"], "--user cannot be changed by a reload: "),
        (["--check-args"], "--reload: not together with --check-args"),
        (["-q", "sqlite", "--queue-file", "x", "--import", "libsqlite3:f"], "with --import"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["--reload", "0"], "'0' is not the number of a process"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_server_goes_on(
    serve: Callable[..., Server], connect: Connect, options: list[str], why: str
) -> None:
    server = serve()
    peer = connect(server.address)
    _, handle = peer.ask(Packet.SUBMIT_JOB, b"f", b"", b"w")
    refused = run_reload(server.pid, *options)
    assert refused.returncode == 1
    assert why in refused.stderr
    assert server.serving_process() == server.pid
    complete_job(peer, connect(server.address), handle)


def test_relative_paths_of_another_folder_are_other_paths(
    serve: Callable[..., Server], connect: Connect, tmp_path: Path
) -> None:
    file = os.path.relpath(tmp_path / "queue.db")
    words = ["-L", "127.0.0.1", "-p", "0", "-q", "sqlite", "--queue-file", file]
    server = serve("-q", "sqlite", "--queue-file", file)
    (elsewhere := tmp_path / "elsewhere").mkdir()
    refused = run_reload(server.pid, *words, folder=elsewhere)
    assert refused.returncode == 1
    assert "--queue-file cannot be changed by a reload: " in refused.stderr
    assert [*elsewhere.iterdir()] == []
    assert run_reload(server.pid, *words).returncode == 0
    server.pid = server.serving_process()
    assert run_reload(server.pid, folder=elsewhere).returncode == 0, "its words, from its folder"
    server.pid = server.serving_process()
    assert connect(server.address).ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"")[0] == "JOB_CREATED"


def test_queue_behind_a_link_that_leads_elsewhere_by_now_is_refused(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    (link := tmp_path / "current").symlink_to("first")
    server = serve("-q", "sqlite", "--queue-file", str(link / "queue.db"))
    link.unlink()
    link.symlink_to("second")
    refused = run_reload(server.pid)
    assert refused.returncode == 1
    assert "queue.db is not the file that the running server has" in refused.stderr
    assert [*(tmp_path / "second").iterdir()] == []
    assert server.serving_process() == server.pid


def complete_job(client: Peer, worker: Peer, handle: bytes) -> None:
    worker.say(Packet.CAN_DO, b"f")
    assert worker.ask(Packet.GRAB_JOB)[1] == handle
    worker.say(Packet.WORK_COMPLETE, handle, b"r")
    assert client.hear() == ("WORK_COMPLETE", handle, b"r")


def test_server_that_may_not_have_room_for_two_goes_on(
    serve: Callable[..., Server], connect: Connect
) -> None:
    server = serve(program=("-c", SMALL))
    peer = connect(server.address)
    refused = run_reload(server.pid)
    assert refused.returncode == 1
    assert "two processes of its size need " in refused.stderr
    assert "32 MiB are allowed: raise MemoryMax= of its unit" in refused.stderr
    assert peer.ask(Packet.ECHO_REQ, b"still") == ("ECHO_RES", b"still")


def test_server_whose_jobs_an_operator_moves_goes_on(
    serve: Callable[..., Server], connect: Connect, tmp_path: Path
) -> None:
    server = serve("--admin-listen", f"unix:{tmp_path}/admin")
    client, operator = connect(server.address), Peer(tmp_path / "admin")
    handle = client.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"w")[1]
    assert handle in operator.command("move jobs")
    refused = run_reload(server.pid)
    moves = "gearmand: not reloaded: an operator moves its jobs to another server\n"
    assert (refused.returncode, refused.stderr) == (1, moves)
    assert handle in operator.command("move jobs")
    operator.socket.close()  # which ends the move
    await_true(lambda: client.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"w")[0] == "JOB_CREATED")
    server.reload()
    assert handle in client.command("show jobs")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a namespace of processes")
def test_server_that_is_process_1_goes_on(start: Callable[..., GearmandProcess]) -> None:
    """With it, the container would end."""
    own = "unshare", "--pid", "--mount-proc", "--fork", "--kill-child"
    server = start(before=own)
    address = server.listening()
    with contextlib.closing((peer := Peer(address)).socket):
        assert peer.command("getpid") == b"OK 1\n"
        inner = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
        enter = ["nsenter", "--target", inner.strip(), "--pid", "--mount"]
        words = [*enter, *OUR_GEARMAND, "--reload", "1"]
        refused = subprocess.run(words, capture_output=True, text=True, timeout=2 * LIMIT)
        assert refused.returncode == 1
        assert "the server is process 1, with which its container would end" in refused.stderr
        assert peer.ask(Packet.ECHO_REQ, b"still") == ("ECHO_RES", b"still")


@pytest.mark.parametrize("process", [2**22 + 1, os.getpid()], ids=["missing", "other"])
def test_process_that_is_not_a_job_server_is_refused(process: int) -> None:
    refused = run_reload(process)
    assert (refused.returncode, "not reloaded: process" in refused.stderr) == (1, True)


def tell_hello(channel: ReloadChannel, *, encloses: bool = False) -> None:
    about = {"format": FORMAT, "state": snapshot.FORMAT, "version": "test"}
    channel.send(about | {"encloses": encloses})
    channel.receive()


def tell_ready(channel: ReloadChannel) -> None:
    tell_hello(channel)
    receive_descriptors(channel)


def receive_descriptors(channel: ReloadChannel) -> None:
    """What is passed on, until the facts about connections follow."""
    channel.send_word(READY)
    while "doors" not in (about := channel.receive()):
        pass
    count = 3 + about["store_descriptors"] + len(about["doors"]) + about["connections"]
    for number in channel.receive_descriptors(count):
        os.close(number)


def tell_taken(channel: ReloadChannel) -> None:
    tell_ready(channel)
    while "pages" not in channel.receive():
        pass
    channel.send_word(TAKEN)
    channel.expect(GO)


def tell_other_format(channel: ReloadChannel) -> None:
    channel.send({"format": FORMAT, "state": 0, "version": "0.0"})
    with pytest.raises(ReloadError, match=r"gearmand 0\.0 reads format 0 of the state"):
        channel.receive()


@pytest.mark.parametrize(
    "until", [lambda channel: None, tell_other_format, tell_hello, tell_ready, tell_taken]
)
def test_new_program_that_ends_at_any_step_changes_nothing(
    serve: Callable[..., Server], connect: Connect, until: Callable[[ReloadChannel], None]
) -> None:
    server = serve()
    peer = connect(server.address)
    _, handle = peer.ask(Packet.SUBMIT_JOB, b"f", b"", b"w")
    with new_program(server) as channel:
        until(channel)
    await_true(lambda: "not reloaded, going on" in server.process.log)
    complete_job(peer, connect(server.address), handle)
    server.reload()
    assert peer.ask(Packet.ECHO_REQ, b"still") == ("ECHO_RES", b"still")


@contextlib.contextmanager
def new_program(server: Server) -> Iterator[ReloadChannel]:
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with ReloadChannel(connected, LIMIT) as channel:
        # Peers are served a moment before it may be reloaded.
        address = f"\0{channel_name(server.pid)}"
        await_result(lambda: connected.connect(address), ConnectionRefusedError)
        yield channel


@attack(
    "local user",
    "take the names of the sockets by which workers and job servers are reloaded: a good "
    "release would be given up",
    "mended",
)
def test_another_user_cannot_keep_a_server_from_being_reloaded(
    serve: Callable[..., Server],
) -> None:
    server = serve(program=("-c", NAME_TAKEN))
    done = run_reload(server.pid)
    assert (done.returncode, done.stderr) == (0, "")
    server.pid = server.serving_process()


HANGING = """
import os, socket, sys, time
sys.path.insert(0, os.getcwd())
from tests.server.test_reload import tell_ready, tell_taken
from gearman_py.server.reload_channel import ReloadChannel, channel_name
connected = socket.socket(socket.AF_UNIX)
connected.connect(chr(0) + channel_name(int(sys.argv[1])))
channel = ReloadChannel(connected, 30)
{step}(channel)
print("hangs", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("step", ["tell_ready", "tell_taken"])
def test_new_program_that_hangs_changes_nothing(
    serve: Callable[..., Server], connect: Connect, step: str
) -> None:
    server = serve(program=("-c", IMPATIENT))
    peer = connect(server.address)
    _, handle = peer.ask(Packet.SUBMIT_JOB, b"f", b"", b"w")
    words = [sys.executable, "-c", HANGING.format(step=step), str(server.pid)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as hanging:
        try:
            assert hanging.stdout is not None
            assert hanging.stdout.readline() == b"hangs\n"
            await_true(lambda: f"did not answer within {SHORT_PAUSE} s" in server.process.log)
            complete_job(peer, connect(server.address), handle)
            if step == "tell_taken":
                assert hanging.wait(LIMIT) == -signal.SIGKILL, "it could begin to serve later"
        finally:
            hanging.kill()


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_new_program_ends_with_a_reason_if_the_server_dies(steps: int) -> None:
    """A server that ends when it was asked, when it has answered, and amid its state."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(f"\0{channel_name(os.getpid())}")
        listening.listen()
        words = [*OUR_GEARMAND, "--reload", str(os.getpid()), "-p", "0"]
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as command:
            connected, _ = listening.accept()
            with ReloadChannel(connected, LIMIT) as channel:
                channel.receive()
                if steps >= 1:
                    about = {"arguments": [], "folder": "/", "environment": {}, "settings": {}}
                    channel.send(about)
                    channel.expect(READY)
                if steps >= 2:
                    for_store = {"store": {}, "store_descriptors": 0, "store_counts": []}
                    channel.send({"doors": [], "connections": 3, "counts": {}, **for_store})
            assert command.wait(LIMIT) == 1
            assert command.stderr is not None
            assert "not reloaded: the other program has ended" in command.stderr.read()


def test_interrupted_command_ends_without_a_word() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(f"\0{channel_name(os.getpid())}")
        listening.listen()
        words = [*OUR_GEARMAND, "--reload", str(os.getpid()), "-p", "0"]
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as command:
            connected, _ = listening.accept()  # by the process of its own
            command.send_signal(signal.SIGINT)
            assert command.wait(LIMIT) == -signal.SIGINT
            with ReloadChannel(connected, LIMIT) as channel:
                channel.refuse("a test")
            assert command.stderr is not None
            assert command.stderr.read() == ""


def test_port_of_the_environment_is_that_of_the_running_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = reserve_port()
    program = tuple(OUR_GEARMAND[1:])
    words = ["-L", "127.0.0.1", "-v"]
    with GearmandProcess(words, tmp_path, program=program, GEARMAND_PORT=str(port)) as process:
        server = Server(process, program)
        assert server.address == ("127.0.0.1", port)
        server.reload()
        monkeypatch.setenv("GEARMAND_PORT", "1")
        server.reload()
        server.reload("-L", "127.0.0.1")
        server.end()


KILLED = """
import os, signal, sys
from gearman_py.server.reload_channel import ReloadChannel
from gearman_py.cli.gearmand import main
send = ReloadChannel.send
def send_and_die(channel, section, *enclosed):
    dies = {what!r} in (*section, section.get("word"))
    if {sent} or not dies:
        send(channel, section, *enclosed)
    if dies:
        os.kill(os.getpid(), signal.SIGKILL)
ReloadChannel.send = send_and_die
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("what", "sent"),
    [("settings", False), ("doors", False), ("pages", False), (GO, False), (GO, True)],
)
def test_server_that_is_killed_while_it_is_reloaded_loses_nothing_that_is_stored(
    serve: Callable[..., Server], connect: Connect, tmp_path: Path, what: str, sent: bool
) -> None:
    """As it tells what it is, passes connections on, ends its state, lets go, and after that."""
    stored = "-q", "sqlite", "--queue-file", str(tmp_path / "queue.db")
    server = serve(*stored, program=("-c", KILLED.format(what=what, sent=sent)))
    peer = connect(server.address)
    handles = [peer.ask(Packet.SUBMIT_JOB_BG, b"f", b"", b"w")[1] for _ in range(3)]
    done = run_reload(server.pid)
    if sent and done.returncode == 0:  # it was let go before the other was gone, and serves
        assert peer.ask(Packet.ECHO_REQ, b"still") == ("ECHO_RES", b"still")
        server.pid = server.serving_process()
        server.end()
    else:
        assert (done.returncode, done.stderr[:24]) == (1, "gearmand: not reloaded: ")
    assert peer.closed()
    shown = connect(serve(*stored).address).command("show jobs").splitlines()
    assert [row.split(b"\t")[0] for row in shown[:-1]] == handles


def test_nothing_that_was_confirmed_by_a_killed_program_is_served_twice(
    serve: Callable[..., Server],
) -> None:
    """Once the new program says that it serves, the old one leaves, whatever follows."""
    server = serve()
    with new_program(server) as channel:
        tell_taken(channel)
        channel.send_word(SERVING)
        assert server.process.process.wait(LIMIT) == 0


def test_who_paused_what_and_when_is_told_after_a_reload(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    socket_ = f"unix:{tmp_path}/admin"
    server = serve("--admin-listen", socket_)
    user = pwd.getpwuid(os.geteuid()).pw_name
    with AdminClient(socket_) as admin, AdminClient("{}:{}".format(*server.address)) as other:
        admin.pause("f")
        admin.pause_server()
        (before,) = admin.pauses()
        other.pause("f")  # as it is already
        facts = admin.facts()
        assert (before.name, before.by, facts["paused_by"]) == ("f", user, user)
        server.reload()
        assert admin.pauses() == [before]
        assert admin.facts()["paused_since"] == facts["paused_since"]
        (row,) = admin.stats()
        assert (row.paused_by, round(row.paused_since)) == (user, before.since)
        admin.resume("f")
        other.pause("f")
        assert [row.by for row in admin.pauses()] == ["127.0.0.1"]
