"""The demo without hosts: job server, workers and smoke test on this machine, without root.

For where the lab cannot be: see :func:`provision.lab.lab.obstacle`. The job server listens on a
Unix socket alone, so no port has to be free, and everything ends with the demo.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from gearman_py import GearmanError
from gearman_py.admin.client import AdminClient
from provision.commands.smoke import BUNDLED_CHECKS, Topology, run_checks
from provision.commands.smoke_pages import CommandResult
from provision.commands.smoke_state import JobServers
from provision.errors import HostFailed, ToolkitError
from provision.inventory.schema import default_of
from provision.lab.programs import Say
from provision.report.text import Report

BIN = Path(sys.executable).parent
FUNCTIONS = tuple(default_of("gearman_functions"))
HERE = "this machine"
START_TIMEOUT = 20.0  # seconds in which workers must be registered


@dataclass(frozen=True)
class _Ended:
    status: int
    stdout: bytes
    stderr: bytes


def demo(say: Say) -> int:
    """Run the three parts here and check them end to end; returns an exit status.

    Raises :class:`ToolkitError` when one of them does not start.
    """
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gearman-demo-")))
        address = f"unix:{home / 'gearmand.sock'}"
        server = ["gearmand", "--listen", address, "--log-file", str(home / "gearmand.log")]
        say(f"job server: {' '.join(server[:3])}")
        stack.enter_context(_running_command(server))
        for function in FUNCTIONS:
            worker = ["gearman-worker", "--servers", address, function]
            say(f"worker:     {' '.join(worker)}")
            stack.enter_context(_running_command(worker))
        _await_workers(address)
        # What the client role gives to a login shell on a client host.
        (home / ".profile").write_text(
            f"PATH='{BIN}':$PATH GEARMAN_SERVERS={address}; export PATH GEARMAN_SERVERS\n"
        )
        return _check_jobs({**os.environ, "HOME": str(home)})


def _check_jobs(environment: Mapping[str, str]) -> int:
    def run(command: str, stdin: bytes) -> CommandResult:
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            input=stdin,
            capture_output=True,
            env=environment,
            check=False,
        )
        return _Ended(done.returncode, done.stdout, done.stderr)

    report = Report([HERE])
    failed = False
    here, checks = Topology(HERE, [HERE], [HERE]), [*BUNDLED_CHECKS.values()]
    for checked in run_checks(run, here, checks, JobServers(run, {})):
        report.show(checked)
        failed = failed or checked.problem is not None
    return HostFailed.status if failed else 0


@contextmanager
def _running_command(command: list[str]) -> Iterator[None]:
    process = subprocess.Popen(
        [BIN / command[0], *command[1:]], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _await_workers(address: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    missing = set(FUNCTIONS)
    while missing:
        if time.monotonic() > deadline:
            raise ToolkitError(f"no worker for {', '.join(sorted(missing))} at {address}")
        time.sleep(0.05)
        try:
            with AdminClient(address) as admin:
                missing -= {row.name for row in admin.status() if row.workers}
        except GearmanError:
            pass  # the job server is still starting
