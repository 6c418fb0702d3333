"""The example for KEDA in docs/steering.md: its shape, and its query, asked as KEDA asks it."""

import json
import re
import shutil
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from gearman_py import AdminClient, Client, Worker, WorkerJob
from gearman_py.testing import running as running_worker
from tests.job_servers import JobServer
from tests.monitoring.test_alerts import running
from tests.ports import reserve_port
from tests.waiting import LIMIT, await_true

PAGE = Path(__file__).resolve().parents[2] / "docs" / "steering.md"
(EXAMPLE,) = (
    found
    for text in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    if (found := yaml.safe_load(text)).get("kind") == "ScaledObject"
)
# Of config/crd/bases/keda.sh_scaledobjects.yaml and pkg/scalers/prometheus_scaler.go of KEDA 2.
REQUIRED = {"serverAddress", "query", "threshold"}
OPTIONAL = {
    *("queryParameters", "activationThreshold", "namespace", "customHeaders"),
    *("ignoreNullValues", "unsafeSsl", "awsRegion", "timeout", "identityOwner", "authModes"),
}


def test_the_example_has_the_shape_of_keda_s_resource() -> None:
    assert EXAMPLE["apiVersion"] == "keda.sh/v1alpha1"
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", EXAMPLE["metadata"]["name"])
    spec = EXAMPLE["spec"]
    assert isinstance(spec["scaleTargetRef"]["name"], str)
    assert 0 <= spec["minReplicaCount"] < spec["maxReplicaCount"]
    (trigger,) = spec["triggers"]
    assert trigger["type"] == "prometheus"
    metadata = trigger["metadata"]
    assert REQUIRED <= metadata.keys() <= REQUIRED | OPTIONAL
    assert {type(value) for value in metadata.values()} == {str}, "KEDA refuses others"
    assert float(metadata["threshold"]) > 0


@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("prometheus"), reason="needs Debian's prometheus")
def test_its_query_has_one_value_which_is_what_gearadmin_says(tmp_path: Path) -> None:
    metrics, prometheus = reserve_port(), f"127.0.0.1:{reserve_port()}"
    scraped = {"job_name": "gearmand", "static_configs": [{"targets": [f"127.0.0.1:{metrics}"]}]}
    config = {"global": {"scrape_interval": "500ms"}, "scrape_configs": [scraped]}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    server = JobServer(tmp_path)
    server.start("--metrics-listen", f"127.0.0.1:{metrics}")
    words = ("prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data")
    ready = f"http://{prometheus}/-/ready"
    try:
        with (
            running(tmp_path, ready, *words, f"--web.listen-address={prometheus}"),
            Client(server.address) as client,
            AdminClient(server.address) as admin,
        ):
            assert ask_as_keda(prometheus) == []
            client.do_background("resize", b"x")
            await_true(lambda: ask_as_keda(prometheus) == [1.0])
            worker = Worker([server.address])
            worker.function("resize")(work_half_a_second)
            with running_worker(worker):
                await_true(lambda: admin.stats()[0].completed)
            for _ in range(1000):
                client.do_background("resize", b"x")
            assert admin.stats()[0].workers_wanted > 4
            await_true(lambda: ask_as_keda(prometheus) == [float(admin.stats()[0].workers_wanted)])
            server.stop()
            await_true(lambda: ask_as_keda(prometheus) == [])  # and not 0, which would end pods
    finally:
        server.stop()


def work_half_a_second(job: WorkerJob) -> bytes:
    time.sleep(0.5)  # how long a run takes is what is measured
    return b""


def ask_as_keda(prometheus: str) -> list[float]:
    """The values of the example's query; KEDA takes one."""
    query = EXAMPLE["spec"]["triggers"][0]["metadata"]["query"]
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    words = urllib.parse.urlencode({"query": query, "time": now})
    url = f"http://{prometheus}/api/v1/query?{words}"
    with urllib.request.urlopen(url, timeout=LIMIT) as answer:
        found: dict[str, Any] = json.load(answer)
    assert found["data"]["resultType"] == "vector"
    return [float(each["value"][1]) for each in found["data"]["result"]]
