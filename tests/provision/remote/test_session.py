"""How a session begins, and what a person reads when it cannot. Sudo's part: tests/lab."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from provision.errors import HostFailed, Unreachable
from provision.inventory.secrets import Secret
from provision.remote.handshake import command_line
from provision.remote.local_channel import LocalChannel
from provision.remote.session import Session
from tests.attacks import attack

ROOT = Path(__file__).resolve().parents[3]


def complaint(line: str) -> str:
    """What is said of a host where this runs instead of python3."""
    with pytest.raises((Unreachable, HostFailed)) as raised:
        Session("w1", lambda _: LocalChannel(line)).close()
    return str(raised.value)


def test_a_host_without_python() -> None:
    for line in ("/nowhere/python3 -c x", "echo sudo: /usr/bin/python3: command not found; exit 1"):
        said = complaint(line)
        assert said == "w1: /usr/bin/python3 is missing (an unknown system): install it there"


@pytest.mark.parametrize(
    ("system", "command"),
    [
        ("ID=debian", "apt-get install python3"),
        ("ID=raspbian\nID_LIKE=debian", "apt-get install python3"),
        ("ID=alpine", "apk add python3"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"', "dnf install python3"),
        ('ID="opensuse-leap"\nID_LIKE="suse opensuse"', "zypper install python3"),
    ],
)
def test_a_host_without_python_says_how_it_gets_one(
    tmp_path: Path, system: str, command: str
) -> None:
    (tmp_path / "os-release").write_text(f'PRETTY_NAME="A System"\n{system}\n')

    def start(line: str) -> LocalChannel:
        moved = line.replace("/usr/bin/python3", "/nowhere/python3")
        return LocalChannel(moved.replace("/etc/os-release", f"{tmp_path}/os-release"))

    with pytest.raises(Unreachable) as raised:
        Session("w1", start).close()
    assert str(raised.value) == f"w1: /usr/bin/python3 is missing (A System): `{command}` there"


def test_a_host_whose_python_is_too_old() -> None:
    def start(line: str) -> LocalChannel:
        old = line.replace("sys.version_info[:2]", "(3, 7)")
        assert old != line
        return LocalChannel(old)

    with pytest.raises(Unreachable) as raised:
        Session("w1", start).close()
    assert str(raised.value).startswith("w1: /usr/bin/python3 there is 3.7: 3.9 or newer is needed")


def test_a_host_that_says_something_else() -> None:
    message = "w1: the agent did not start; the host said: this account / is closed"
    assert complaint("echo this account; echo is closed") == message
    assert complaint("exit 1") == "w1: the agent did not start; the host said nothing"


@attack("compromised host", "ask for the sudo password where no sudo is run", "mended")
def test_who_asks_for_a_password_where_no_sudo_is_run_gets_none() -> None:
    given: list[str] = []

    def give() -> Secret:
        given.append("w1")
        return Secret("of the whole fleet")

    def start(line: str) -> LocalChannel:
        (token,) = re.findall("([0-9a-f]{16}) ready", line)
        return LocalChannel(f"printf {token}:; {line}")

    with Session("w1", start, password=give) as session:
        assert session.ask([("host",)])
    assert given == []


@pytest.mark.parametrize("python", ["python3", sys.executable])
def test_the_python_may_be_another(python: str) -> None:
    with Session("w1", LocalChannel, python=python) as agent:
        assert agent.ask([("user", "root")])["user", "root"]["uid"] == 0


@pytest.mark.parametrize("python", ["/nowhere/python3.12", "python3.99"])
def test_one_that_is_not_there_is_told(python: str) -> None:
    with pytest.raises(Unreachable) as raised:
        Session("w1", LocalChannel, python=python).close()
    message = f"w1: {python} is not there: set ansible_python_interpreter to one that is"
    assert str(raised.value) == message


def test_what_a_login_shell_prints_first_does_no_harm() -> None:
    with Session("w1", lambda line: LocalChannel(f"echo Welcome; {line}")) as agent:
        assert agent.ask([("user", "root")])["user", "root"]["uid"] == 0


def test_an_agent_that_dies_within_a_frame_is_a_message() -> None:
    def start(line: str) -> LocalChannel:
        code = shlex.split(line)[-1]
        cut = code.replace("m.serve(0, out)", "os.write(out, bytes(2))")
        assert cut != code
        return LocalChannel(f"/usr/bin/python3 -I -S -c {shlex.quote(cut)}")

    with Session("w1", start) as agent, pytest.raises((HostFailed, Unreachable)) as raised:
        agent.ask([("host",)])
    assert "w1: the agent was gone while it was asked how it is" in str(raised.value)


@attack("local user", "find secrets in a core of the agent, or of the toolkit", "mended")
def test_agents_leave_no_core(tmp_path: Path) -> None:
    def start(line: str) -> LocalChannel:
        code = shlex.split(line)[-1]
        last = "m.serve(0, out)"
        limits = 'open("/proc/self/limits").read()'
        report = f'open("{tmp_path}/limit", "w").write({limits})'
        told = code.replace(last, f"{report}; {last}")
        assert told != code
        return LocalChannel(f"ulimit -c unlimited; exec python3 -I -S -c {shlex.quote(told)}")

    with Session("w1", start) as agent:
        agent.ask([("host",)])
    assert re.search(r"Max core file size +0 +0 ", (tmp_path / "limit").read_text())


@attack("local user", "find secrets in a core of the agent, or of the toolkit", "mended")
def test_the_toolkit_leaves_no_core(tmp_path: Path) -> None:
    sources = tmp_path / "hosts.sh"
    sources.write_text(f"#!/bin/sh\nulimit -c > {tmp_path}/limit\necho '{{}}'\n")
    sources.chmod(0o700)
    line = f"ulimit -c unlimited; exec {sys.executable} -m provision inventory --hosts {sources}"
    subprocess.run(["/bin/sh", "-c", line], cwd=ROOT, capture_output=True, check=False)
    assert (tmp_path / "limit").read_text() == "0\n"


def test_no_secret_is_on_a_command_line() -> None:
    line = command_line("abc", sudo=True)
    assert "; LC_ALL=C sudo -S -p abc: /usr/bin/python3 -I -S -c " in line
    assert "\n" not in line


def test_a_python_that_was_built_without_a_module_is_told(tmp_path: Path) -> None:
    python = tmp_path / "python3"
    without = "import sys; sys.modules['_ssl'] = None"
    python.write_text(f'#!/bin/sh\nexec /usr/bin/python3 -I -S -c "{without}\n$4"\n')
    python.chmod(0o755)
    with Session("w1", LocalChannel, python=str(python)) as agent:
        assert agent.ask([("host",)])["host",]["python_problem"] == "it has no module ssl"


def test_a_python_that_services_cannot_run_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o700)
    (folder / "python3").symlink_to("/usr/bin/python3")
    with Session("w1", LocalChannel, python=f"{folder}/python3") as agent:
        said = agent.ask([("host",)])["host",]["python_problem"]
    # The nearest to the root that is closed: pytest's own folders are, too.
    assert said.startswith("services, which are not root, cannot run it: /tmp/")
    with Session("w1", LocalChannel) as agent:
        assert agent.ask([("host",)])["host",]["python_problem"] is None
