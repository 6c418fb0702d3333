"""A dashboard that stands still: it shows what job servers once said, at that time of day.

``python -m tests.web.still SCENE PORT`` serves it until it is killed.
"""

import asyncio
import logging
import socket
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from unittest.mock import patch

from gearman_py.net.servers import ServerAddress
from gearman_py.web.access import Access
from gearman_py.web.app import make_app
from gearman_py.web.collector import Collector
from gearman_py.web.deploy_records import read_records
from gearman_py.web.history import History
from gearman_py.web.secret_link import SecretLink
from gearman_py.web.serve import serve
from tests.web.recording import Recording, ServerRecording
from tests.web.scenes import write_deploys, write_past

OPERATED = "on-fire"  # the scene at which someone looks who may operate
KEY = "to-operate"


def enter_path(scene: str) -> str:
    """Where who looks comes in."""
    return f"/enter?key={KEY}" if scene == OPERATED else "/"


class Clock:
    """The time of the recording. It moves only from ``look`` to look."""

    def __init__(self) -> None:
        self.now = 0.0
        self.look = 0

    def time(self) -> float:
        return self.now

    monotonic = time


class StillCollector(Collector):
    """Looks at the job servers when they were looked at, and never again."""

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def look_again(self, recording: Recording, clock: Clock) -> None:
        """Look as often as when it was recorded."""
        for clock.look, clock.now in enumerate(recording.moments):
            await self.look()
        for server in self.fleet.servers:
            server.seconds = 0.002  # of the real clock


async def replay(said: ServerRecording, clock: Clock) -> ServerAddress:
    """A port that answers what a job server said; one that was down refuses connections."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            command = line.decode().rstrip("\r\n")
            writer.write(answer_to(said, command, clock.look).encode())
        writer.close()

    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    address = ServerAddress(*bound.getsockname())
    if said.answers:
        await asyncio.start_server(answer, sock=bound)
    else:
        bound.detach()  # it stays bound as long as this process lives
    return address


def answer_to(said: ServerRecording, command: str, look: int) -> str:
    if command == "stats":
        return said.stats[min(look, len(said.stats) - 1)]
    if command not in said.answers:
        print(f"not recorded: {command!r}; python -m tests.web.recording", file=sys.stderr)
    return said.answers.get(command, "ERR not_recorded\n")


async def show(scene: str, port: int, folder: Path, clock: Clock) -> None:
    """Serve the dashboard of a scene."""
    recording = Recording.load(scene)
    clock.now = recording.now
    if scene != "empty":
        write_past(folder / "history", recording.moments[0])
        write_deploys(folder / "runs.jsonl", trouble=scene == "on-fire")
    servers = [await replay(said, clock) for said in recording.servers.values()]
    history = History(folder / "history")
    collector = StillCollector(servers, history, 3600, [*recording.servers])
    await collector.look_again(recording, clock)
    access = Access(link=SecretLink("ann", KEY) if scene == OPERATED else None)
    app = make_app(collector, access, partial(read_records, folder / "runs.jsonl"))
    await serve(app, "127.0.0.1", port, None)


def main() -> None:
    logging.basicConfig(level=logging.INFO)
    clock = Clock()
    scene, port = sys.argv[1:]
    with ExitStack() as stack:
        stack.enter_context(patch("time.time", clock.time))
        stack.enter_context(patch("gearman_py.web.collector.time", clock))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        asyncio.run(show(scene, int(port), Path(folder), clock))


if __name__ == "__main__":
    main()
