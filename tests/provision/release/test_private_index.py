"""An index of the operator's own that wants a password: it stays in pip's own configuration."""

import os
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import rmtree

import pytest

from provision.agent.system import describe_system
from provision.commands.lock import lock
from provision.errors import ToolkitError
from provision.release.app import build_app
from provision.release.app_source import App
from provision.release.build import build_release
from provision.release.target import target_of
from tests.provision.small_wheels import make_project, make_wheel

pytestmark = pytest.mark.slow

SECRET = "hunter2-of-the-index"  # noqa: S105  # of this test
ALLOWED = f"Basic {b64encode(f'ann:{SECRET}'.encode()).decode()}"
HOSTS = """
worker:
  hosts: {worker1: }
  vars:
    gearman_apps: {shop: {source: ../shop}}
    gearman_workers: {shop: {app: shop, run: shop:worker}}
"""


class Index(BaseHTTPRequestHandler):
    """As PEP 503 says, of the wheels in a folder."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        self.folder = folder
        super().__init__(*arguments)  # type: ignore[arg-type]  # what the server gives

    def do_GET(self) -> None:  # named by the base class
        if self.headers["Authorization"] != ALLOWED:
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic")
            self.end_headers()
            return
        name = self.path.rstrip("/").rpartition("/")[2]
        links = "".join(
            f'<a href="/files/{wheel.name}#sha256={sha256(wheel.read_bytes()).hexdigest()}">'
            f"{wheel.name}</a>"
            for wheel in self.folder.glob(f"{name}-*.whl")
        )
        file = self.folder / name
        known = file.is_file() or links
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(file.read_bytes() if file.is_file() else links.encode())

    do_HEAD = do_GET  # named by the base class

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of what it has; pip of this test knows it by a configuration file alone."""
    folder = tmp_path / "index"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Index, folder))
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    config = tmp_path / "pip.conf"
    url = f"http://ann:{SECRET}@127.0.0.1:{server.server_port}/simple"
    config.write_text(f"[global]\nindex-url = {url}\n")
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    yield folder
    server.shutdown()
    serving.join()
    server.server_close()


@contextmanager
def arguments_watched() -> Iterator[set[bytes]]:
    """The arguments of every process meanwhile, which any user of a machine can read."""
    seen: set[bytes] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            for process in filter(str.isdigit, os.listdir("/proc")):
                try:
                    seen.add(Path("/proc", process, "cmdline").read_bytes())
                except OSError:  # it is gone
                    continue

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield seen
    finally:
        over.set()
        watching.join()


def test_its_password_is_in_no_lock_release_argument_or_message(
    tmp_path: Path, index: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = target_of(describe_system())
    build_release(target)  # of wheels that were fetched before
    make_project(tmp_path / "shop")
    project = tmp_path / "shop" / "pyproject.toml"
    project.write_text(f"{project.read_text()}dependencies = ['colors']\n")
    make_wheel(index, "colors", "1.0", f"NAME = 'teal '  # {tmp_path}\n")
    (tmp_path / "hosts").mkdir()
    (tmp_path / "hosts" / "hosts.yml").write_text(HOSTS)
    said: list[str] = []
    app = App("shop", tmp_path / "shop", python=True)
    with arguments_watched() as seen:
        lock(tmp_path / "hosts", "shop", said.append)
        config = tmp_path / "pip.conf"
        right = config.read_text()
        for login in ("ann:wrong@", ""):
            config.write_text(right.replace(f"ann:{SECRET}@", login))
            refusal = r"index at 127\.0\.0\.1:\d+ refused the login: mend user and password where"
            with pytest.raises(ToolkitError, match=refusal):
                build_app(app, tmp_path, target=target)
            rmtree(tmp_path / "uv", ignore_errors=True)
            with pytest.raises(ToolkitError, match=refusal):
                lock(tmp_path / "hosts", "shop", said.append, upgrade=True)
        config.write_text(right)
        path = build_app(app, tmp_path, target=target).path
        locked = tmp_path / "shop" / "pylock.toml"
        locked.write_text(locked.read_text().replace('version = "1.0"', 'version = "1.1"'))
        with pytest.raises(ToolkitError) as raised:
            build_app(app, tmp_path, target=target)
    assert path
    assert "colors" in locked.read_text()
    written = [each for each in tmp_path.rglob("*") if each.is_file() and each.name != "pip.conf"]
    assert not [each for each in written if SECRET.encode() in each.read_bytes()]
    assert SECRET.encode() not in path.read_bytes()
    assert [each for each in seen if b"colors" in each or b"pip" in each]
    assert not [each for each in seen if SECRET.encode() in each]
    out, err = capfd.readouterr()
    assert SECRET not in f"{said} {raised.value} {out} {err}"
