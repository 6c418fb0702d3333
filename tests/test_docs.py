"""The code in README and docs runs as it stands."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.process import Server, await_true

ROOT = Path(__file__).resolve().parent.parent
BIN = str(Path(sys.executable).parent)


def blocks(name: str) -> list[str]:
    """The Python of a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)


def at(port: int, code: str) -> str:
    """The code, with this test's server in place of the usual one."""
    return code.replace("127.0.0.1:4730", f"127.0.0.1:{port}").replace(
        'Client("127.0.0.1")', f'Client("127.0.0.1:{port}")'
    )


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    server = Server(["-v", "-L", "127.0.0.1", "-p", "0"], tmp_path)
    yield server.listening()[1]
    server.end()


def registered(port: int, *functions: str) -> bool:
    command = [f"{BIN}/gearadmin", "-h", "127.0.0.1", "-p", str(port), "--workers"]
    listing = subprocess.run(command, capture_output=True, text=True).stdout
    return all(function in listing.split() for function in functions)


def test_worker_and_client_of_the_authors_page_work_together(port: int) -> None:
    worker, client = blocks("docs/worker-author.md")
    process = subprocess.Popen([sys.executable, "-c", at(port, worker)])
    try:
        await_true(lambda: registered(port, "shout", "count", "refuse"))
        done = subprocess.run(
            [sys.executable, "-c", at(port, client)], capture_output=True, text=True, timeout=20
        )
        assert done.returncode == 0, done.stderr
        assert "I would rather not" in done.stdout
    finally:
        process.terminate()
        assert process.wait(10) == 0, "it drains"


def test_client_of_the_readme_works_with_its_worker(port: int) -> None:
    (client,) = blocks("README.md")
    worker = [f"{BIN}/gearman-worker", "--servers", f"127.0.0.1:{port}", "reverse", "wc", "resize"]
    process = subprocess.Popen(worker)
    try:
        await_true(lambda: registered(port, "reverse", "wc", "resize"))
        subprocess.run([sys.executable, "-c", at(port, client)], check=True, timeout=20)
        answer = subprocess.check_output(
            [f"{BIN}/gearman", "-h", f"127.0.0.1:{port}", "-f", "reverse", "Hello World!"]
        )
        assert answer == b"!dlroW olleH"
    finally:
        process.terminate()
        process.wait(10)
