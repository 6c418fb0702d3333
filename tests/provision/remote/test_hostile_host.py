"""A host whose agent was replaced: what it says is that host's failure, in one line."""

import ast
import json
import shlex
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from provision.errors import HostFailed, ToolkitError, Unreachable
from provision.fleet import pool
from provision.remote import running, session
from provision.remote.local_channel import LocalChannel
from provision.remote.messages import Operation, Question
from provision.remote.session import Session
from tests.attacks import attack

HOST: Question = ("host",)
ASKED: list[Question] = [
    *(HOST, ("releases", "/nowhere"), ("user", "root"), ("path", "/", "", "")),
    *(("history", "/nowhere", "9"), ("names", "/nowhere")),
]
ENTRY = {
    "at": "2026-11-30T10:00:00+00:00",
    "run": "1",
    "who": "ana",
    "doing": "invoke deploy",
    "release": "1-new",
    "from": None,
    "changes": 1,
    "result": "ok",
    "seconds": 0.5,
}

# Runs as the real agent, with another answer to what it is asked.
MANGLED = """\
import json, os
true_send = m.FrameLink.send
def send(link, header):
    raw = json.dumps(header).encode()
    if "answers" in header:
        %s
    os.write(link._outgoing, m.LENGTHS.pack(len(raw), 0) + raw)
m.FrameLink.send = send
m.serve(0, out)
"""


def mangled(code: str) -> Callable[[str], LocalChannel]:
    def start(line: str) -> LocalChannel:
        program = ast.literal_eval(shlex.split(line)[-1].removeprefix("exec(").removesuffix(")"))
        false = program.replace("m.serve(0, out)\n", MANGLED % code)
        assert false != program
        return LocalChannel(f"/usr/bin/python3 -I -S -c {shlex.quote(false)}")

    return start


def mangled_stream(code: str) -> Callable[[str], LocalChannel]:
    """The same where it sends anything."""
    return mangled(f"pass\n    {code}")


def answering(change: str) -> str:
    """Code that changes the answer to the question of how the host is."""
    return f"h = header['answers'][0]['is']; {change}; raw = json.dumps(header).encode()"


@attack(
    "compromised host",
    "46 false answers: wrong types, endless versions, depth, size, a million findings, no end",
    "mended",
)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("raw = b'1'", "malformed message from the agent"),
        ("raw = b'[]'", "malformed message from the agent"),
        ("raw = b'{}'", "malformed message from the agent"),
        ("raw = b'[' * 1_000_000", "malformed message from the agent"),
        ("raw = b'{\"answers\": [{\"is\": ' + b'[' * 1_000_000", "nested too deeply"),
        ("raw = b'\\xff'", "malformed message from the agent"),
        ("raw = json.dumps({'crash': 5}).encode()", "malformed message from the agent"),
        ("raw = json.dumps({'crash': 'x'}).encode()", "the agent broke"),
        ("raw = json.dumps({'answers': []}).encode()", "0 answers to 6 questions"),
        ("raw = json.dumps({'answers': ['a'] * 6}).encode()", "malformed message"),
        ("raw = json.dumps({'answers': [None] * 6}).encode()", "malformed message"),
        ("raw = json.dumps({'answers': [{'unknown': 5}] * 6}).encode()", "malformed message"),
        ("raw = json.dumps({'answers': [{'is': 5}] * 6}).encode()", "malformed answer to host"),
        ("raw = json.dumps({'answers': [{}] * 6}).encode()", "malformed answer to host"),
        (answering("h['python'] = ['a', 11]"), "malformed answer to host"),
        (answering("h['python'] = []"), "malformed answer to host"),
        (answering("h['os'] = None"), "malformed answer to host"),
        (answering("h['hostname'] = '\\ud800'"), "malformed message"),
        (answering("h['hostname'] = 'x' * 100_000"), "malformed answer to host"),
        (answering("h['time'] = 1e400"), "malformed message"),
        (answering("h['systemd'] = -1"), "malformed answer to host"),
        (answering("h['libc'] = 'glibc 2.99999999'"), "malformed answer to host"),
        (answering("h['libc'] = 'glibc 2.36\\n'"), "malformed answer to host"),
        (answering("h['python'] = [3, 10**8, 0]"), "malformed answer to host"),
        (answering("h['machine'] = '../x'"), "malformed answer to host"),
        (answering("header['answers'][1]['is']['current'] = '1-a\\n'"), "answer to releases"),
        (answering("header['answers'][3]['is']['content'] = '\\n' * 300_000"), "answer to path"),
        (answering("header['answers'][1]['is']['current'] = '../../x'"), "answer to releases"),
        (answering("header['answers'][1]['is']['kept'] = {'a/b': {'at': 0, 'bad': None}}"), "kept"),
        (answering("header['answers'][2]['is']['groups'] = 'root'"), "malformed answer to user"),
        (answering("header['answers'][3]['is']['mode'] = 'rwx'"), "malformed answer to path"),
        (answering("header['answers'][1]['is']['kept'] = {'a': {'at': 1e30, 'bad': None}}"), "at`"),
        (answering("header['answers'][4]['is'] = ['x']"), "malformed answer to history"),
        (answering("header['answers'][4]['is'] = [{'retires': True}]"), "answer to history"),
        (answering(f"header['answers'][4]['is'] = [{ENTRY | {'apps': 5}}]"), "answer to history"),
        (answering(f"header['answers'][4]['is'] = [{ENTRY | {'run': []}}]"), "answer to history"),
        (answering(f"header['answers'][4]['is'] = [{ENTRY}] * 20_000"), "answer to history"),
        (answering(f"header['answers'][4]['is'] = [{ENTRY}] * 100_000"), "too long a message"),
        (
            answering(
                "header['answers'][1]['is']['given_up'] = {f'r{n}': '' for n in range(500_000)}"
            ),
            "malformed answer to releases",
        ),
        (answering("header['answers'][5]['is'] = ['x'] * 1_000_000"), "malformed answer to names"),
        ("raw = json.dumps({'crash': 'x' * 200_000}).encode()", "the agent broke"),
        ("raw = json.dumps({'crash': 'x' * 1_000_000}).encode()", "malformed message"),
        ("raw = b'x' * 2**27", "too long a message from the agent"),
        ("raw = b'{\"answers\": [{\"is\": [' + b'[],' * 18_000_000", "too long a message"),
        ("raw = b'{\"answers\": [' + b'{\"is\": [' + b'[],' * 2**21 + b'[]]}]}'", "1 answers to 6"),
        ("os._exit(0)", "the agent was gone"),
    ],
)
def test_what_has_not_the_shape_of_an_answer_is_refused_in_one_line(
    code: str, problem: str
) -> None:
    with Session("w1", mangled(code)) as agent, pytest.raises((HostFailed, Unreachable)) as raised:
        agent.ask(ASKED)
    first, *more = str(raised.value).splitlines()
    assert first.startswith("w1: ")
    assert problem in str(raised.value)
    assert len(first) < 300
    assert all(line.startswith("| ") and len(line) < 300 for line in more)


