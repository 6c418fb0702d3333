"""A drain at an awkward moment, an interrupt and a cancelled task: the worker ends cleanly."""

import asyncio
import signal
import subprocess
import sys
import threading

import pytest

from gearman_py import Client, Worker, WorkerJob
from gearman_py.protocol.codec import Decoder, response
from gearman_py.protocol.packets import Packet
from gearman_py.testing import Server
from tests.leaks import all_closed
from tests.waiting import await_true


def test_drain_between_a_grab_and_its_no_job_leaves_and_does_not_fall_asleep() -> None:
    async def scenario() -> None:
        grabbed = asyncio.Event()
        drained = asyncio.Event()

        async def answer_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            decoder = Decoder()
            while data := await reader.read(1000):
                if any(packet == Packet.GRAB_JOB_UNIQ for packet, _ in decoder.feed(data)):
                    grabbed.set()
                    await drained.wait()
                    writer.write(response(Packet.NO_JOB))
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(answer_late, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        worker = Worker(f"{host}:{port}")
        worker.add_function("f", lambda job: None)
        serving = asyncio.create_task(worker.serve())
        await grabbed.wait()
        worker.drain()
        drained.set()
        await asyncio.wait_for(serving, 5)
        server.close()
        await server.wait_closed()

    asyncio.run(scenario())


@pytest.mark.slow
def test_server_whose_name_cannot_be_a_host_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker = Worker(["x" * 70])
    worker.add_function("f", lambda job: b"")
    worker.work(timeout=3)
    assert caplog.text.count("'idna' codec") > 1, caplog.text


PROGRAM = """
import sys, time
from gearman_py import Worker
worker = Worker(sys.argv[1], processes=int(sys.argv[2]))

@worker.function("f")
def f(job):
    time.sleep(60)

@worker.on_shutdown
def say():
    print("shut down", flush=True)

try:
    worker.work(timeout=60)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("processes", [0, 1])
@pytest.mark.parametrize("busy", [False, True])
def test_an_interrupt_ends_work_and_its_job_goes_back(
    gearman_server: Server, gearman_client: Client, processes: int, busy: bool
) -> None:
    command = [sys.executable, "-c", PROGRAM, gearman_server.address, str(processes)]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    gearman_server.wait_for("f", workers=1)
    if busy:
        gearman_client.do_background("f")
        gearman_server.wait_for("f", running=1)
    worker.send_signal(signal.SIGINT)
    said, errors = worker.communicate(timeout=120)
    assert said.splitlines()[-1] == "interrupted"
    if processes == 0:  # a process that has a job is killed
        assert said.splitlines()[0] == "shut down"
    assert errors == ""
    gearman_server.wait_for("f", waiting=int(busy), running=0)


def test_a_worker_whose_task_is_cancelled_takes_no_more_jobs(gearman_server: Server) -> None:
    worker = Worker(gearman_server.address)
    said: list[str] = []
    worker.add_function("plain", lambda job: b"")

    @worker.function("f")
    async def f(job: WorkerJob) -> None:
        try:
            began.set()
            await asyncio.sleep(60)
        finally:
            said.append("the function ended")

    @worker.on_shutdown
    def shut_down() -> None:
        said.append("shut down")

    def slot_threads() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "gearman-slot"}

    earlier = slot_threads()
    began = asyncio.Event()

    async def scenario() -> None:
        with Client(gearman_server.address) as client:
            client.do_background("f")
        serving = asyncio.create_task(worker.serve())
        await began.wait()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert said == ["the function ended", "shut down"]
        await asyncio.to_thread(gearman_server.wait_for, "f", waiting=1, running=0)
        await asyncio.to_thread(await_true, lambda: not slot_threads() - earlier)

    asyncio.run(scenario())


@pytest.mark.parametrize("processes", [0, 2])
def test_a_worker_that_is_stopped_closes_its_sockets(
    gearman_server: Server, processes: int
) -> None:
    """Those of an abandoned job too, and of a process that has no job."""
    release = threading.Event()

    async def stop_busy_worker() -> None:
        worker = Worker(gearman_server.address, processes=processes)

        @worker.function("held")
        def held(job: WorkerJob) -> None:
            release.wait()

        with Client(gearman_server.address) as client:
            client.do_background("held")
        serving = asyncio.create_task(worker.serve())
        await asyncio.to_thread(gearman_server.wait_for, "held", running=1)
        worker.stop()
        await serving

    def slot_threads() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "gearman-slot"}

    earlier = slot_threads()
    with all_closed():
        asyncio.run(stop_busy_worker())
        release.set()
        await_true(lambda: not slot_threads() - earlier)
