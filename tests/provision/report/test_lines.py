"""Lines on a narrow terminal: wrapped between words, below the column that they belong to."""

import pytest

from provision.report.lines import wrap_line

UNITS = "gearman-worker@reverse, gearman-worker@wc run"


@pytest.mark.parametrize(
    ("before", "text", "shown"),
    [
        ("w1  ok", "  all is well", "  all is well"),
        (
            "w1  ok    ",
            f"  units  {UNITS}",
            "  units  gearman-worker@reverse,\n                   gearman-worker@wc run",
        ),
        (
            "",
            "nothing was changed, as the first of all hosts is away",
            "nothing was changed, as the first of all\n    hosts is away",
        ),
        (
            "  ~",
            " file /etc/app  (in place of an earlier one)",
            " file /etc/app  (in place of an earlier\n    one)",
        ),
        ("", "    " + "x" * 50, "    " + "x" * 50),
        (
            " " * 4,
            "try: stop it there; `invoke retire` does before it leaves",
            "try: stop it there; `invoke retire`\n    does before it leaves",
        ),
        (
            " " * 24,
            f"try: {'systemctl restart x && ' * 3}",
            f"try: {'systemctl restart x && ' * 3}",
        ),
    ],
)
def test_a_line_is_wrapped_below_its_column(before: str, text: str, shown: str) -> None:
    assert wrap_line(before, text, 43) == shown
