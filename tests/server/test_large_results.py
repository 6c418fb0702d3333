"""Results that together are larger than --max-memory reach clients that read them slowly."""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gearman_py.protocol.packets import Packet
from tests.authority import Authority, words
from tests.job_servers import GearmandProcess
from tests.peer import Peer
from tests.tally import tally

pytestmark = pytest.mark.slow

Start = Callable[..., GearmandProcess]
MIB = 2**20
RESULT = bytes(10 * MIB)
READERS = 16


class Door:
    """A way to reach a server: ``options`` for it, and peers that come this way."""

    def __init__(self, way: str, folder: Path) -> None:
        self._path, self._context = "", None
        self.options: list[str] = []
        if way == "unix":
            self._path = f"{folder}/socket"
            self.options = ["-L", f"unix:{self._path}"]
        if way == "tls":
            authority = Authority(folder, "ca")
            self.options = words(authority.issue("server"))
            self._context = authority.issue("client").client_context()

    def join(self, server: GearmandProcess) -> Peer:
        address = server.listening()
        peer = Peer(Path(self._path) if self._path else address)
        peer.socket.settimeout(120)
        if self._context:
            peer.socket = self._context.wrap_socket(peer.socket, server_hostname="127.0.0.1")
        return peer


@pytest.mark.parametrize("way", ["tcp", "unix", "tls"])
def test_live_readers_get_all_none_is_closed_and_no_result_is_made_twice(
    start: Start, way: str, tmp_path: Path
) -> None:
    door = Door(way, tmp_path)
    server = start("--max-memory", "110M", *door.options)
    made = Counter[bytes]()

    def work() -> None:
        with (worker := door.join(server)).socket:
            worker.say(Packet.CAN_DO, b"big")
            while True:
                while (answer := worker.ask(Packet.GRAB_JOB))[0] != "JOB_ASSIGN":
                    assert answer[0] == "NO_JOB"
                    assert worker.ask(Packet.PRE_SLEEP)[0] == "NOOP"
                if answer[3] == b"end":
                    return worker.say(Packet.WORK_COMPLETE, answer[1], b"")
                made[answer[3]] += 1
                worker.say(Packet.WORK_COMPLETE, answer[1], RESULT)

    def read(number: int) -> bool:
        """Read less than 3 MB a second."""
        with (client := door.join(server)).socket:
            client.ask(Packet.SUBMIT_JOB, b"big", b"", b"%d" % number)
            size = 0
            while size < len(RESULT) and (data := client.socket.recv(2**14)):
                size += len(data)
                time.sleep(0.006)
            return size >= len(RESULT)

    with ThreadPoolExecutor(READERS + 4) as pool:
        for _ in range(4):
            pool.submit(work)
        arrived = list(pool.map(read, range(READERS)))
        with (client := door.join(server)).socket:
            for _ in range(4):
                client.ask(Packet.SUBMIT_JOB_BG, b"big", b"", b"end")
            pool.shutdown()
    tally("large results", results=READERS, lost=arrived.count(False))
    assert all(arrived), server.log
    assert set(made.values()) == {1}
    assert "closing" not in server.log
    assert server.memory() < 116 * MIB, "all of it, beside the server itself, is 190 MiB"


def test_live_reader_beside_many_that_never_read_gets_its_result(start: Start) -> None:
    """On a quiet server: only the server itself notices that there is room again."""
    server = start("--max-memory", "110M")
    address = server.listening()

    def work() -> None:
        with (worker := Peer(address)).socket:
            worker.socket.settimeout(180)
            worker.say(Packet.CAN_DO, b"big")
            for _ in range(9):
                while (answer := worker.ask(Packet.GRAB_JOB))[0] != "JOB_ASSIGN":
                    assert worker.ask(Packet.PRE_SLEEP)[0] == "NOOP"
                worker.say(Packet.WORK_COMPLETE, answer[1], RESULT)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(work)
        others = [Peer(address) for _ in range(8)]
        for other in others:  # whose jobs come first
            assert other.ask(Packet.SUBMIT_JOB, b"big", b"", b"")[0] == "JOB_CREATED"
        with (client := Peer(address)).socket:
            client.socket.settimeout(180)
            _, handle = client.ask(Packet.SUBMIT_JOB, b"big", b"", b"")
            assert client.hear() == ("WORK_COMPLETE", handle, RESULT), server.log
        for other in others:
            other.socket.close()
    assert "has not read for 3" in server.log
    assert server.memory() < 116 * MIB
