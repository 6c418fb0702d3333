"""A host whose Python was replaced harms itself alone: it fails in a line, the others are shown."""

from collections.abc import Iterator
from types import ModuleType

import pytest

from provision.fleet import deploy
from provision.options import Options
from roles import ROLES
from tests.attacks import attack
from tests.lab.hosts import INVENTORY, root
from tests.lab.operator_commands import run_command

HOST_FAILED = 3
# Runs the agent that it is given, with `def send(link, header)` of its own before it serves.
FALSE_PYTHON = r"""#!/usr/bin/python3.true
import os, sys
if sys.argv[1:4] == ["-I", "-S", "-c"] and "provision.agent.link" in sys.argv[4]:
    inner = eval(sys.argv[4][5:-1])
    with open("/run/false-answers") as file:
        inner = inner.replace("m.serve(0, out)", file.read() + "\nm.serve(0, out)")
    sys.argv[4] = f"exec({inner!r})"
os.execv("/usr/bin/python3.true", sys.argv)
"""
SENT = """
import json
def send(link, header):
    raw = json.dumps(header).encode()
    if "answers" in header:
        %s
    os.write(link._outgoing, m.LENGTHS.pack(len(raw), 0) + raw)
next(each for each in vars(m).values() if hasattr(each, "send")).send = send
"""


@pytest.fixture(scope="module")
def hostile(lab: ModuleType) -> Iterator[None]:
    assert deploy.deploy(INVENTORY, ROLES, Options(yes=True)) == 0
    root(lab, "worker1", "mv /usr/bin/python3 /usr/bin/python3.true")
    try:
        write = f"cat > /usr/bin/python3 <<'EOF'\n{FALSE_PYTHON}EOF\nchmod 755 /usr/bin/python3"
        root(lab, "worker1", write)
        yield
    finally:
        root(lab, "worker1", "mv /usr/bin/python3.true /usr/bin/python3; rm /run/false-answers")


def give_false_answers(lab: ModuleType, code: str) -> None:
    root(lab, "worker1", f"cat > /run/false-answers <<'EOF'\n{SENT % code}EOF")


def complain(command: str) -> None:
    """Run a command for the whole lab: it ends with a line about one host, and shows the others."""
    done = run_command(command, "--hosts", str(INVENTORY))
    said = done.stdout + done.stderr
    assert "Traceback" not in said, said
    assert done.returncode == HOST_FAILED, said
    assert sum("malformed" in line for line in said.splitlines()) == 1, said
    assert "client1" in said, said
    assert "server1" in said, said


@attack("compromised host", "false answers to `status` from a real host", "mended")
@pytest.mark.parametrize(
    "code",
    [
        "raw = b'1'",
        "raw = b'{}'",
        "raw = b'[' * 200_000",
        "raw = json.dumps({'crash': 5}).encode()",
        "raw = json.dumps({'answers': [{'is': None}] * len(header['answers'])}).encode()",
        "header['answers'][0]['is']['python'] = ['a', 11]; raw = json.dumps(header).encode()",
        "header['answers'][0]['is']['hostname'] = chr(0xd800); raw = json.dumps(header).encode()",
        "os.write(link._outgoing, b'x' * 100_000)",
        "raw = json.dumps(header).replace('cpus', 'cpu').encode()",
    ],
)
def test_false_answers_are_that_host_s_failure_alone(
    lab: ModuleType, hostile: None, code: str
) -> None:
    give_false_answers(lab, code)
    complain("status")


@attack(
    "compromised host",
    "false answers to `plan`, `facts`, `doctor`, `history` and `releases` from a real host",
    "mended",
)
@pytest.mark.parametrize("command", ["plan", "facts", "doctor", "history", "releases"])
def test_every_command_shows_the_others(lab: ModuleType, hostile: None, command: str) -> None:
    give_false_answers(lab, "raw = json.dumps({'answers': 5}).encode()")
    complain(command)
