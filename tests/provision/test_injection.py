"""The toolkit shows what hosts say and inventories hold: no terminal obeys it."""

import fcntl
import io
import os
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
import yaml

from provision.errors import HostFailed
from provision.plan import Plan
from provision.remote.messages import Operation, OperationOutcome
from provision.report.events import (
    Applied,
    Checked,
    Event,
    Failed,
    Finding,
    Planned,
    Proved,
    PutBack,
    Row,
    Standing,
    Tried,
    Upgraded,
)
from provision.report.text import Report
from provision.resources.base import Change, Problem
from tests.attacks import attack
from tests.injection import STRINGS, harmless

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
REDRAWN = "\033[A\033[2K"  # lines that go for others
COLOUR = re.compile(r"\033\[\d*m")


class Terminal(io.StringIO):
    """Colours and redrawn lines are for terminals only."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._slave

    def __init__(self) -> None:
        super().__init__()
        self._master, self._slave = os.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))

    def close(self) -> None:
        os.close(self._master)
        os.close(self._slave)
        super().close()


def events(text: str) -> list[Event]:
    facts = {"path": f"/etc/{text}", "owner": text, "group": text, "mode": "0644"}
    write = Operation("file", facts, text.encode())
    diff = f"--- a\n+++ b\n@@ -1 +1 @@\n-{text}\n+{text}\n"
    change = Change("~", f"file /etc/{text}", write, text, diff)
    return [
        Planned("job", Plan(2, (change,), (Problem(text),))),
        Applied("job", change, OperationOutcome(write, 0.1)),
        Standing("job", text, {f"{text}.service": {"active": text, "pid": 1}}, 1),
        Tried("job", text, 1),
        Proved("job", text, 1),
        Upgraded("job", text, 1),
        PutBack("job", text, 1),
        Checked("wc", 1.0, text, text),
        Finding("job", "fail", "ports", text, text),
        Failed("job", HostFailed(f"{text}\n{text}"), 1),
        Row({}, [f"job  {text}"]),
        Row({}, [f"job  {text}"], wraps=True),
    ]


@attack("compromised host", "escapes of terminals in answers", "held")
@pytest.mark.parametrize("string", STRINGS)
def test_reports_hold_nothing_that_a_terminal_obeys(string: bytes) -> None:
    text = string.decode(errors="backslashreplace")
    for stream in (Terminal(), io.StringIO()):
        report = Report(["job"], verbose=True, stream=stream)
        for event in events(text):
            report.show(event)
        report.end(1)
        said = COLOUR.sub("", stream.getvalue().replace(REDRAWN, ""))
        assert harmless(said.encode()), said
        assert not re.search("^(forged|<0>|CRITICAL|OK)", said, re.MULTILINE), said
        report.say(text)
        assert harmless(COLOUR.sub("", stream.getvalue().replace(REDRAWN, "")).encode())
        stream.close()


def invoke(*words: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "invoke", "--search-root", str(ROOT), *words],
        capture_output=True,
        timeout=30,
    )


def test_inventories_are_shown_harmless(tmp_path: Path) -> None:
    texts = [string.decode(errors="replace") for string in STRINGS]
    values = {f"v{number}": text for number, text in enumerate(texts)}
    hosts: dict[str, Any] = {"job": {"ansible_host": "198.18.10.2", **values}}
    (tmp_path / "hosts.yml").write_text(
        yaml.safe_dump(
            {
                "job_server": {"hosts": hosts},
                # Of other people's groups and hosts the names are shown.
                **{text: {"hosts": {f"of {text}".replace("[", "("): None}} for text in texts},
            }
        )
    )
    for extra in ((), ("--json",)):
        shown = invoke("inventory", "--hosts", str(tmp_path), *extra)
        assert shown.returncode == 0, shown.stderr
        assert harmless(shown.stdout), shown.stdout


@pytest.mark.parametrize("where", ["host", "group", "variable", "address"])
def test_inventories_that_are_wrong_are_told_harmlessly(tmp_path: Path, where: str) -> None:
    for number, string in enumerate(STRINGS[::8]):
        text = string.decode(errors="replace")
        folder = tmp_path / str(number)
        folder.mkdir()
        host = {text: "x"} if where == "variable" else {"ansible_host": text}
        group = text if where == "group" else "job_server"
        name = text if where == "host" else "job"
        whole = {"all": {"children": {group: {"hosts": {name: host}}}}}
        (folder / "hosts.yml").write_text(yaml.safe_dump(whole))
        done = invoke("inventory", "--hosts", str(folder), "--limit", text)
        assert harmless(done.stdout + done.stderr), done.stdout + done.stderr
        assert b"Traceback" not in done.stderr
