"""The samples for containers: their commands are ours, and their probes are answered."""

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from gearman_py.cli.worker_options import command_parser
from tests.job_servers import GearmandProcess
from tests.ports import reserve_port
from tests.waiting import await_true

SAMPLES = Path(__file__).resolve().parents[2] / "examples" / "containers"
CONTAINERFILE = (SAMPLES / "Containerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((SAMPLES / "compose.yml").read_text())["services"]
KUBERNETES: dict[str, Any] = {
    f"{each['kind']}/{each['metadata']['name']}": each
    for each in yaml.safe_load_all((SAMPLES / "kubernetes.yml").read_text())
}
POD: dict[str, Any] = KUBERNETES["StatefulSet/gearmand"]["spec"]["template"]["spec"]
CONTAINER: dict[str, Any] = POD["containers"][0]
WORKER: dict[str, Any] = KUBERNETES["Deployment/gearman-worker"]["spec"]["template"]["spec"]


def command_of_image() -> list[str]:
    found = re.search(r"^CMD (\[.*\])", CONTAINERFILE.replace("\\\n", ""), re.MULTILINE)
    assert found
    words: list[str] = json.loads(found[1])
    return words


def option(words: list[str], name: str) -> str:
    """The value of ``--name value`` or ``--name=value``."""
    parts = [part for word in words for part in word.split("=", 1)]
    return parts[parts.index(name) + 1]


@pytest.mark.parametrize(
    "words", [command_of_image(), CONTAINER["args"]], ids=["Containerfile", "Kubernetes"]
)
def test_a_server_started_as_in_the_samples_answers_the_probes(
    words: list[str], tmp_path: Path
) -> None:
    port, queue = reserve_port(), option(words, "--queue-file")
    assert words[0] == "gearmand"
    here = [
        word.replace("0.0.0.0:9418", f"127.0.0.1:{port}").replace(queue, str(tmp_path / "queue.db"))
        for word in words[1:]
    ]
    server = GearmandProcess([*here, "-v", "-L", "127.0.0.1", "-p", "0"], tmp_path)
    try:
        server.listening()
        for probe in ("startupProbe", "readinessProbe"):
            path = CONTAINER[probe]["httpGet"]["path"]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
                assert answer.status == 200
        await_true((tmp_path / "queue.db").exists)
    finally:
        server.end()


def test_probes_and_ports_are_those_that_the_server_has() -> None:
    metrics = int(option(CONTAINER["args"], "--metrics-listen").rpartition(":")[2])
    ports = [port["containerPort"] for port in CONTAINER["ports"]]
    assert ports == [4730, metrics]
    assert CONTAINER["readinessProbe"]["httpGet"]["port"] == metrics
    assert f"EXPOSE {' '.join(map(str, ports))}" in CONTAINERFILE


def test_the_queue_is_on_the_volume() -> None:
    for words, places in (
        (CONTAINER["args"], [mount["mountPath"] for mount in CONTAINER["volumeMounts"]]),
        (command_of_image(), re.findall(r"^VOLUME (.*)$", CONTAINERFILE, re.MULTILINE)),
        (command_of_image(), [each.partition(":")[2] for each in COMPOSE["gearmand"]["volumes"]]),
    ):
        assert [str(Path(option(words, "--queue-file")).parent)] == places


@pytest.mark.parametrize(
    "words",
    [COMPOSE["worker"]["command"], WORKER["containers"][0]["args"]],
    ids=["Compose", "Kubernetes"],
)
def test_workers_are_started_with_options_that_there_are(words: list[str]) -> None:
    assert words[0] == "gearman-worker"
    assert command_parser().parse_args(words[1:]).functions == ["reverse", "wc", "resize"]


def test_stopping_leaves_time_to_drain() -> None:
    drain = int(option(CONTAINER["args"], "--drain-timeout"))
    assert POD["terminationGracePeriodSeconds"] > drain
    assert int(COMPOSE["gearmand"]["stop_grace_period"].rstrip("s")) > drain
    worker = 60  # gearman-worker's own default
    assert WORKER["terminationGracePeriodSeconds"] > worker
    assert int(COMPOSE["worker"]["stop_grace_period"].rstrip("s")) > worker