@attack("compromised host", "have a late answer taken for that to the next question", "mended")
def test_after_a_late_answer_nothing_more_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "ANSWER_TIMEOUT", 0.5)
    late = "import time; time.sleep(1); raw = json.dumps(header).encode()"
    with Session("w1", mangled(late)) as agent:
        with pytest.raises(HostFailed, match=r"^w1: no answer within 0 s while it was asked"):
            agent.ask([HOST])
        with pytest.raises(Unreachable, match="w1: it is not asked again after"):
            agent.ask([("user", "root")])


def test_a_clock_that_is_far_ahead_is_an_answer() -> None:
    with Session("w1", mangled(answering("h['time'] = 1e30"))) as agent:
        assert agent.ask(ASKED)[HOST]["ahead"] > 1e29


@attack("compromised host", "a greeting without end", "held")
def test_a_host_that_greets_without_end_is_given_up() -> None:
    with pytest.raises(Unreachable, match=r"w1: no agent within 1 MiB of output"):
        Session("w1", lambda line: LocalChannel("yes | head -c 3000000")).close()


@attack("compromised host", "a bug of the toolkit that only one host meets", "mended")
def test_a_bug_that_one_host_meets_is_its_failure_and_the_others_go_on() -> None:
    def step(name: str) -> Any:
        return json.loads(name)

    found = dict(pool.run_on_each(["1", "{", "2"], step))
    assert found["1"] == 1
    assert found["2"] == 2
    assert isinstance(failed := found["{"], ToolkitError)
    assert str(failed).startswith("this is a bug in the toolkit; please report it: JSONDecodeError")
    assert failed.status == 3


def test_a_history_as_it_is_written_is_an_answer() -> None:
    with Session("w1", mangled(answering(f"header['answers'][4]['is'] = [{ENTRY}]"))) as agent:
        assert agent.ask(ASKED)[ASKED[4]] == [ENTRY]


@attack("compromised host", "output of a command without end, with and without lines", "mended")
@pytest.mark.parametrize("said", [b"x", b"x\\n" * 1000], ids=["one line", "lines"])
def test_a_command_that_talks_without_end_is_given_up(
    said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "START_TIMEOUT", 1.0)
    code = f"""raw = json.dumps({{"said": "{said.decode()}"}}).encode()
    while "said" in header:
        os.write(link._outgoing, m.LENGTHS.pack(len(raw), 0) + raw)"""
    with Session("w1", mangled_stream(code)) as agent:
        command = agent.stream(["echo", "hello"], seconds=0.1)
        with pytest.raises(HostFailed, match=r"did not end in time|no answer within"):
            deque(command, maxlen=0)


@attack("compromised host", "have a release sent to it again and again", "mended")
def test_a_file_is_sent_once(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x")
    code = """raw = json.dumps(header).encode()
    if "send" in header:
        os.write(link._outgoing, m.LENGTHS.pack(len(raw), 0) + raw)"""
    with Session("w1", mangled_stream(code), lock_file=str(tmp_path / "lock")) as agent:
        agent.lock({"who": "ana"})
        wanted = {"path": str(tmp_path / "copy"), "owner": "root", "group": "root", "mode": "0600"}
        with pytest.raises(HostFailed, match="w1: the agent asks for a file that it does not need"):
            list(agent.apply([Operation("file", wanted, tmp_path / "large")]))
