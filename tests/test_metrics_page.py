"""docs/metrics.md says what the tables of metrics say."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from gearman_py.exposition import Family
from gearman_py.server.metrics_table import METRICS
from gearman_py.worker.metrics import WORKER_METRICS
from provision.commands.check import DEPLOY_METRICS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"
HEAD = "| name | type | labels | meaning |\n|---|---|---|---|\n"


@pytest.mark.parametrize(
    ("heading", "table"),
    [
        ("# Metrics\n", METRICS),
        ("## Workers\n", WORKER_METRICS),
        ("## The fleet\n", DEPLOY_METRICS),
    ],
)
def test_each_metric_has_its_row(heading: str, table: Sequence[Family]) -> None:
    rows = []
    for each in table:
        labels = ", ".join(each.labels)
        rows.append(f"| `{each.name}` | {each.kind} | {labels} | {each.help} |\n")
    text = PAGE.read_text()
    start = text.index(HEAD, text.index(heading)) + len(HEAD)
    found = re.match(r"(\|.*\|\n|ROWS\n)*", text[start:])
    assert found
    wanted = text[:start] + "".join(rows) + text[start + found.end() :]
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(wanted)
    assert text == wanted
