"""The smoke test against a topology on this machine: a real job server and real workers."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gearman_py import AdminClient
from provision.commands.smoke import (
    BUNDLED_CHECKS,
    SmokeCheck,
    Topology,
    checks_of,
    only_pinged,
    run_checks,
    unchecked_programs,
    workers_of_functions,
)
from provision.commands.smoke_pages import CommandResult, Run, check_pages
from provision.commands.smoke_state import JobServers
from provision.inventory import load as inventory
from provision.report.events import Checked
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


def check_all(run: Run, wanted: Sequence[SmokeCheck] = ALL, **options: Any) -> list[Checked]:
    return [*run_checks(run, TOPOLOGY, wanted, JobServers(run, {}), 2, **options)]


def problems(run: Run) -> list[tuple[str | None, str]]:
    return [(each.problem, each.cure) for each in check_all(run)]


def test_every_check_passes_where_all_is_well(hosts: Hosts) -> None:
    hosts.serve("wc", "reverse", "resize")
    assert problems(hosts.run) == [(None, "")] * 3


def test_functions_without_a_worker_are_waited_for_together_and_point_to_the_doctor(
    hosts: Hosts,
) -> None:
    hosts.serve("wc")
    told: list[str] = []
    wc, reverse, resize = check_all(hosts.run, tell=told.append)
    assert (wc.name, wc.problem) == ("wc: the lines of /etc/passwd", None)
    assert reverse.problem == "no worker serves reverse at the job server"
    assert resize.problem == "no worker serves resize at the job server"
    assert reverse.cure == (
        "./invoke doctor --problems --limit worker1 (why worker reverse is not connected)"
    )
    (line,) = told
    assert line.startswith("no worker serves reverse, resize yet: waiting up to ")


def test_a_function_whose_worker_comes_meanwhile_is_checked(hosts: Hosts) -> None:
    hosts.serve("wc", "resize")

    def begin(line: str) -> None:
        hosts.start("gearman-worker", "--servers", hosts.server, "reverse")

    run = partial(run_checks, hosts.run, TOPOLOGY, ALL, JobServers(hosts.run, {}), 240)
    assert [each.problem for each in run(begin)] == [None] * 3


def test_a_paused_function_and_a_paused_job_server_are_told_and_not_waited_for(
    hosts: Hosts,
) -> None:
    hosts.serve("wc", "reverse", "resize")
    with AdminClient(hosts.server) as admin:
        admin.pause("reverse")
        paused, *others = check_all(hosts.run)
        assert paused.name == "reverse: are its jobs done?"
        assert str(paused.problem).startswith(f"it is paused at {hosts.server} since 20")
        admin_socket = "gearadmin -h unix:/run/gearmand/admin.sock"
        assert paused.cure == f"on {hosts.server}: sudo {admin_socket} --resume reverse"
        assert [each.problem for each in others] == [None, None]
        admin.resume("reverse")
        admin.pause_server()
        (server,) = check_all(hosts.run)
        assert server.name == f"job server {hosts.server}"
        assert server.problem == "it is paused: it gives no jobs to workers"


def test_silent_job_server_is_told_once(hosts: Hosts) -> None:
    ((problem, cure),) = problems(hosts.run)
    assert "no job server answers" in str(problem)
    assert cure == "./invoke doctor --problems (client1 cannot reach server1)"


def test_client_without_the_command_points_to_the_client(hosts: Hosts) -> None:
    hosts.path = "/nowhere"
    for problem, cure in problems(hosts.run):
        assert problem
        assert cure == "./invoke deploy (no `gearman` on the PATH of client1)"


def test_wrong_answer_points_to_the_worker_s_journal(hosts: Hosts) -> None:
    hosts.serve()
    for function in ("wc", "reverse", "resize"):
        hosts.start("gearman", "-w", "-p", str(hosts.port), "-f", function, "--", "echo", "no")
    states = JobServers(hosts.run, {})
    states.ask()
    states.await_workers(["wc", "reverse", "resize"], time.monotonic() + 60, print)
    seen = problems(hosts.run)
    assert all(problem for problem, _ in seen)
    assert seen[2][1].startswith("./invoke logs resize --limit worker1 (")


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
    names = {"wc": "wc", "lines": "lines", "say": "say", "shout": "loud"}
    assert workers_of_functions(known) == names
    assert only_pinged(known) == ["shop"]
    assert [each.name for each in wanted] == [
        "wc: the lines of /etc/passwd",
        "lines: worker lines of worker1 answers a ping",
        "lines: worker lines:2 of worker1 answers a ping",
        "shop: worker shop of worker1 answers a ping",
        "loud: worker loud of worker1 answers a ping",
        "lines: the check of worker lines",
        "shout: the check of worker loud",
    ]
    hosts.serve("wc", "--ping", "ping@worker1/lines")
    found = {each.name: each for each in check_all(hosts.run, wanted)}
    problems = [each.problem for each in found.values()]
    assert problems[:2] == [None, None]
    last = found["lines: worker lines:2 of worker1 answers a ping"]
    assert last.cure == (
        "./invoke doctor --problems --limit worker1 (why worker lines is not connected)"
    )


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
    look = "./invoke logs gearmand --limit server1; on server1: let TCP "
    look += f"{port} in (with firewalld: firewall-cmd"
    assert refused.cure.startswith(look)
    hosts.start(
        *("gearmand", "-L", "127.0.0.1", "-p", str(hosts.port)),
        *("--metrics-listen", f"127.0.0.1:{port}"),
    )
    await_true(lambda: not [each for each in check_pages(known, client, hosts.run) if each.problem])
