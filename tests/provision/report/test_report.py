"""What an operator reads: short when all is well, complete when it is not."""

import io
import os
from collections.abc import Iterable
from typing import Any

import pytest

from provision.errors import HostFailed, ToolkitError, Unreachable
from provision.options import Options
from provision.plan import Plan
from provision.remote.messages import Operation, OperationOutcome
from provision.report.events import (
    Applied,
    Checked,
    Event,
    Failed,
    Planned,
    Skipped,
    Standing,
    Verified,
)
from provision.report.json import JsonReport
from provision.report.reporter import make_reporter
from provision.report.shell import advice_for
from provision.report.text import Report
from provision.resources.base import Change, Problem
from tests.attacks import attack

WRITE = Operation(
    "file", {"path": "/etc/motd", "owner": "root", "group": "root", "mode": "0644"}, b"welcome\n"
)
RESTART = Operation("unit", {"name": "app.service", "enabled": None, "action": "restart"})
DIFF = "--- /etc/motd\n+++ /etc/motd\n@@ -1 +1 @@\n-old\n+welcome\n@@ -9 +9 @@\n--- x\n+++ y\n"
CHANGES = (
    Change("~", "file /etc/motd", WRITE, "content", DIFF),
    Change("~", "restart app.service", RESTART, "it runs with another configuration"),
)


def told(events: Iterable[Event], *, verbose: bool = False) -> list[str]:
    stream = io.StringIO()
    report = Report(["job", "worker"], verbose=verbose, stream=stream)
    for event in events:
        report.show(event)
    report.recap(1.23)
    return stream.getvalue().splitlines()


def test_hosts_as_wanted_take_a_line_each() -> None:
    assert told([Planned("job", Plan(12)), Planned("worker", Plan(14))]) == [
        "job     ok  12 resources as wanted",
        "worker  ok  14 resources as wanted",
        "2 hosts: 2 ok; nothing to change (1.2 s)",
    ]


def test_a_plan_says_what_will_change_and_why_and_how_texts_differ() -> None:
    plan = Plan(12, CHANGES, (Problem("port 4730 is taken"),))
    assert told([Planned("job", plan)])[:-1] == [
        "job     failed  1 problem, 2 changes",
        "  ! port 4730 is taken",
        "  ~ file /etc/motd  (content)",
        *("      -old", "      +welcome", "      ...", "      --- x", "      +++ y"),
        "  ~ restart app.service  (it runs with another configuration)",
    ]


def test_a_plan_ends_with_how_much_it_would_change() -> None:
    lines = told([Planned("job", Plan(12, CHANGES)), Planned("worker", Plan(14))])
    assert lines[0] == "job     pending  2 changes"
    assert lines[-1] == "2 hosts: 1 ok, 1 pending: 0 to add, 2 to change, 0 to remove (1.2 s)"


def test_verbose_shows_each_operation_as_the_shell_line_it_equals() -> None:
    planned = Planned("job", Plan(12, CHANGES))
    done = [Applied("job", change, OperationOutcome(change.operation, 0.02)) for change in CHANGES]
    assert told([planned, *done, Verified("job", 0.5)], verbose=True)[-4:] == [
        "job       0.02 s  install -o root -g root -m 0644 /dev/stdin /etc/motd",
        "job       0.02 s  systemctl restart app.service",
        "job     changed  2 changes, 0.5 s",
        "1 host: 1 changed (1.2 s)",
    ]


def test_a_failure_says_what_was_tried_what_the_host_said_and_who_waits_for_it() -> None:
    error = HostFailed("restart app.service: it failed\n| no such user\ntry: journalctl")
    assert told([Failed("job", error, 2.0), Skipped("worker", ("job",))]) == [
        "job     failed  restart app.service: it failed (2.0 s)",
        "worker  not begun  because of job",
        "job: restart app.service: it failed",
        "    | no such user",
        "    try: journalctl",
        "2 hosts: 1 failed, 1 not begun (1.2 s)",
    ]


def test_the_lines_of_a_remark_stand_below_each_other() -> None:
    stream = io.StringIO()
    report = Report(["job"], stream=stream)
    report.say("job could not be put back: it failed\n| status=1/FAILURE\ntry: journalctl")
    assert stream.getvalue().splitlines() == [
        "job could not be put back: it failed",
        "    | status=1/FAILURE",
        "    try: journalctl",
    ]


def test_a_run_ends_with_a_table_of_what_was_done_where() -> None:
    stream = io.StringIO()
    report = Report(["job", "worker"], stream=stream)
    report.show(Planned("job", Plan(12, CHANGES)))
    report.show(Planned("worker", Plan(14)))
    for change in CHANGES:
        report.show(Applied("job", change, OperationOutcome(change.operation, 0.02)))
    report.show(Verified("job", 0.5))
    report.end(1.23)
    assert stream.getvalue().splitlines()[-4:] == [
        "                    ok  changed  failed  seconds",
        "job     changed     10        2       0      0.5",
        "worker  ok          14        0       0",
        "2 hosts: 1 ok, 1 changed (1.2 s)",
    ]


def test_a_reader_that_leaves_stops_nothing() -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as stream:
        report = Report(["job"], stream=stream)
        report.show(Planned("job", Plan(12)))
        report.end(1.23)


