"""What a worker's log says, as its author reads it."""

import asyncio
import logging
from pathlib import Path

import pytest

from gearman_py import JobException, Worker
from gearman_py.client.sync import Client
from gearman_py.net.servers import parse_servers
from gearman_py.testing import Server, running
from gearman_py.worker.server_log import ServerLog


def test_a_server_is_told_of_once_for_all_slots(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    one, two = parse_servers("one,two")
    log, refused = ServerLog(), ConnectionRefusedError(111, "Connection refused")
    for _ in range(3):
        log.note_registered(one)
    for _ in range(3):
        log.note_failure(one, refused, 3, 60)
    log.note_failure(two, refused, 3, 60)
    log.note_failure(one, OSError(113, "No route to host"), 3, 0)
    log.note_failure(one, OSError(113, "No route to host"), 3, 60)
    log.note_registered(one)
    assert caplog.messages == [
        "registered with one:4730",
        "one:4730: Connection refused; trying again in 60.0 s",
        "two:4730: Connection refused; trying again in 60.0 s",
        "one:4730: No route to host; trying again in 0.0 s",
        "one:4730: No route to host; trying again in 60.0 s",
        "registered with one:4730",
    ]


def test_a_traceback_begins_in_the_function(
    caplog: pytest.LogCaptureFixture, gearman_server: Server, gearman_client: Client
) -> None:
    worker = Worker(gearman_server.address, concurrency=2)

    @worker.function("plain")
    def plain(job: object) -> bytes:
        raise ValueError("I would rather not")

    @worker.function("awaited")
    async def awaited(job: object) -> bytes:
        await asyncio.sleep(0)
        raise ValueError("nor I")

    with running(worker):
        for name in ("plain", "awaited"):
            with pytest.raises(JobException):
                gearman_client.do(name)
    failures = [record.exc_info for record in caplog.records if record.exc_info]
    assert len(failures) == 2
    for failure, name in zip(failures, ("plain", "awaited"), strict=True):
        first, place, *_ = logging.Formatter().formatException(failure).splitlines()
        assert first == "Traceback (most recent call last):"
        assert f'{Path(__file__).name}", line' in place
        assert place.endswith(f"in {name}")
