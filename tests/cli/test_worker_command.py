"""gearman-worker, as typed."""

import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from gearman_py import Client, JobException

Run = Callable[..., subprocess.CompletedProcess[bytes]]


def test_it_serves_bundled_functions_until_it_is_told_to_leave(
    program: Any, gearmand: Any, until: Any
) -> None:
    worker = program("worker", "--servers", gearmand.address, "reverse", "wc", "resize")
    until(lambda: gearmand.workers_of("resize") == 1)
    with Client(gearmand.address, timeout=10) as client:
        assert client.do("reverse", "Hello World!") == b"!dlroW olleH"
        assert client.do("wc", "a\nb\n") == b"2\n"
        with pytest.raises(JobException, match="not a JPEG, PNG, WebP or GIF picture"):
            client.do("resize", "x")
    worker.send_signal(signal.SIGTERM)
    _, log = worker.communicate(timeout=10)
    assert worker.returncode == 0
    assert b"drained after 3 jobs" in log


def test_the_environment_names_its_servers(
    program: Any, gearmand: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEARMAN_SERVERS", gearmand.address)
    program("worker", "reverse")
    until(lambda: gearmand.workers_of("reverse") == 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["revers"], "no function 'revers' is bundled; did you mean 'reverse'?"),
        (["xyzzy"], "no function 'xyzzy' is bundled; there are resize, reverse, wc"),
        (["my.jobs:worker"], "MODULE:OBJECT is not served yet"),
        ([], "required: FUNCTION"),
        (["wc", "--drain-timeout", "soon"], "'soon'"),
        (["wc", "-h", "a:b"], "'b' is not a port"),
    ],
)
def test_a_wrong_command_line_is_one_sentence_and_status_2(
    run: Run, arguments: list[str], message: str
) -> None:
    done = run("worker", *arguments)
    assert done.returncode == 2
    assert message in done.stderr.decode().splitlines()[-1]