def test_who_is_left_and_why_stands_at_the_end() -> None:
    stream = io.StringIO()
    report = Report(["job", "worker", "client"], stream=stream)
    report.show(Planned("job", Plan(12, CHANGES, (Problem("port 4730 is taken"),))))
    report.show(Planned("worker", Plan(14, CHANGES)))
    report.show(Planned("client", Plan(3)))
    report.recap(0.5)
    wrong = OperationOutcome(RESTART, 0.1, "it ended with 1")
    report.show(Applied("worker", CHANGES[0], OperationOutcome(WRITE, 0.02)))
    report.show(Applied("worker", CHANGES[1], wrong))
    report.show(Failed("worker", HostFailed("restart app.service: it ended with 1"), 0.2))
    report.show(Skipped("client", ("worker",)))
    report.end(1.23)
    assert stream.getvalue().splitlines()[-6:] == [
        "worker  failed        12        1       1      0.2",
        "client  not begun      3        0       0",
        "job: no plan can be made for it",
        "    ! port 4730 is taken",
        "to go on with these alone: --limit client",
        "3 hosts: 2 failed, 1 not begun (1.2 s)",
    ]


def test_what_a_host_says_cannot_steer_the_terminal() -> None:
    diff = "--- a\n+++ a\n@@ -1 +1 @@\n-\033[2Jold\n+new\n"
    change = Change("~", "link /a", WRITE, "\033]0;owned\a -> b", diff)
    lines = told([Planned("job", Plan(1, (change,))), Failed("job", HostFailed("\033[H"), 0.1)])
    assert lines[1:4] == [
        r"  ~ link /a  (\x1b]0;owned\x07 -> b)",
        r"      -\x1b[2Jold",
        "      +new",
    ]
    assert lines[4] == r"job     failed  \x1b[H (0.1 s)"
    told_by_smoke = told([Checked("wc", 0.1, "\033[2Jit\nfailed", "job")])
    assert told_by_smoke[1:3] == [r"    \x1b[2Jit", "    failed"]
    assert "\033" not in str(told([Standing("job", "\033[1m", {}, 0)]))


@attack("compromised host", "a plan that is lost behind a file of 250,000 lines", "mended")
def test_of_a_long_diff_the_beginning_is_shown() -> None:
    diff = "--- a\n+++ a\n@@ -1 +1 @@\n" + "-\n" * 250_000
    lines = told([Planned("job", Plan(1, (Change("~", "file /a", WRITE, "content", diff),)))])
    assert len(lines) < 400
    assert lines[-2] == "      ... and 249700 lines more"


def test_a_host_that_does_not_answer_is_told_from_one_that_failed() -> None:
    lines = told([Failed("job", Unreachable("job: 10.0.0.7:22 refused the connection"), 0.3)])
    assert lines[0] == "job     unreachable  10.0.0.7:22 refused the connection (0.3 s)"


def test_without_a_terminal_nobody_is_asked() -> None:
    with pytest.raises(ToolkitError, match="use --yes"):
        Report([], stream=io.StringIO()).confirm("Apply?")


@pytest.mark.parametrize(
    ("operation", "line"),
    [
        (Operation("packages", {"names": ["jq"], "manager": "apt-get"}), "apt-get install -y jq"),
        (Operation("group", {"name": "app"}), "groupadd --system app"),
        (
            Operation(
                "user",
                {"name": "a", "group": "g", "home": "/x y", "shell": "/bin/sh", "groups": ["h"]},
            ),
            "useradd --system -c gearman_py -g g -d '/x y' -s /bin/sh -G h a",
        ),
        (Operation("link", {"path": "/a", "target": "b"}), "ln -sfn b /a"),
        (Operation("remove", {"path": "/a"}), "rm -d /a"),
        (Operation("daemon_reload"), "systemctl daemon-reload"),
        (
            Operation("unit", {"name": "a.service", "enabled": True, "action": "start"}),
            "systemctl enable a.service && systemctl start a.service",
        ),
    ],
)
def test_every_operation_equals_a_shell_line(operation: Operation, line: str) -> None:
    assert operation.shell_line == line


def test_a_unit_that_fails_sends_to_its_journal() -> None:
    assert advice_for(RESTART) == "./invoke logs app.service"


def test_status_tells_what_runs_and_what_is_due() -> None:
    units: dict[str, dict[str, Any]] = {
        "gearmand.service": {"active": "active", "pid": 157, "restarts": 0},
        "other.service": {"active": "failed", "pid": None, "restarts": 5},
    }
    (with_app, *_) = told([Standing("job", "0.1.0-abc", units, 0, ("shop-1",))])
    assert "release 0.1.0-abc, shop-1" in with_app
    assert told([Standing("job", "0.1.0-abc", units, 2)]) == [
        "job     pending  release 0.1.0-abc, 2 changes due",
        "  gearmand.service                   active  pid 157",
        "  other.service                      failed  5 restarts",
        "1 host: 1 pending (1.2 s)",
    ]


def test_the_two_reporters_have_nothing_in_common_but_what_they_are_told() -> None:
    assert not issubclass(JsonReport, Report)
    for json in (False, True):
        one = make_reporter(Options(json=json), ["a"])
        assert isinstance(one, JsonReport if json else Report)
