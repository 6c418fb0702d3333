r"""The same command lines with the C tools and with ours, compared: output, errors, exit status.

They are text, in `command_line/`; docs/command-line.md says what may differ, and why:

    = A group of lines
    $ gearman $AT -f show x             a shell's line, run with each tool and each job server
      ! some-difference                 the row of the page that says why ...
      C    0 | "<x>\n" | "(message)"    ... the C tool ends with 0, prints this, and says this
      ours 3 | ""      | "(message)"    and ours
      C    0 | ""      | "" at ours     ... where it differs by job server: C, or ours

$AT is `-h 127.0.0.1 -p $PORT`, $F a function that no other line knows, $DIR an empty folder.
The words of messages and of help are each tool's own, and stand as (message) and (help).
"""

import ast
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from uuid import uuid4

import pytest

from tests.interop.conftest import count_workers
from tests.job_servers import C_GEARMAND, OUR_GEARMAND, running_process, running_server
from tests.waiting import await_true

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TOOLS = "C", "ours"
SLOTS = 8  # of worker.py
Outcome = tuple[int, str, str]
SERVERS = {
    "C": [*C_GEARMAND, "--verbose=WARNING"],
    "ours": OUR_GEARMAND,
}


@dataclass
class Line:
    """A command line; ``differs`` is a row's name, ``expected`` what each tool then does."""

    text: str
    where: str
    differs: str = ""
    expected: dict[tuple[str, str], Outcome] = field(default_factory=dict)


def read(path: Path) -> Iterator[Line]:
    """The lines of a file."""
    line: Line | None = None
    for number, text in enumerate(path.read_text().splitlines(), start=1):
        mark, _, rest = text.strip().partition(" ")
        if mark == "$":
            if line:
                yield line
            line = Line(rest, f"{path.name}:{number}")
        elif mark == "!" and line:
            line.differs = rest
        elif mark in TOOLS and line:
            what, _, server = rest.partition(" at ")
            status, out, err = what.split(" | ")
            outcome = int(status), ast.literal_eval(out.strip()), ast.literal_eval(err.strip())
            for name in (server,) if server else TOOLS:
                line.expected[mark, name] = outcome
        else:
            assert mark in ("", "#", "="), f"{path.name}:{number}: not to be understood"
    if line:
        yield line


LINES = [line for path in sorted((HERE / "command_line").glob("*.txt")) for line in read(path)]
DIFFERENCES = re.findall(
    r"^\| `([a-z0-9-]+)` \|", (ROOT / "docs/command-line.md").read_text(), re.MULTILINE
)


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each kind of tool, to be searched first."""
    folders = {name: tmp_path_factory.mktemp(name) for name in TOOLS}
    for tool in ("gearman", "gearadmin"):
        (folders["C"] / tool).symlink_to(f"/usr/bin/{tool}")
        script = folders["ours"] / tool
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m gearman_py.cli.{tool} "$@"\n')
        script.chmod(0o755)
    return folders


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """The ports of the job servers, with a worker at both."""
    with ExitStack() as running:
        addresses = {
            name: running.enter_context(running_server(command, tmp_path_factory.mktemp(name)))
            for name, command in SERVERS.items()
        }
        words = [f"{host}:{port}" for host, port in addresses.values()]
        worker = HERE / "command_line" / "worker.py"
        running.enter_context(running_process([sys.executable, str(worker), *words]))
        await_true(
            lambda: all(count_workers(at).get("raise") == SLOTS for at in addresses.values())
        )
        yield {name: port for name, (_, port) in addresses.items()}


def perform(line: Line, tools: Path, port: int) -> Outcome:
    """Run a line; what in it is different each time stands under one name."""
    function, folder = f"f{uuid4().hex}", mkdtemp()
    environment = {
        **{name: os.environ[name] for name in ("HOME", "PYTHONPATH") if name in os.environ},
        "PATH": f"{tools}:/usr/bin:/bin",
        "PORT": str(port),
        "AT": f"-h 127.0.0.1 -p {port}",
        "F": function,
        "DIR": folder,
    }
    with subprocess.Popen(
        ["bash", "-c", line.text],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=environment,
        start_new_session=True,
    ) as shell:
        texts = [data.decode("latin-1") for data in shell.communicate(timeout=120)]
        with suppress(ProcessLookupError):  # the C worker leaves children behind
            os.killpg(shell.pid, signal.SIGKILL)
    names = {function: "(f)", folder: "(dir)"}
    out, err = (named(text, names) for text in texts)
    return shell.returncode, out, err


def named(text: str, names: dict[str, str]) -> str:
    for value, name in names.items():
        text = text.replace(value, name)
    patterns = {
        r"H:[^\s:]+:\d+": "(handle)",
        r"\ngearman\tError in usage(?s:.*)": "(help)",  # of the C tools
        r"(?s:.*)\nOptions:\n(?s:.*)": "(help)",
        r"Options:\n(?s:.*)": "(help)",
        r"(?s:usage: .*error: .*?\n)": "(help)",  # of ours
        r"(?s:usage: .*)": "(help)",
        r"(?m)^(gearman|gearadmin|Error): .*\n+": "(message)",
        r"(?m)^[-\d]+ [:,\d]+ [A-Z]+ .*\n": "(log)",
        r"(?m)^bash: line 1: .*\n": "",  # a shell's word about the end of a process
        r"terminate called (?s:.*)": "(message)",
    }
    for pattern, name in patterns.items():
        text = re.sub(pattern, name, text)
    return text


@pytest.mark.parametrize("line", LINES, ids=[f"{line.where} {line.text}" for line in LINES])
def test_both_tools_do_alike(line: Line, tools: dict[str, Path], ports: dict[str, int]) -> None:
    def both(at: str) -> list[Outcome]:  # in turn: each may see what the other left
        return [perform(line, tools[tool], ports[at]) for tool in TOOLS]

    with ThreadPoolExecutor() as pool:
        done = dict(zip(TOOLS, pool.map(both, TOOLS), strict=True))
    for at in TOOLS:
        theirs, ours = done[at]
        if line.differs:
            expected = [line.expected[tool, at] for tool in TOOLS]
            assert [theirs, ours] == expected, f"{line.where}: at {at}"
        else:
            assert ours == theirs, f"{line.where}: at {at}"
    if line.differs:
        assert any(theirs != ours for theirs, ours in done.values()), (
            f"{line.where}: no difference, let go of {line.differs!r}"
        )


def test_differences_are_those_that_are_told_of() -> None:
    assert {line.differs for line in LINES if line.differs} == set(DIFFERENCES)
    assert len(DIFFERENCES) == len(set(DIFFERENCES))
