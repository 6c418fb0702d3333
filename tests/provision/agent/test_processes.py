"""Which processes are of a unit, and what it said, whatever users and workers make of that."""

import pytest

from provision.agent.processes import is_of_unit
from provision.agent.survey import LINE, LINES, last_lines
from tests.attacks import attack

UNIT = "gearman-worker@reverse.service"
SLICE = r"/system.slice/system-gearman\x2dworker.slice"


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (f"0::{SLICE}/{UNIT}\n", True),
        (f"0::/system.slice/{UNIT}\n", True),
        (f"12:pids:/lxc/a{SLICE}/{UNIT}\n1:name=systemd:/lxc/a{SLICE}/{UNIT}\n", True),
        (f"0::/system.slice/x{UNIT}\n", False),
        (f"0::/system.slice/{UNIT}/below\n", False),
        (f"0::/user.slice/user-1001.slice/user@1001.service/app.slice/{UNIT}\n", False),
        (f"0::/user.slice/user-1001.slice/user@1001.service{SLICE}/{UNIT}\n", False),
        (f"0::/user.slice/user-1001.slice/session-3.scope/{UNIT}\n", False),
        ("", False),
    ],
)
@attack(
    "local user",
    "prove the job of a trial by a process in a unit of the same name of their own systemd",
    "mended",
)
def test_a_process_is_a_units_only_below_the_systems_own_systemd(
    groups: str, expected: bool
) -> None:
    assert is_of_unit(UNIT, groups) == expected


@attack("user of a service", "have a worker log what ends lines, or too many of them", "mended")
def test_of_what_a_unit_said_the_last_lines_are_told_and_only_line_feeds_end_them() -> None:
    assert last_lines("") == []
    assert last_lines("a\x1cb\x85c\u2028d\n\ne\n") == ["a\x1cb\x85c\u2028d", "", "e"]
    told = last_lines("x" * 10_000 + "\n" + "y\n" * 50_000 + "z" * 10_000)
    assert len(told) == LINES
    assert told[-1] == "z" * LINE
