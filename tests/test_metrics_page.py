"""docs/metrics.md says what the table of metrics says."""

import os
import re
from pathlib import Path

from gearman_py.server.metrics_table import METRICS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"
ROWS = re.compile(r"(?<=\|---\|---\|---\|---\|\n)(\|.*\|\n|ROWS\n)*")


def test_each_metric_has_its_row() -> None:
    rows = []
    for each in METRICS:
        labels = ", ".join(each.labels)
        rows.append(f"| `{each.name}` | {each.kind} | {labels} | {each.help} |\n")
    text = PAGE.read_text()
    wanted = ROWS.sub(lambda _: "".join(rows), text, count=1)
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(wanted)
    assert text == wanted
