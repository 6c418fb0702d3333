"""The Grafana board asks only for metrics that there are, in PromQL that Prometheus understands."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gearman_py.server.metrics_table import METRICS

BOARD: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[2] / "monitoring" / "grafana.json").read_text()
)
EXPRESSIONS = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
QUERIES = [each["query"]["query"] for each in BOARD["templating"]["list"][1:]]


@pytest.mark.parametrize("expression", [*EXPRESSIONS, *QUERIES])
def test_the_board_uses_metrics_that_there_are(expression: str) -> None:
    known = {name: each for each in METRICS for name in each.series}
    used = re.findall(r"\b(?:gearman|process)_\w+", expression)
    assert used
    assert set(used) <= known.keys()
    for name, labels in re.findall(r"(\w+)\{(.*?)\}", expression):
        told = {*known[name].labels, "instance", "job"}
        assert set(re.findall(r"(\w+)=", labels)) <= told


def test_panels_have_places_and_names_of_their_own() -> None:
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in BOARD["panels"]]
    titles = [panel["title"] for panel in BOARD["panels"]]
    assert len(set(places)) == len(set(titles)) == len(titles)


@pytest.mark.interop
def test_prometheus_understands_the_board(tmp_path: Path) -> None:
    if not (promtool := shutil.which("promtool")):
        pytest.skip("needs promtool (apt-get install prometheus)")
    expressions = [each.replace("$__rate_interval", "5m") for each in EXPRESSIONS]
    rules = [{"record": f"r{n}", "expr": each} for n, each in enumerate(expressions)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
