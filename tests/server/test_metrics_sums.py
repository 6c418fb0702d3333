"""The sums that docs/metrics.md promises hold, whatever happens to jobs."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from gearman_py.protocol.packets import Packet
from tests.job_servers import GearmandProcess
from tests.peer import Peer
from tests.server.test_metrics import get, values, with_metrics
from tests.waiting import await_true

Start = Callable[..., GearmandProcess]
Connect = Callable[..., Peer]
Found = dict[tuple[str, ...], float]

CAME = ("accepted", "restored", "adopted", "retried")
ENDED = ("completed", "failed", "cancelled", "moved", "dropped", "not_stored")


def add_up(found: Found, *names: str) -> float:
    """The values of these metrics of jobs together, of all functions and reasons."""
    wanted = {f"gearman_jobs_{name}_total" for name in names}
    return sum(value for key, value in found.items() if key[0] in wanted)


def check_sums(port: int, submitted: int) -> Found:
    found = values(get(port)[2])
    present = sum(value for key, value in found.items() if key[0] == "gearman_jobs")
    assert add_up(found, *CAME) == add_up(found, *ENDED) + present
    runs = sum(n for key, n in found.items() if key[0] == "gearman_job_run_seconds_count")
    running = sum(n for key, n in found.items() if key[0] == "gearman_jobs_running")
    assert add_up(found, "started") == runs + running
    assert submitted == add_up(found, "accepted", "coalesced", "refused")
    return found


class Submitter:
    """Submits background jobs of the function f, and counts them."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.number = 0

    def submit(self, workload: bytes = b"x" * 4000, unique: bytes = b"") -> str:
        """Return the name of the answer."""
        self.number += 1
        return str(self.peer.ask(Packet.SUBMIT_JOB_BG, b"f", unique, workload)[0])


def end_job(worker: Peer, packet: Packet, *arguments: bytes) -> bytes:
    _, handle, *_ = worker.ask(Packet.GRAB_JOB)
    worker.say(packet, handle, *arguments)
    assert worker.ask(Packet.ECHO_REQ, b"")[0] == "ECHO_RES"
    return bytes(handle)


def submit_and_fail(client: Submitter, worker: Peer) -> bytes:
    client.submit(b"")
    return end_job(worker, Packet.WORK_FAIL)


def test_sums_hold_with_retries_and_refusals(
    start: Start, connect: Connect, small_disk: Path
) -> None:
    """Through a full disk, failures that are retried, and a restart."""
    queue = ("-q", "sqlite", "--queue-file", str(small_disk / "queue"), "--job-retries", "2")
    server, port = with_metrics(start, *queue)
    client, worker = Submitter(connect(server.listening())), connect(server.listening())
    worker.say(Packet.CAN_DO, b"f")
    assert client.submit(unique=b"same") == "JOB_CREATED"
    assert client.submit(unique=b"same") == "JOB_CREATED"
    failed = [submit_and_fail(client, worker) for _ in range(3)]
    while client.submit() == "JOB_CREATED":
        pass
    assert client.submit() == "ERROR"
    found = check_sums(port, client.number)
    assert add_up(found, "not_stored") >= 1
    assert found["gearman_jobs_failed_total", "f", "fail"] == 3

    assert client.peer.command(f"retry job {failed[0].decode()}").startswith(b"ERR ")
    not_stored = add_up(found, "not_stored") + 1
    found = check_sums(port, client.number)
    assert found["gearman_jobs_retried_total", "f"] == 1
    assert add_up(found, "not_stored") == not_stored

    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    await_true(lambda: client.submit() == "JOB_CREATED")
    assert client.peer.command("retry jobs function=f").count(b"\n") == 4  # three, and the end
    client.peer.command("maxqueue f 1")
    assert client.submit() == "ERROR"
    end_job(worker, Packet.WORK_COMPLETE, b"")
    lost = connect(server.listening())
    lost.say(Packet.CAN_DO, b"f")
    for _ in range(2):
        lost.ask(Packet.GRAB_JOB)
    lost.socket.close()
    await_true(lambda: add_up(values(get(port)[2]), "requeued") == 2)
    assert worker.command("cancel job " + end_job(worker, Packet.WORK_EXCEPTION, b"").decode())
    _, waiting, *_ = worker.ask(Packet.GRAB_JOB)
    assert worker.command(f"cancel job {waiting.decode()}") == b"OK\r\n"
    found = check_sums(port, client.number)
    assert found["gearman_jobs_retried_total", "f"] == 4
    assert found["gearman_jobs_refused_total", "queue_full"] == 1
    assert found["gearman_jobs_refused_total", "store"] == client.number - 1 - add_up(
        found, "accepted", "coalesced"
    )

    present = found["gearman_jobs", "f"]
    assert server.end() == 0
    again, port = with_metrics(start, *queue)
    worker = connect(again.listening())
    worker.say(Packet.CAN_DO, b"f")
    end_job(worker, Packet.WORK_COMPLETE, b"")
    found = check_sums(port, 0)
    assert found["gearman_jobs_restored_total", "f"] == present
