"""The code of docs/frameworks.md, in the frameworks that it is for."""

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest

from gearman_py import Client, Worker
from gearman_py.functions.wc import wc
from gearman_py.testing import Server, running, server
from tests.ports import reserve_port
from tests.waiting import await_true

PAGE = Path(__file__).resolve().parent.parent / "docs" / "frameworks.md"
SETTINGS = """
SECRET_KEY = "of a test"
INSTALLED_APPS = ["shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.db"}}
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
"""
MODELS = """
from django.db import models

class Order(models.Model):
    receipts = models.IntegerField(default=0)
"""
BUY = """
import django
django.setup()
from django.core.management import call_command
from django.db import connection, transaction
from shop.models import Order
from shop import jobs

call_command("migrate", run_syncdb=True, verbosity=0)
with transaction.atomic():
    order = Order.objects.create()
    jobs.send_receipt(order)
    jobs.send_receipt(order)
"""
LOOK = """
import django
django.setup()
from shop.models import Order
print(Order.objects.get().receipts)
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def jobs() -> Iterator[Server]:
    with server() as running_server:
        yield running_server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of the page."""
    for name, code in re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE.read_text(), re.DOTALL):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(code)
    return tmp_path


def settings(jobs: Server, **more: str) -> dict[str, str]:
    return {**os.environ, "GEARMAN_SERVERS": jobs.address, "PYTHONPATH": ".", **more}


def test_django_submits_what_is_committed_and_its_worker_uses_the_database(
    jobs: Server, folder: Path
) -> None:
    (folder / "shop" / "__init__.py").touch()
    (folder / "shop" / "settings.py").write_text(SETTINGS)
    (folder / "shop" / "models.py").write_text(MODELS)
    environment = settings(jobs, DJANGO_SETTINGS_MODULE="shop.settings")

    def run(code: str) -> str:
        command = [sys.executable, "-c", code]
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=True
        ).stdout

    run(BUY)
    jobs.wait_for("send_receipt", waiting=1)
    command = [sys.executable, "-m", "gearman_py.cli.worker", "--concurrency", "4", "--burst"]
    subprocess.run([*command, "shop.worker:worker"], cwd=folder, env=environment, check=True)
    assert run(LOOK) == "1\n"


def test_flask_returns_a_result_and_says_when_there_is_none(
    jobs: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEARMAN_SERVERS", jobs.address)
    names: dict[str, object] = {"__name__": "words"}
    exec(compile((folder / "words.py").read_text(), "words.py", "exec"), names)  # noqa: S102  # the page's
    app, client = names["app"], names["client"]
    assert isinstance(client, Client)
    worker = Worker(jobs.address)
    worker.add_function("wc", wc, workload=True)
    with client, running(worker):
        answer = app.test_client().post("/words", data="a line\n")  # type: ignore[attr-defined]  # Flask
        assert (answer.status_code, answer.data) == (200, b"1\n")


def ask(url: str, data: bytes | None = None) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, data, timeout=60) as answer:  # noqa: S310  # of this test
            return answer.status, answer.read()
    except HTTPError as error:
        with error:
            return error.code, error.read()


def test_fastapi_awaits_results_and_tells_how_far_jobs_are(jobs: Server, folder: Path) -> None:
    def resize(picture: bytes) -> bytes:
        if not picture.startswith(b"\xff\xd8"):
            raise ValueError("not a JPEG")
        return picture[:2]

    worker = Worker(jobs.address)
    worker.add_function("resize", resize, workload=True)
    port = reserve_port()
    base = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "uvicorn", "--port", str(port), "pictures:app"]
    process = subprocess.Popen(command, cwd=folder, env=settings(jobs))
    try:
        await_true(lambda: process.poll() is not None or _answers(f"{base}/docs"))
        assert process.poll() is None
        with running(worker):
            assert ask(f"{base}/thumbnail", b"\xff\xd8\xff") == (200, b"\xff\xd8")
            status, text = ask(f"{base}/thumbnail", b"a text")
            assert status == 502 and b"not a JPEG" in text
        status, text = ask(f"{base}/reports/march", b"")
        assert status == 202
        status, text = ask(f"{base}/jobs/{json.loads(text)['job']}")
        assert json.loads(text) == {"known": True, "running": False, "done": 0.0}
    finally:
        process.terminate()
        process.wait(60)


def _answers(url: str) -> bool:
    try:
        return ask(url)[0] == 200
    except OSError:
        return False
