"""A host with a job server and workers: neither's user reads or affects the other's."""

from pathlib import Path
from types import ModuleType

import pytest
import yaml

from tests.attacks import attack
from tests.lab.hosts import root
from tests.lab.operator_commands import ROOT
from tests.lab.test_own_workers import Operator
from tests.lab.test_upgrade import invoke

WORKERS = """
gearman_functions: [reverse]
gearman_workers:
  sealed: {command: [wc, -l], functions: [sealed], secrets: {KEY: a-secret-of-theirs}}
"""
# Runs the lines that it is given, each as a user: those that end well are what it could do.
TRY = r"""
cd /
while read -r line; do
  setpriv --reuid=USER --regid=USER --init-groups --inh-caps=-all --bounding-set=-all \
    sh -c "${line:-false}" >/dev/null 2>&1 </dev/null && echo "$line"
done <<'LINES'
LINES_GIVEN
LINES
true
"""
# Of both: PID is a process of the other's.
BOTH = """
kill -0 PID
cat /proc/PID/environ
ls /proc/PID/fd
readlink /proc/PID/exe
ls /etc/gearman/secrets
cat /etc/gearman/secrets/*
touch /etc/gearman/mine
touch /opt/gearman/mine
touch /opt/gearman/current/mine
ls /var/lib/gearman-deploy
cat /run/gearman-deploy.lock
flock --nonblock /run/gearman-deploy.lock true
systemctl --no-ask-password reload gearmand.service
systemctl --no-ask-password stop gearman-worker@reverse.service
"""
# The workers' user can read those of its own processes.
CREDENTIALS = """
cat /run/credentials/gearman-worker@sealed.service/KEY
"""
OF_THE_SERVER = """
ls /var/lib/gearmand
cat /var/lib/gearmand/queue.db
ls /run/gearmand
touch /run/gearmand/mine
python3 -c "import socket; socket.socket(socket.AF_UNIX).connect('/run/gearmand/admin.sock')"
"""


@pytest.fixture
def both(lab: ModuleType, tmp_path: Path) -> Operator:
    operator = Operator(tmp_path / "inventory")
    operator.says(WORKERS)
    path = operator.folder / "hosts.yml"
    known = yaml.safe_load(path.read_text())
    known["all"]["children"]["worker"]["hosts"]["server1"] = {}
    path.write_text(yaml.safe_dump(known))
    operator.deploy()
    return operator


@attack(
    "user of a service",
    "read or affect a job server as the workers' user, and workers as the job server's: files, "
    "sockets, signals, credentials, memory",
    "held",
)
def test_neither_user_reads_or_affects_what_is_the_other_s(lab: ModuleType, both: Operator) -> None:
    def could_do(user: str, other: str, lines: str) -> list[str]:
        pid = root(lab, "server1", f"systemctl show --property=MainPID --value {other}").strip()
        script = TRY.replace("USER", user).replace("LINES_GIVEN", lines.strip())
        return root(lab, "server1", script.replace("PID", pid)).splitlines()

    server, worker = "gearmand.service", "gearman-worker@reverse.service"
    assert could_do("gearman-worker", server, BOTH + OF_THE_SERVER + "true") == ["true"]
    assert could_do("gearmand", worker, BOTH + CREDENTIALS + "ls /var/lib/gearmand") == [
        "ls /var/lib/gearmand"
    ]
    back = invoke(ROOT, "deploy", "--yes")
    assert back.status == 0, back.said
