"""How a session begins, and what a person reads when it cannot. Sudo's part: tests/lab."""

import os
import shlex

import pytest

from provision.errors import HostFailed, Unreachable
from provision.handshake import command_line
from provision.secrets import Secret, SudoPassword
from provision.session import Session
from tests.provision.local import Pipe


def complaint(line: str) -> str:
    """What is said of a host where this runs instead of python3."""
    with pytest.raises((Unreachable, HostFailed)) as raised:
        Session("w1", lambda _: Pipe(line)).close()
    return str(raised.value)


def test_a_host_without_python() -> None:
    message = "w1: there is no /usr/bin/python3: install it (apt-get install python3)"
    for line in ("/nowhere/python3 -c x", "echo sudo: /usr/bin/python3: command not found; exit 1"):
        assert complaint(line) == message


def test_a_host_whose_python_is_too_old() -> None:
    def start(line: str) -> Pipe:
        old = line.replace("sys.version_info[:2]", "(3, 7)")
        assert old != line
        return Pipe(old)

    with pytest.raises(Unreachable) as raised:
        Session("w1", start).close()
    assert str(raised.value).startswith("w1: /usr/bin/python3 there is 3.7: 3.9 or newer is needed")


def test_a_host_that_says_something_else() -> None:
    message = "w1: the agent did not start; the host said: this account / is closed"
    assert complaint("echo this account; echo is closed") == message
    assert complaint("exit 1") == "w1: the agent did not start; the host said nothing"


def test_what_a_login_shell_prints_first_does_no_harm() -> None:
    with Session("w1", lambda line: Pipe(f"echo Welcome; {line}")) as agent:
        assert agent.ask([("user", "root")])["user", "root"]["uid"] == 0


def test_an_agent_that_dies_within_a_frame_is_a_message() -> None:
    def start(line: str) -> Pipe:
        code = shlex.split(line)[-1]
        cut = code.replace("m.serve(0, out)", "os.write(out, bytes(2))")
        assert cut != code
        return Pipe(f"/usr/bin/python3 -I -S -c {shlex.quote(cut)}")

    with Session("w1", start) as agent, pytest.raises((HostFailed, Unreachable)) as raised:
        agent.ask([("host",)])
    assert "w1: the agent was gone while it was asked how it is" in str(raised.value)


def test_no_secret_is_on_a_command_line() -> None:
    line = command_line("abc", sudo=True)
    assert line.startswith("LC_ALL=C sudo -S -p abc: /usr/bin/python3 -I -S -c ")
    assert "\n" not in line


def test_a_password_is_taken_from_where_it_is_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    password = SudoPassword()
    monkeypatch.setenv("GEARMAN_SUDO_PASSWORD", "of the environment")
    assert password("w1", Secret("of the inventory")) == Secret("of the inventory")
    assert password("w1") == Secret("of the environment")
    monkeypatch.delenv("GEARMAN_SUDO_PASSWORD")
    if not os.isatty(0):
        assert password("w1") is None
    assert str(Secret("x")) == repr(Secret("x")) == f"{Secret('x')}" == "<secret>"
