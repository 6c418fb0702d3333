"""Which line of what a program said last tells why it ended: from real interpreters."""

import subprocess
import sys

import pytest

from provision.agent.transient_unit import find_cause

PHP = ["php", "-d", "display_errors=stderr", "-d", "log_errors=0", "-r"]


@pytest.mark.parametrize(
    ("command", "program", "cause"),
    [
        (PHP, "function f() { undefined_f(); } f();", "Call to undefined function undefined_f()"),
        (PHP, "throw new DomainException('no orders');", "DomainException: no orders"),
        (PHP, "fwrite(STDERR, 'Cannot cache\nboom: no config'); exit(3);", "boom: no config"),
        (["perl", "-e"], "use Nothing::There;", "Can't locate Nothing/There.pm in @INC"),
        (["perl", "-e"], "warn 'an error, but'; die 'no orders'", "no orders at -e line 1."),
        ([sys.executable, "-c"], "def f(): return {}['orders']\nf()", "KeyError: 'orders'"),
        ([sys.executable, "-c"], "raise SystemExit('  no orders')", "no orders"),
    ],
)
def test_the_line_that_tells_why_a_program_ended(
    command: list[str], program: str, cause: str
) -> None:
    done = subprocess.run([*command, program], capture_output=True, text=True, timeout=120)
    assert done.returncode
    assert cause in find_cause(done.stderr.strip())


def test_what_node_says_last_is_its_version() -> None:
    said = "[eval]:1\nthrow x\n^\n\nError: no orders\n    at f ([eval]:1:24)\n\nNode.js v18.20.4"
    assert find_cause(said) == "Error: no orders"


def test_a_stack_without_an_error_ends_with_its_last_line() -> None:
    assert find_cause("working\n  here") == "here"
