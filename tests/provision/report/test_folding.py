"""What is the same on many hosts is told once."""

import io
import os

import pytest

from provision.errors import HostFailed, ToolkitError
from provision.plan import Plan
from provision.remote.messages import Operation
from provision.report.events import Begun, Failed, Planned, Verified
from provision.report.folding import fold_names
from provision.report.text import Report
from provision.resources.base import Change, Problem


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ("w1", "w1"),
        ("w1 w2", "w1, w2"),
        ("w1 w2 w3 db", "w[1:3], db"),
        ("w8 w9 w10 w12", "w[8:10], w12"),
        ("db2 w1 w10 w11 w2 w3 w4 w5 w6 w7 w8 w9 db1", "db1, db2, w[1:11]"),
        ("web01.eu web02.eu web03.eu", "web[01:03].eu"),
        ("web9 web010 web011", "web9, web010, web011"),
        ("a b c", "a, b, c"),
        ("10.0.0.1 10.0.0.2 10.0.0.3", "10.0.0.[1:3]"),
    ],
)
def test_names_in_a_row_are_a_range(names: str, told: str) -> None:
    assert fold_names(names.split()) == told


def change(host: str, server: str = "a") -> Change:
    """A unit file's, in which a host's own name stands."""
    diff = f"---\n+++\n@@ @@\n-GEARMAN_SERVERS=x\n+GEARMAN_SERVERS={server} {host}\n"
    operation = Operation("remove", {"path": f"/etc/{host}"})
    return Change("~", "file /etc/unit", operation, "content", diff)


def test_how_files_differ_is_told_once_where_they_differ_alike() -> None:
    """As the units of a program's instances do."""
    stream = io.StringIO()
    report = Report(["w"], stream=stream)
    report.show(Planned("w", Plan(7, (change("w"), change("w"), change("w", "b")))))
    assert stream.getvalue().splitlines()[1:] == [
        "  ~ file /etc/unit  (content)",
        "      -GEARMAN_SERVERS=x",
        "      +GEARMAN_SERVERS=a w",
        "  ~ file /etc/unit  (content, as above)",
        "  ~ file /etc/unit  (content)",
        "      -GEARMAN_SERVERS=x",
        "      +GEARMAN_SERVERS=b w",
    ]


def test_plans_of_which_the_same_is_shown_are_folded() -> None:
    names = [f"worker{number}" for number in range(1, 11)]
    stream = io.StringIO()
    report = Report(names, stream=stream)
    for name in names[:3]:
        report.show(Planned(name, Plan(7, ())))
    for name in names[3:]:
        report.show(Planned(name, Plan(7, (change(name, "b" if name == "worker6" else "a"),))))
    report.recap(1.0)
    lines = stream.getvalue().splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        "worker4   pending  1 change",
        "worker6   pending  1 change",
        "worker[1:3]  ok  7 resources as wanted",
        "worker5, worker[7:10]  pending  1 change, as worker4",
        "10 hosts: 3 ok, 7 pending: 0 to add, 7 to change, 0 to remove (1.0 s)",
    ]


def test_failures_are_told_where_they_come() -> None:
    stream = io.StringIO()
    report = Report(["w1", "w2", "w3"], stream=stream)
    report.show(Planned("w1", Plan(1, (), (Problem("no room"),))))
    report.show(Planned("w2", Plan(1, (), (Problem("no room"),))))
    report.show(Failed("w3", HostFailed("away"), 0.1))
    assert stream.getvalue().splitlines() == [
        "w1  failed  1 problem, 0 changes",
        "  ! no room",
        "w2  failed  1 problem, 0 changes, as w1",
        "w3  failed  away (0.1 s)",
    ]


def test_a_dumb_terminal_gets_neither_colours_nor_lines_that_are_redrawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.delenv("NO_COLOR", raising=False)
    master, terminal = os.openpty()
    with open(terminal, "w", closefd=False) as stream:
        report = Report(["w1"], stream=stream)
        report.show(Planned("w1", Plan(1, (change("w1"),))))
        report.show(Begun("w1"))
        report.show(Verified("w1", 0.5))
    said = b""
    while not said.endswith(b"0.5 s\r\n"):  # its end stays open
        said += os.read(master, 4096)
    os.close(terminal)
    os.close(master)
    assert b"\033" not in said
    assert said.splitlines()[0] == b"w1  pending  1 change"


def test_what_failed_alike_is_told_once() -> None:
    """A lock with a wrong hash fails all hosts that need it, each with the same line."""
    stream = io.StringIO()
    report = Report([f"w{n}" for n in range(1, 6)], plans=True, stream=stream)
    for number in (1, 2, 3):
        report.show(Failed(f"w{number}", ToolkitError("shop: another hash"), number / 10))
    report.show(Failed("w4", ToolkitError("no wheel\nfor 3.13"), 0.1))
    report.show(Failed("w5", ToolkitError("no wheel\nfor 3.13"), 0.1))
    report.recap(1)
    assert stream.getvalue().splitlines() == [
        "w[1:3]  failed  shop: another hash",
        "w4, w5  failed  no wheel",
        "w4, w5: no wheel",
        "    for 3.13",
        "5 hosts: 5 failed (1.0 s)",
    ]
    report.show(Failed("w1", ToolkitError("gone"), 1.5))
    assert stream.getvalue().endswith("w1  failed  gone (1.5 s)\n"), "it is told at once"
