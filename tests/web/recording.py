"""What job servers said to a dashboard, as a file: ``python -m tests.web.recording [SCENE]...``

The pictures of docs/dashboard are drawn from it, so that they are the same each time. It takes ten
minutes, in which jobs come and go.
"""

import json
import math
import re
import socket
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from html import unescape
from pathlib import Path

from gearman_py import AdminClient
from tests.job_servers import JobServer
from tests.web.scenes import HOSTS, Fleet, burning_fleet, empty_fleet, healthy_fleet

FOLDER = Path(__file__).parent / "recordings"
INTERVAL = 15  # seconds between two looks that are kept
PAGES = {
    "overview": "/",
    "functions": "/functions",
    "function": "/function?name=resize",
    "jobs": "/jobs?state=running",
    "failed": "/failed",
    "schedules": "/schedules",
    "workers": "/workers",
    "workers-by-pool": "/workers?by=pool",
    "servers": "/servers",
    "deploys": "/deploys",
}
ASKED = (  # too
    *("/jobs", "/jobs?state=scheduled", "/function?name=mail.send", "/function?name=report.pdf"),
    "/failed?function=mail.send",
)
SCENES: dict[str, tuple[Fleet, float]] = {  # and how many seconds it lasts
    "empty": (empty_fleet, 0),
    "healthy": (healthy_fleet, 120),
    "on-fire": (burning_fleet, 330),
}
JOB = re.compile(r'href="(/job\?.*?)"')
NETWORK = "10.0.0."
VALUES = ("version", "getpid")  # what is answered in one line


@dataclass
class ServerRecording:
    """What a job server said: its counts at each look, and the last answer to all else."""

    stats: list[str] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)


@dataclass
class Recording:
    """``servers`` by name; one without answers was down. ``job``: the page of a job."""

    now: float
    servers: dict[str, ServerRecording]
    job: str = ""

    @property
    def moments(self) -> list[float]:
        """When the job servers were looked at."""
        looks = max(len(each.stats) for each in self.servers.values())
        return [self.now - INTERVAL * back for back in reversed(range(looks))]

    @classmethod
    def load(cls, scene: str) -> "Recording":
        found = json.loads((FOLDER / f"{scene}.json").read_text())
        servers = {name: ServerRecording(**each) for name, each in found["servers"].items()}
        return cls(found["now"], servers, found["job"])

    def save(self, scene: str) -> None:
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / f"{scene}.json").write_text(json.dumps(asdict(self), indent=0) + "\n")


class Recorder:
    """Passes on what is said to a job server, and remembers it."""

    def __init__(self, port: int) -> None:
        self.said = ServerRecording()
        self._looked = -math.inf  # when the last counts that stay were asked for
        self._port = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            peer, _ = self._listening.accept()
            threading.Thread(target=self._pass, args=[peer], daemon=True).start()

    def _pass(self, peer: socket.socket) -> None:
        with peer, suppress(OSError):
            server = socket.create_connection(("127.0.0.1", self._port))
            asked, answers = peer.makefile("r"), server.makefile("r")
            for line in asked:
                server.sendall(line.encode())
                command, answer = line.rstrip("\r\n"), answers.readline()
                if command not in VALUES and not answer.startswith("ERR "):
                    while not f"\n{answer}".endswith("\n.\n"):
                        answer += answers.readline()
                self._add(command, tidy(answer))
                peer.sendall(answer.encode())

    def _add(self, command: str, answer: str) -> None:
        if command != "stats":
            self.said.answers[command] = answer
        elif (now := time.monotonic()) - self._looked < INTERVAL:
            self.said.stats[-1] = answer
        else:
            self.said.stats.append(answer)
            self._looked = now


def tidy(answer: str) -> str:
    """An answer as if the fleet were spread over hosts."""
    lines = []
    for line in answer.splitlines(keepends=True):
        number = next((n for n, host in enumerate(HOSTS, 21) if f"{host[0]}:" in line), 31)
        lines.append(re.sub(r"127\.0\.0\.1(:\d+)?", f"{NETWORK}{number}", line))
    return "".join(lines)


def record(name: str) -> None:
    """Record a scene."""
    fleet, seconds = SCENES[name]
    recorders: dict[str, Recorder] = {}

    def reach(server: JobServer) -> str:
        recorder = recorders[f"jobs{len(recorders) + 1}"] = Recorder(server.port)
        return recorder.address

    with (
        tempfile.TemporaryDirectory() as folder,
        fleet(Path(folder), seconds, reach) as scene,
    ):
        pages = [scene.site.get(path).text for path in (*ASKED, *PAGES.values())]
        job = next((unescape(found) for page in pages for found in JOB.findall(page)), "")
        scene.site.get(job or "/")
        for server in scene.addresses:  # as a page does that only those see who operate
            with AdminClient(recorders[server].address) as admin:
                admin.find_jobs("failed", function="mail.send", limit=1)
        said = {server: recorder.said for server, recorder in recorders.items()}
        down = {server: ServerRecording() for server in said.keys() - scene.addresses.keys()}
        Recording(time.time(), said | down, job).save(name)


if __name__ == "__main__":
    for each in sys.argv[1:] or SCENES:
        record(each)
