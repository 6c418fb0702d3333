"""The smoke test against a topology on this machine: a real job server and real workers."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from provision.commands.smoke import (
    BUNDLED_CHECKS,
    Topology,
    checks_of,
    run_checks,
    unchecked_programs,
    units_of,
)
from provision.commands.smoke_pages import CommandResult, Run, check_pages
from provision.inventory import load as inventory
from tests.ports import reserve_port
from tests.waiting import await_true

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
ALL = [*BUNDLED_CHECKS.values()]
TOPOLOGY = Topology("client1", ["server1"], ["worker1"])


@dataclass(frozen=True)
class Ended:
    status: int
    stdout: bytes
    stderr: bytes


class Hosts:
    """All three hosts, on this machine."""

    def __init__(self, running: ExitStack) -> None:
        self.port = reserve_port()
        self.server = f"127.0.0.1:{self.port}"
        self.path = f"{BIN}:/usr/bin:/bin"
        self._running = running

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([BIN / command[0], *command[1:]])
        self._running.callback(process.wait)
        self._running.callback(process.kill)
        return process

    def serve(self, *functions: str) -> None:
        self.start("gearmand", "-L", "127.0.0.1", "-p", str(self.port))
        if functions:
            self.start("gearman-worker", "--servers", self.server, *functions)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            listing = self.run("gearadmin --workers", b"").stdout
            if all(each.encode() in listing for each in functions if each != "--ping") and listing:
                return
            time.sleep(0.02)
        raise AssertionError(f"not serving {functions}")

    def run(self, command: str, stdin: bytes) -> CommandResult:
        # What the client role puts into a login shell's environment.
        environment = {"PATH": self.path, "GEARMAN_SERVERS": self.server}
        line = command.replace("sh -lc", "/bin/sh -c")
        done = subprocess.run(
            ["/bin/sh", "-c", line],
            input=stdin,
            capture_output=True,
            env={"HOME": os.environ["HOME"], **environment},
        )
        return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with ExitStack() as running:
        yield Hosts(running)


def problems(run: Run) -> list[tuple[str | None, str]]:
    return [(check.problem, check.look_at) for check in run_checks(run, TOPOLOGY, ALL, patience=2)]


def test_every_check_passes_where_all_is_well(hosts: Hosts) -> None:
    hosts.serve("wc", "reverse", "resize")
    assert problems(hosts.run) == [(None, "")] * 3


def test_function_without_a_worker_points_to_the_workers_unit(hosts: Hosts) -> None:
    hosts.serve("wc", "resize")
    wc, reverse, resize = problems(hosts.run)
    assert (wc[0], resize[0]) == (None, None)
    assert reverse[0]
    assert reverse[1].startswith("worker1: systemctl status gearman-worker@reverse")


def test_silent_job_server_points_to_it(hosts: Hosts) -> None:
    for problem, look_at in problems(hosts.run):
        assert problem
        assert look_at.startswith("server1: journalctl -u gearmand")


def test_client_without_the_command_points_to_the_client(hosts: Hosts) -> None:
    hosts.path = "/nowhere"
    for problem, look_at in problems(hosts.run):
        assert problem
        assert look_at.startswith("client1: no `gearman` on its PATH")


def test_wrong_answer_points_to_the_worker_s_journal(hosts: Hosts) -> None:
    hosts.serve()
    for function in ("wc", "reverse", "resize"):
        hosts.start("gearman", "-w", "-p", str(hosts.port), "-f", function, "--", "echo", "no")
    seen = problems(hosts.run)
    assert all(problem for problem, _ in seen)
    assert seen[2][1].startswith("worker1: journalctl -u gearman-worker@resize")


OWN = """
worker:
  hosts: {worker1: }
  vars: {gearman_workers: {wc: {}, say: {program: [php, say.php], functions: [say]},
    lines: {command: [wc, -l], functions: [lines], instances: 2,
    check: {workload: "a\\nb\\n", expect: "2\\n"}}, shop: {app: shop, run: shop.tasks:worker},
    loud: {app: shop, run: shop.loud:worker, check: {function: shout, workload: a, expect: A}}},
    gearman_apps: {shop: {source: shop}}}
"""


def test_what_the_inventory_serves_is_checked_and_nothing_else(
    hosts: Hosts, tmp_path: Path
) -> None:
    (tmp_path / "hosts.yml").write_text(OWN)
    known = inventory.load(tmp_path)
    wanted = checks_of(known)
    assert unchecked_programs(known) == ["program say"]
    units = {name: f"gearman-worker@{name}" for name in ("wc", "lines")}
    units |= {"say": "'gearman-worker@say*'", "shout": "gearman-worker@loud"}
    assert units_of(known) == units
    assert [name for name, _ in wanted] == [
        "wc: the lines of /etc/passwd",
        "lines: worker lines of worker1 answers",
        "lines: worker lines:2 of worker1 answers",
        "shop: worker shop of worker1 answers",
        "loud: worker loud of worker1 answers",
        "lines: the check of worker lines",
        "shout: the check of worker loud",
    ]
    hosts.serve("wc", "--ping", "ping@worker1/lines")
    found = {each.name: each for each in run_checks(hosts.run, TOPOLOGY, wanted, patience=2)}
    problems = [each.problem for each in found.values()]
    assert problems[:2] == [None, None]
    last = found["lines: worker lines:2 of worker1 answers"]
    assert last.look_at.startswith("worker1: systemctl status gearman-worker@lines:2 (the job")


SERVERS = """
all: {{vars: {{gearman_metrics_port: {port}, ansible_python_interpreter: {python}}}}}
job_server: {{hosts: {{server1: {{ansible_host: 127.0.0.1}}}}}}
client: {{hosts: {{client1: }}}}
"""


def test_metrics_of_job_servers_are_looked_at_from_the_client(hosts: Hosts, tmp_path: Path) -> None:
    port = reserve_port()
    text = SERVERS.format(port=port, python=sys.executable)
    (tmp_path / "hosts.yml").write_text(text)
    known = inventory.load(tmp_path)
    (client,) = known.group("client")
    (refused,) = check_pages(known, client, hosts.run)
    assert refused.name == "metrics of server1"
    assert "Connection refused" in str(refused.problem)
    look = f"server1: journalctl -u gearmand; let TCP {port} in (with firewalld: firewall-cmd"
    assert refused.look_at.startswith(look)
    hosts.start(
        *("gearmand", "-L", "127.0.0.1", "-p", str(hosts.port)),
        *("--metrics-listen", f"127.0.0.1:{port}"),
    )
    await_true(lambda: not [each for each in check_pages(known, client, hosts.run) if each.problem])
