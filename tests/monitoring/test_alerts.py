"""The alert rules: tested as Prometheus tests rules, and by a job server that fails for real."""

import json
import re
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from gearman_py import Client
from gearman_py.server.metrics_table import METRICS
from gearman_py.worker.metrics import WORKER_METRICS
from provision.commands.check import DEPLOY_METRICS
from tests.job_servers import JobServer
from tests.ports import reserve_port
from tests.waiting import await_true

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "monitoring" / "alerts.yml"
ALERTS = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
PROGRAMS = ("promtool", "prometheus", "prometheus-alertmanager")

pytestmark = [pytest.mark.interop, pytest.mark.slow]


@pytest.fixture(autouse=True)
def programs_are_installed() -> None:
    if missing := [name for name in PROGRAMS if not shutil.which(name)]:
        pytest.skip(f"needs Debian's prometheus and prometheus-alertmanager: no {missing}")


@pytest.mark.parametrize(
    "arguments", [["check", "rules", RULES], ["test", "rules", RULES.with_name("alerts_test.yml")]]
)
def test_promtool_passes_the_rules(arguments: list[str | Path]) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_use_metrics_that_there_are_and_each_has_its_test_and_its_runbook() -> None:
    known = {"up", *(name for each in METRICS for name in each.series)}
    known |= {each.name for each in (*WORKER_METRICS, *DEPLOY_METRICS)}
    tested = yaml.safe_load(RULES.with_name("alerts_test.yml").read_text())["tests"]
    fired = {
        case["alertname"]
        for test in tested
        for case in test["alert_rule_test"]
        if case.get("exp_alerts")
    }
    page = (ROOT / "docs" / "alerts.md").read_text()
    for alert in ALERTS:
        used = re.findall(r"\b(?:gearman|process)_\w+\b|\bup\b", alert["expr"])
        assert set(used) <= known
        assert alert["alert"] in fired
        assert alert["annotations"]["runbook"] == f"docs/alerts.md#{alert['alert'].lower()}"
        assert f"\n## {alert['alert']}\n" in page


class Pager(HTTPServer):
    """Where Alertmanager sends what it has to say: (alert, function, status)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _PagerHandler)
        self.told: list[tuple[str, str, str]] = []


class _PagerHandler(BaseHTTPRequestHandler):
    server: Pager

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for each in sent["alerts"]:
            labels = each["labels"]
            told = labels["alertname"], labels.get("function", ""), each["status"]
            self.server.told.append(told)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def pager() -> Iterator[Pager]:
    with Pager() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@contextmanager
def running(folder: Path, ready: str, *argv: str) -> Iterator[None]:
    """A program that is ready when it answers at ``ready``."""
    with (folder / f"{argv[0]}.log").open("wb") as log:
        process = subprocess.Popen(argv, cwd=folder, stdout=log, stderr=log)
        try:
            await_true(lambda: process.poll() is not None or _answers(ready))
            assert process.poll() is None, (folder / f"{argv[0]}.log").read_text()
            yield
        finally:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  # http, of this test
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture
def metrics_port(tmp_path: Path, pager: Pager) -> Iterator[int]:
    """Where Prometheus scrapes a job server every half second; alerts wait no minutes here."""
    port, prometheus, alertmanager = reserve_port(), reserve_port(), reserve_port()
    hurried = re.sub(r"for: \d+m", "for: 1s", RULES.read_text())
    (tmp_path / "alerts.yml").write_text(hurried)
    _write(
        tmp_path / "prometheus.yml",
        {
            "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
            "rule_files": ["alerts.yml"],
            "scrape_configs": [
                {
                    "job_name": "gearmand",
                    "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
                }
            ],
            "alerting": {
                "alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]
            },
        },
    )
    _write(
        tmp_path / "alertmanager.yml",
        {
            "route": {
                "receiver": "pager",
                "group_by": ["..."],
                "group_wait": "100ms",
                "group_interval": "200ms",
            },
            "receivers": [
                {
                    "name": "pager",
                    "webhook_configs": [{"url": f"http://127.0.0.1:{pager.server_port}/"}],
                }
            ],
        },
    )
    manager, scraper = f"127.0.0.1:{alertmanager}", f"127.0.0.1:{prometheus}"
    with (
        running(
            tmp_path,
            f"http://{manager}/-/ready",
            "prometheus-alertmanager",
            "--config.file=alertmanager.yml",
            "--storage.path=alertmanager",
            "--cluster.listen-address=",
            f"--web.listen-address={manager}",
        ),
        running(
            tmp_path,
            f"http://{scraper}/-/ready",
            "prometheus",
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=prometheus",
            f"--web.listen-address={scraper}",
        ),
    ):
        yield port


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(content))


def test_alerts_of_a_real_server_fire_and_resolve(
    gearmand: JobServer, metrics_port: int, pager: Pager
) -> None:
    gearmand.stop()
    await_true(lambda: ("GearmanServerDown", "", "firing") in pager.told)
    gearmand.start("--metrics-listen", f"127.0.0.1:{metrics_port}")
    await_true(lambda: ("GearmanServerDown", "", "resolved") in pager.told)
    with Client(gearmand.address) as client:
        client.do_background("resize", b"x")
    alert = "GearmanFunctionWithoutWorkers", "resize"
    await_true(lambda: (*alert, "firing") in pager.told)
    gearmand.stop()
    gearmand.start("--metrics-listen", f"127.0.0.1:{metrics_port}")  # its queue was in memory
    await_true(lambda: (*alert, "resolved") in pager.told)
