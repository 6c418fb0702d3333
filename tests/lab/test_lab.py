"""The lab itself: three real hosts, bare and shut in, that come in seconds and leave nothing."""

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from provision.errors import ToolkitError
from provision.lab import processes
from provision.lab.inventory_files import MORE_WORKERS
from provision.lab.machine import STATE, Machine
from provision.lab.network import LINK
from tests.lab.hosts import NETWORK, SERVER

HOSTS = ("client1", "server1", "worker1")
ROOT = Path(__file__).resolve().parents[2]
ENOUGH = 100  # steps in which a lab that is killed at each of them must come up
NOBODY = 65534


@pytest.fixture(scope="module", autouse=True)
def _bare_hosts(lab: ModuleType) -> None:
    """Other files of tests may have used this lab before, and installed packages."""
    lab.down(print)
    lab.up(print)


def login(
    lab: ModuleType, host: str, *command: str, user: str = "deploy"
) -> subprocess.CompletedProcess[str]:
    """Run a command on a host over SSH."""
    return subprocess.run(lab.ssh(host, *command, user=user), capture_output=True, text=True)


def said_by_up(lab: ModuleType, workers: int = 1) -> str:
    said: list[str] = []
    lab.up(said.append, workers)
    return "\n".join(line for line in said if not line.startswith("waiting for another"))


def leaders(lab: ModuleType) -> list[int]:
    """The process 1 of each host, by its number on this machine."""
    return [Machine(host, "", "").leader() or 0 for host in HOSTS]


def supervisor(host: str) -> int:
    (pid,) = processes.with_argument(f"--directory={STATE / host / 'root'}")
    return pid


