"""A job server that stands still: systemd kills it, and starts one that has its jobs."""

import time
from collections.abc import Iterator
from types import ModuleType

import pytest

from provision.fleet import deploy
from provision.options import Options
from roles import ROLES
from tests.lab.hosts import INVENTORY, SERVER, root

WAIT = 20.0  # seconds
GEARMAN = f"/opt/gearman/current/venv/bin/gearman -h {SERVER}"
MAIN = "systemctl show -P MainPID gearmand.service"
# Reload and restart with another time limit of the watchdog; 30 s are long for a test.
SOON = """
mkdir -p /run/systemd/system/gearmand.service.d
printf '[Service]\\nWatchdogSec=2\\n' > /run/systemd/system/gearmand.service.d/soon.conf
systemctl daemon-reload; systemctl restart gearmand.service
"""
AS_BEFORE = """
rm -r /run/systemd/system/gearmand.service.d
systemctl daemon-reload; systemctl restart gearmand.service
"""


@pytest.fixture
def impatient(lab: ModuleType) -> Iterator[ModuleType]:
    """The lab, deployed, with a watchdog on the job server that waits for two seconds."""
    assert deploy.deploy(INVENTORY, ROLES, Options(yes=True)) == 0
    root(lab, "server1", SOON)
    yield lab
    root(lab, "server1", AS_BEFORE)


def test_server_that_stands_still_is_restarted_and_has_its_jobs(impatient: ModuleType) -> None:
    before = root(impatient, "server1", MAIN).strip()
    root(impatient, "client1", f"echo waits | {GEARMAN} -f nobody-does-it -b")
    root(impatient, "server1", f"kill -STOP {before}")
    deadline = time.monotonic() + WAIT
    while root(impatient, "server1", MAIN).strip() in (before, "0"):
        assert time.monotonic() < deadline, "it still stands still"
        time.sleep(0.1)
    assert "Watchdog timeout" in root(impatient, "server1", "journalctl -u gearmand --since -1m")
    root(impatient, "worker1", f"timeout 20 {GEARMAN} -w -c 1 -f nobody-does-it -- tee /tmp/done")
    assert root(impatient, "worker1", "cat /tmp/done; rm /tmp/done") == "waits\n"
