"""A real Prometheus scrapes two job servers, and three workers by the real node_exporter."""

import json
import shutil
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from gearman_py import Client
from tests.job_servers import JobServer
from tests.monitoring.test_alerts import running
from tests.ports import reserve_port
from tests.waiting import LIMIT, await_true

PROGRAMS = ("prometheus", "prometheus-node-exporter")
JOBS = 7
WORKERS = ("one", "two", "three")

pytestmark = [
    pytest.mark.interop,
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, PROGRAMS)), reason="needs Debian's prometheus and its exporter"
    ),
]


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[dict[str, JobServer]]:
    """Two job servers, by where their metrics are."""
    found = {}
    with ExitStack() as stack:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            server = JobServer(tmp_path / name)
            metrics = f"127.0.0.1:{reserve_port()}"
            server.start("--metrics-listen", metrics)
            stack.callback(server.stop)
            found[metrics] = server
        yield found


@pytest.fixture
def prometheus(servers: dict[str, JobServer], tmp_path: Path) -> Iterator[str]:
    """Where Prometheus answers; node_exporter reads the folder ``textfiles``."""
    own, exporter = (f"127.0.0.1:{reserve_port()}" for _ in range(2))
    jobs = {"gearmand": [*servers], "node": [exporter]}
    scraped = [
        {"job_name": name, "static_configs": [{"targets": targets}]}
        for name, targets in jobs.items()
    ]
    config = {"global": {"scrape_interval": "500ms"}, "scrape_configs": scraped}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    (tmp_path / "textfiles").mkdir()
    with (
        running(
            tmp_path,
            f"http://{exporter}/metrics",
            "prometheus-node-exporter",
            *("--collector.disable-defaults", "--collector.textfile"),
            f"--collector.textfile.directory={tmp_path / 'textfiles'}",
            f"--web.listen-address={exporter}",
        ),
        running(
            tmp_path,
            f"http://{own}/-/ready",
            "prometheus",
            *("--config.file=prometheus.yml", "--storage.tsdb.path=data"),
            f"--web.listen-address={own}",
        ),
    ):
        yield own


def ask(prometheus: str, query: str) -> dict[str, float]:
    """The values of a query, by their only label."""
    url = f"http://{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    with urllib.request.urlopen(url, timeout=LIMIT) as answer:
        rows: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return {",".join(row["metric"].values()): float(row["value"][1]) for row in rows}


def has_workers(server: JobServer) -> bool:
    return server.workers_of("reverse") == len(WORKERS)


def test_what_was_done_is_counted_once_by_servers_and_once_by_workers(
    servers: dict[str, JobServer], prometheus: str, program: Any, tmp_path: Path
) -> None:
    hosts = ",".join(server.address for server in servers.values())
    for name in WORKERS:
        file = tmp_path / "textfiles" / f"{name}.prom"
        program("worker", "--servers", hosts, "--metrics-file", str(file), "reverse")
    for server in servers.values():
        await_true(partial(has_workers, server))
        with Client(server.address) as client:
            for _ in range(JOBS):
                client.do("reverse", b"x")
    total = {"": float(JOBS * len(servers))}
    by_workers = "sum(gearman_worker_jobs_total{outcome='complete', function='reverse'})"
    await_true(lambda: ask(prometheus, by_workers) == total)
    await_true(lambda: ask(prometheus, "sum(gearman_jobs_completed_total)") == total)
    assert ask(prometheus, "up") == dict.fromkeys(ask(prometheus, "up"), 1.0)
    assert ask(prometheus, "max(node_textfile_scrape_error)") == {"": 0.0}
    healthy = ask(prometheus, "sum by (worker) (gearman_worker_healthy)")
    assert healthy == dict.fromkeys(WORKERS, 1.0)
    connected = ask(prometheus, "sum by (worker) (gearman_worker_servers_registered)")
    assert connected == dict.fromkeys(WORKERS, 2.0)
