"""Our `gearman -w` as C, PHP and Perl clients see it, on a C job server and on ours."""

import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from tests.interop.programs import KINDS, ROOT, Lines, ask, command, hear, say
from tests.job_servers import Address

Serving = Callable[[list[str], Address, str], None]
Serve = Callable[..., str]


@pytest.fixture(params=["C", "ours"])
def server(request: pytest.FixtureRequest) -> Address:
    """Where a job server of either kind listens."""
    name = {"C": "c_gearmand", "ours": "our_gearmand"}[request.param]
    address: Address = request.getfixturevalue(name)
    return address


@pytest.fixture
def serve(server: Address, serving: Serving) -> Serve:
    """Serve a function with a command; the server's name for clients."""

    def start(function: str, *words: str) -> str:
        host, port = server[0], str(server[1])
        ours = [sys.executable, "-m", "gearman_py.cli.gearman", "-w", "-h", host, "-p", port]
        serving([*ours, "-f", function, *words], server, function)
        return f"{host}:{port}"

    return start


def heard(kind: str, server: str, function: str, workload: bytes = b"x") -> Lines:
    """What a client hears of a job, after it was created."""
    return ask(kind, "do", server, function, workload=workload)[1:]


@pytest.mark.parametrize("kind", KINDS)
def test_a_workload_of_any_size_passes(kind: str, serve: Serve) -> None:
    at = serve("w-cat", "--", "cat")
    for size in (1, 65_536, 2_000_000):
        assert heard(kind, at, "w-cat", b"x" * size) == [b"complete " + b"x" * size]


@pytest.mark.parametrize("kind", KINDS)
def test_each_line_is_sent_once(kind: str, serve: Serve) -> None:
    at = serve("w-lines", "-N", "--", "printf", r"one\ntwo\n%01100d", "3")
    lines = [b"data one", b"data two", b"data %01100d" % 3, b"complete "]
    assert heard(kind, at, "w-lines") == lines


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_is_heard_when_it_is_printed(kind: str, serve: Serve, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = f"echo one; while [ ! -e {gate} ]; do sleep 0.02; done; echo two"
    at = serve("w-gate", "-N", "--", "sh", "-c", script)
    with Popen(command(kind, "do", at, "w-gate"), stdin=PIPE, stdout=PIPE, cwd=ROOT) as client:
        say(client, b"x")
        assert [hear(client)[:7], hear(client)] == [b"created", b"data one"]
        gate.touch()
        assert [hear(client), hear(client)] == [b"data two", b"complete "]


@pytest.mark.parametrize("kind", KINDS)
def test_a_command_that_fails_says_why(kind: str, serve: Serve) -> None:
    at = serve("w-fail", "--", "sh", "-c", "printf part; echo oops >&2; exit 3")
    warnings = [b"warning oops", b"", b"warning sh: exit status 3", b""]
    assert heard(kind, at, "w-fail") == [b"data part", *warnings, b"fail"]
