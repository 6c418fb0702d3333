"""Which processes are of a unit, and what it said, whatever users and workers make of that."""

import pytest

from provision.agent.processes import is_of_unit
from provision.agent.survey import LINE, LINES, last_lines
from tests.attacks import attack

UNIT = "gearman-worker@reverse.service"
SLICE = r"/system.slice/system-gearman\x2dworker.slice"


V2 = "0::/init.scope\n"
V1 = "12:pids:/lxc/a/init.scope\n2:cpu:/lxc/a\n1:name=systemd:/lxc/a/init.scope\n"


@pytest.mark.parametrize(
    ("groups", "systemd", "expected"),
    [
        (f"0::{SLICE}/{UNIT}\n", V2, True),
        (f"0::{SLICE}/{UNIT}\n", "0::/\n", True),
        (f"0::/system.slice/{UNIT}\n", V2, True),
        (f"2:cpu:/lxc/a\n1:name=systemd:/lxc/a{SLICE}/{UNIT}\n", V1, True),
        (f"0::/system.slice/x{UNIT}\n", V2, False),
        (f"0::/system.slice/{UNIT}/below\n", V2, False),
        (f"0::/user.slice/user-1001.slice/user@1001.service/app.slice/{UNIT}\n", V2, False),
        (f"0::/user.slice/user-1001.slice/user@1001.service{SLICE}/{UNIT}\n", V2, False),
        (f"0::/user.slice/user-1001.slice/session-3.scope/{UNIT}\n", V2, False),
        (f"0::/machine.slice/systemd-nspawn@c.service/payload{SLICE}/{UNIT}\n", V2, False),
        (f"0::/system.slice/docker-0123.scope/system.slice/{UNIT}\n", V2, False),
        (f"0::/system.slice/tenant.service{SLICE}/{UNIT}\n", V2, False),
        (f"1:name=systemd:/lxc/a/lxc.payload.b{SLICE}/{UNIT}\n", V1, False),
        ("", V2, False),
    ],
)
@attack(
    "local user",
    "prove the job of a trial by a process in a unit of the same name of their own systemd",
    "mended",
)
@attack("local user", "the same from a container, or a service that has groups below it", "mended")
def test_a_process_is_a_units_only_below_the_systems_own_systemd(
    groups: str, systemd: str, expected: bool
) -> None:
    assert is_of_unit(UNIT, groups, systemd) == expected


@attack("user of a service", "have a worker log what ends lines, or too many of them", "mended")
def test_of_what_a_unit_said_the_last_lines_are_told_and_only_line_feeds_end_them() -> None:
    assert last_lines("") == []
    assert last_lines("a\x1cb\x85c\u2028d\n\ne\n") == ["a\x1cb\x85c\u2028d", "", "e"]
    told = last_lines("x" * 10_000 + "\n" + "y\n" * 50_000 + "z" * 10_000)
    assert len(told) == LINES
    assert told[-1] == "z" * LINE