def traces() -> list[str]:
    """Whatever on this machine bears the lab's name."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    lines += subprocess.check_output(["ip", "-oneline", "link"], text=True).splitlines()
    groups = [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{processes.SLICE}")]
    ours = re.compile(rf"({LINK}|{STATE})(?![-\d])")  # not those of another lab
    return [line for line in lines if ours.search(line)] + groups


# -- what a host is -----------------------------------------------------------------------


@pytest.mark.parametrize("host", HOSTS)
def test_host_lets_deploy_in_and_is_who_known_hosts_says(lab: ModuleType, host: str) -> None:
    done = login(lab, host, "hostname; whoami; sudo whoami")
    assert done.stderr == ""
    assert done.stdout.split() == [host, "deploy", "root"]


@pytest.mark.parametrize("host", HOSTS)
def test_host_is_a_whole_running_system(lab: ModuleType, host: str) -> None:
    done = login(lab, host, "systemctl is-system-running --wait; systemctl --failed --quiet")
    assert done.stdout.split() == ["running"]


def test_root_login_is_refused_even_with_the_right_key(lab: ModuleType) -> None:
    keys = "mkdir -p /root/.ssh && cp /home/deploy/.ssh/authorized_keys /root/.ssh/"
    assert lab.run("client1", ["sh", "-c", keys]).returncode == 0
    done = login(lab, "client1", "true", user="root")
    lab.run("client1", ["rm", "-r", "/root/.ssh"])
    assert done.returncode == 255
    assert "Permission denied" in done.stderr


def test_hosts_reach_each_other_and_nothing_else(lab: ModuleType) -> None:
    reach = "import socket; socket.create_connection(({!r}, {}), 2)"
    inside = login(lab, "client1", f'python3 -c "{reach.format(SERVER, 22)}"')
    assert inside.returncode == 0
    for outside in ("192.0.2.2", "9.9.9.9", "deb.debian.org"):
        done = login(lab, "client1", f'python3 -c "{reach.format(outside, 80)}"')
        assert "unreachable" in done.stderr or "name resolution" in done.stderr


def test_host_has_no_python_packages_and_no_gearman(lab: ModuleType) -> None:
    done = login(lab, "worker1", "python3 -m pip; python3 -m ensurepip; which gearmand gearman")
    assert "No module named pip" in done.stderr
    assert "gearman" not in done.stdout


def test_connections_channels_and_sudos_can_be_counted(lab: ModuleType) -> None:
    def counts() -> list[int]:
        log, sudos = lab.journal("server1"), lab.journal("server1", "-t", "sudo")
        marks = ("Connection from", "server_input_channel_open: ctype")
        counted = [sum(mark in line for line in log) for mark in marks]
        return [*counted, sum("COMMAND=" in line for line in sudos)]

    before = counts()
    login(lab, "server1", "sudo true; sudo true")
    assert [now - then for now, then in zip(counts(), before, strict=True)] == [1, 1, 2]


# -- what tests can do to a host ----------------------------------------------------------


def test_command_is_run_as_root_without_ssh(lab: ModuleType) -> None:
    done = lab.run("worker1", ["sh", "-c", "cat; hostname; id -u; exit 3"], input="from here\n")
    assert (done.returncode, done.stdout.split("\n")[:3]) == (3, ["from here", "worker1", "0"])


def test_host_without_power_is_down_and_boots_with_its_disk(lab: ModuleType) -> None:
    lab.run("worker1", ["sh", "-c", "echo kept >/var/lib/kept"])
    lab.power_off("worker1")
    assert [row.state for row in lab.status()] == ["up", "up", "down"]
    with pytest.raises(ToolkitError, match="worker1 is not running"):
        lab.run("worker1", ["true"])
    lab.boot("worker1")
    assert login(lab, "worker1", "cat /var/lib/kept").stdout == "kept\n"


def test_host_reboots_from_inside(lab: ModuleType) -> None:
    before = leaders(lab)
    process = os.pidfd_open(before[-1])
    assert login(lab, "worker1", "sudo systemctl reboot").returncode in (0, 255)
    assert select.select([process], [], [], 30)[0], "it did not shut down"
    os.close(process)
    lab.up(print)
    assert login(lab, "worker1", "true").returncode == 0
    assert leaders(lab)[:2] == before[:2]
    assert leaders(lab)[2] != before[2]


def test_unplugged_host_is_silent_until_plugged_in(lab: ModuleType) -> None:
    lab.unplug("worker1")
    assert [row.state for row in lab.status()] == ["up", "up", "starting"]
    lab.plug("worker1")
    assert login(lab, "worker1", "true").returncode == 0
    lab.unplug("worker1")
    assert said_by_up(lab).endswith("up already, nothing to do")
    assert login(lab, "worker1", "true").returncode == 0


def test_unknown_host_is_named_with_those_there_are(lab: ModuleType) -> None:
    with pytest.raises(ToolkitError, match="no host worker9; it has client1, server1, worker1"):
        lab.run("worker9", ["true"])


# -- up and down --------------------------------------------------------------------------


@pytest.fixture
def up_again(lab: ModuleType) -> Iterator[None]:
    """For tests that take the lab down: the next one finds it up."""
    yield
    lab.up(print)


def test_up_when_up_touches_no_host(lab: ModuleType) -> None:
    before = leaders(lab)
    assert said_by_up(lab) == "client1, server1, worker1: up already, nothing to do"
    assert leaders(lab) == before


def test_more_workers_come_and_go(lab: ModuleType, up_again: None) -> None:
    before = leaders(lab)
    assert said_by_up(lab, workers=3).startswith("worker2, worker3: up after")
    assert f"ansible_host: {NETWORK}.250" in MORE_WORKERS.read_text()
    assert login(lab, "worker3", "hostname").stdout == "worker3\n"
    assert "worker2 is gone" in said_by_up(lab)
    assert not MORE_WORKERS.exists()
    assert leaders(lab) == before


def test_host_of_another_suite_is_made_anew_and_the_others_stay(
    lab: ModuleType, up_again: None
) -> None:
    before = leaders(lab)
    lab.run("worker1", ["sh", "-c", "echo kept >/var/lib/kept"])
    said: list[str] = []
    lab.up(said.append, suites={"worker1": "trixie"})
    assert "worker1 is gone" in said
    assert [row.suite for row in lab.status()] == ["bookworm", "bookworm", "trixie"]
    assert "trixie" in login(lab, "worker1", "cat /etc/os-release; ls /var/lib/kept").stdout
    assert leaders(lab)[:2] == before[:2]
    lab.up(print, suites={"worker1": "trixie"})
    assert login(lab, "worker1", "true").returncode == 0


@pytest.mark.parametrize(
    ("suites", "message"),
    [
        ({"worker1": "potato"}, "no suite 'potato'; it has bullseye, bookworm, trixie"),
        ({"worker7": "trixie"}, "no host worker7; it has all, client1, server1, worker1"),
    ],
)
def test_unknown_suite_or_host_changes_nothing(
    lab: ModuleType, suites: dict[str, str], message: str
) -> None:
    before = leaders(lab)
    with pytest.raises(ToolkitError, match=message):
        lab.up(print, suites=suites)
    assert leaders(lab) == before


def test_host_whose_supervisor_was_killed_is_booted_with_its_disk(
    lab: ModuleType, up_again: None
) -> None:
    lab.run("server1", ["sh", "-c", "echo kept >/var/lib/kept"])
    os.kill(supervisor("server1"), signal.SIGKILL)
    assert said_by_up(lab).startswith("server1: up after")
    assert login(lab, "server1", "cat /var/lib/kept").stdout == "kept\n"


def test_down_leaves_nothing_and_up_killed_at_every_step_comes_up(
    lab: ModuleType, up_again: None
) -> None:
    there = [*leaders(lab), *map(supervisor, HOSTS)]
    lab.down(print)
    assert traces() == []
    assert not STATE.exists()
    assert not lab.KEY.exists()
    assert not lab.KNOWN_HOSTS.exists()
    assert [pid for pid in there if Path(f"/proc/{pid}/root/etc").exists()] == []
    for step in range(1, ENOUGH):
        done = up_killed_at(step)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        if done.returncode == 0:
            break
    assert [row.state for row in lab.status()] == ["up"] * 3
    assert len({supervisor(host) for host in HOSTS}) == 3
    lab.down(print)
    assert traces() == []


def up_killed_at(step: int) -> subprocess.CompletedProcess[str]:
    """Run ``up`` in a process that kills itself as it begins its so manyth command."""
    script = f"""
