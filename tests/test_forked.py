"""Commands that the tests fork are as those that are started."""

import os
import signal
import subprocess
from typing import Any

import pytest

from tests.forked import ForkedProcess, command_of, run_tool, start_tool
from tests.waiting import LIMIT


@pytest.mark.parametrize(
    "words", [["--version"], ["--nonsense"], ["-h", "127.0.0.1:1", "--status"]]
)
def test_a_forked_command_says_and_returns_what_a_fresh_one_does(words: list[str]) -> None:
    fresh = subprocess.run([*command_of("gearadmin"), *words], capture_output=True, timeout=LIMIT)
    forked = run_tool("gearadmin", *words, timeout=LIMIT, env=os.environ)
    assert isinstance(forked.args, tuple), "it was forked"
    assert forked.returncode == fresh.returncode
    assert (forked.stdout, forked.stderr) == (fresh.stdout, fresh.stderr)


def test_a_forked_command_is_killed_and_waited_for_as_a_child() -> None:
    with start_tool(
        "gearman",
        "-w",
        "-f",
        "f",
        "-h",
        "127.0.0.1:1",
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert isinstance(process, ForkedProcess)
        assert process.stderr is not None
        assert b"trying again" in process.stderr.readline()
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.kill()
        assert process.wait(LIMIT) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["--daemon", "--check-args"], {}),
        (["-u", "nobody", "--check-args"], {}),
        (["--check-args"], {"env": {**os.environ, "LC_ALL": "C"}}),
        (["--check-args"], {"umask": 0o77}),
    ],
)
def test_what_concerns_the_start_of_a_process_is_a_fresh_one(
    words: list[str], options: dict[str, Any]
) -> None:
    with start_tool("gearmand", *words, stdin=subprocess.DEVNULL, **options) as process:
        assert not isinstance(process, ForkedProcess)
        assert process.wait(LIMIT) == 0
