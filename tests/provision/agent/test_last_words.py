"""Which line of what a program said last tells why it ended: from real interpreters."""

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from provision.agent.command import OUTPUT_LIMIT
from provision.agent.last_words import LastWords, find_cause
from tests.attacks import attack

PHP = ["php", "-d", "display_errors=stderr", "-d", "log_errors=0", "-r"]


def php(program: str, cause: str) -> Any:
    return pytest.param(PHP, program, cause, marks=pytest.mark.interop)


@pytest.mark.parametrize(
    ("command", "program", "cause"),
    [
        php("function f() { undefined_f(); } f();", "Call to undefined function undefined_f()"),
        php("throw new DomainException('no orders');", "DomainException: no orders"),
        php("fwrite(STDERR, 'Cannot cache\nboom: no config'); exit(3);", "boom: no config"),
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


@attack("code of an app", "write without end during its trial, into memory of the host", "mended")
def test_of_what_is_written_the_end_is_kept_in_memory(tmp_path: Path) -> None:
    pipe = tmp_path / "output"
    words = LastWords(str(pipe))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    program = "print('x' * 100_000_000); print(end='last', flush=True)"
    with pipe.open("wb") as out:
        subprocess.run([sys.executable, "-c", program], stdout=out, check=True, timeout=120)
    said = words.read()
    assert said.endswith("xxx\nlast")
    assert len(said) == OUTPUT_LIMIT
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB
    assert pipe.stat().st_size == 0
    words.close()