import os, signal, sys
from provision.lab import lab
left = {step}
def watch(event, arguments):
    global left
    if event == "subprocess.Popen":
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
lab.up(print)
"""
    return subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)


def test_two_ups_at_once_make_one_lab(lab: ModuleType, up_again: None) -> None:
    lab.down(print)
    up = [sys.executable, "-c", "from provision.lab import lab; lab.up(print)"]
    pair = [subprocess.Popen(up, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in pair]
    assert [process.returncode for process in pair] == [0, 0]
    assert sum("up already" in each for each in said) == 1
    assert [row.state for row in lab.status()] == ["up"] * 3


def test_addresses_in_use_are_refused(lab: ModuleType, up_again: None) -> None:
    lab.down(print)
    taken = (f"{NETWORK}.77/32", "dev", "lo")
    subprocess.run(["ip", "address", "add", *taken], check=True)
    try:
        with pytest.raises(ToolkitError, match=rf"{NETWORK}\.0/24, and lo has {NETWORK}\.77/32"):
            lab.up(print)
    finally:
        subprocess.run(["ip", "address", "delete", *taken], check=True)


def test_link_of_that_name_is_refused_and_left_alone(lab: ModuleType, up_again: None) -> None:
    lab.down(print)
    subprocess.run(["ip", "link", "add", LINK, "type", "bridge"], check=True)
    try:
        with pytest.raises(ToolkitError, match=f"{LINK} is here already"):
            lab.up(print)
        lab.down(print)
        assert Path("/sys/class/net", LINK).exists()
    finally:
        subprocess.run(["ip", "link", "delete", LINK], check=True)


def test_ordinary_user_is_told_to_use_sudo(lab: ModuleType) -> None:
    os.seteuid(NOBODY)
    try:
        for task in (lab.up, lab.down):
            with pytest.raises(ToolkitError, match="takes root: use sudo"):
                task(print)
    finally:
        os.seteuid(0)
