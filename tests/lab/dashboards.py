"""`./invoke web` on this machine."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ports import reserve_port
from tests.waiting import await_true
from tests.web.site import Site

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def invoke_web(folder: Path, place: Path, *options: str) -> Iterator[Site]:
    """`./invoke web`, until it is interrupted."""
    port, log = reserve_port(), place / "log"
    command = [sys.executable, "-u", "-m", "invoke", "--search-root", str(ROOT)]
    words = ["web", "--hosts", str(folder), "--port", str(port), *options]
    environment = {**os.environ, "TMPDIR": str(place)}
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, *words], cwd=ROOT, stdout=file, stderr=file, env=environment
        )
    try:
        await_true(lambda: "http://127.0.0.1" in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        site = Site(f"http://127.0.0.1:{port}", process, log)
        await_true(lambda: is_served(site))
        yield site
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0, log.read_text()
    assert "Traceback" not in log.read_text()


def is_served(site: Site) -> bool:
    try:
        return site.get("/healthz").status == 200
    except OSError:
        return False


def answers(site: Site) -> bool:
    """Whether the page is there, and the job server answers."""
    try:
        return "Answers" in site.page("/servers").text
    except OSError:
        return False
