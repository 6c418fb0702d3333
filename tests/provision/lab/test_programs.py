"""Debian packages that this machine lacks are installed, or named where they cannot be."""

import os

import pytest

from provision.errors import ToolkitError
from provision.lab import programs as local

PROGRAMS = {
    "sh": "dash",
    "/bin/sh": "dash",
    "no-such-program": "zzz-package",
    "/no/such/file": "aaa-package",
    "no-such-program-either": "zzz-package",
}


def test_packages_of_missing_programs_are_named_once_and_in_order() -> None:
    assert local.missing(PROGRAMS) == ["aaa-package", "zzz-package"]


def test_nothing_is_done_where_nothing_is_missing() -> None:
    local.ensure({"sh": "dash"}, pytest.fail)


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes an ordinary user, which takes root")
def test_ordinary_user_is_told_what_root_should_install() -> None:
    os.seteuid(65534)
    try:
        with pytest.raises(ToolkitError, match=r"as root: apt-get install .* aaa-package zzz-p"):
            local.ensure(PROGRAMS, pytest.fail)
    finally:
        os.seteuid(0)


def test_failed_command_is_told_with_the_end_of_its_output() -> None:
    with pytest.raises(ToolkitError, match=r"`sh -c echo why >&2; exit 3` failed:\n  why"):
        local.execute(["sh", "-c", "echo why >&2; exit 3"])
    with pytest.raises(ToolkitError, match="no-such-program is not installed on this machine"):
        local.execute(["no-such-program"])


def test_a_long_command_tells_how_far_it_is() -> None:
    said: list[str] = []
    command = ["sh", "-c", "echo I: Retrieving libc6; echo done; exit $1", "sh"]
    local.execute_shown([*command, "0"], said.append, interval=0)
    assert said == ["  0 s: Retrieving libc6", "  0 s: done"]
    with pytest.raises(ToolkitError, match=r"failed:\n  Retrieving libc6\n  done$"):
        local.execute_shown([*command, "1"], said.append)
