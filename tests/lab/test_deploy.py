"""Deploys to real hosts: from nothing, again, after damage, and where they cannot be done."""

import http.client
import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest

from provision.fleet import begin, deploy
from provision.options import Options
from roles import ROLES
from tests.lab.hosts import INVENTORY, SERVER

HOSTS = ("client1", "server1", "worker1")
UNITS = {
    "server1": ("gearmand.service",),
    "worker1": tuple(f"gearman-worker@{each}.service" for each in ("reverse", "resize", "wc")),
}
MOST_EXPOSED = 1.5
BARE = """
systemctl stop 'gearman*'
rm -f /etc/systemd/system/gearman* /etc/systemd/system/*.wants/gearman*
rm -f /usr/local/bin/gear* /etc/profile.d/gearman.sh
rm -rf /opt/gearman /var/lib/gearmand
userdel gearmand 2>/dev/null
userdel gearman-worker 2>/dev/null
systemctl daemon-reload; systemctl reset-failed
"""
FULL_DISK = """
mkdir /run/small; mount -t tmpfs -o size=2m small /run/small; mkdir /run/small/releases
mount --bind /run/small /opt/gearman
"""
SQUATTER = f"""
systemctl stop gearmand.socket gearmand.service
systemd-run --quiet --unit=squatter python3 -m http.server -b {SERVER} 4730
until ss -ltn | grep -q {SERVER}:4730; do sleep 0.1; done
"""
OLD_PYTHON = """
rm /usr/bin/python3; cat > /usr/bin/python3 << 'END'; chmod 755 /usr/bin/python3
#!/bin/sh
exec /usr/bin/python3.11 -I -S -c "import sys; sys.version_info = (3, 9, 2, 'final', 0)
$4"
END
"""


def root(lab: ModuleType, host: str, script: str) -> str:
    """Run a shell script on a host as root, not over SSH; what it said."""
    done = lab.run(host, ["sh", "-c", script])
    assert done.returncode == 0, f"{host}: {done.stderr}"
    return str(done.stdout)


def planned(lab: ModuleType) -> int:
    return deploy.plan(INVENTORY, ROLES)


def deployed(lab: ModuleType) -> int:
    return deploy.deploy(INVENTORY, ROLES, Options(yes=True))


def changes(out: str) -> list[str]:
    """The changes that a plan names."""
    return [line[2:] for line in out.splitlines() if re.match(r"  [+~-] ", line)]


@pytest.fixture(scope="module", autouse=True)
def _deployed_from_nothing(lab: ModuleType) -> None:
    """Hosts that bear no trace of Gearman, and then are as wanted after one deploy."""
    for host in HOSTS:
        lab.run(host, ["sh", "-c", BARE])
    assert planned(lab) == begin.CHANGES_PENDING
    assert deployed(lab) == 0


def counts(lab: ModuleType, host: str) -> tuple[int, int, int]:
    """Connections, channels and sudos that a host has seen."""
    sshd, sudo = "\n".join(lab.journal(host)), "\n".join(lab.journal(host, "-t", "sudo"))
    return (
        sshd.count("Connection from"),
        sshd.count("server_input_channel_open: ctype"),
        sudo.count("COMMAND="),
    )


def test_a_second_deploy_changes_nothing_over_one_connection_channel_and_sudo_a_host(
    lab: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {host: counts(lab, host) for host in HOSTS}
    assert deployed(lab) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 6
    assert "3 ok; nothing to change" in lines[-1]
    for host in HOSTS:
        seen = zip(counts(lab, host), before[host], strict=True)
        assert [after - earlier for after, earlier in seen] == [1, 1, 1], host


def test_the_job_server_tells_its_metrics_to_who_scrapes_it(lab: ModuleType) -> None:
    scraper = http.client.HTTPConnection(SERVER, 9418, timeout=60)
    scraper.request("GET", "/metrics")
    said = scraper.getresponse().read().decode()
    scraper.close()
    for function in ("reverse", "resize", "wc"):
        assert f'gearman_workers{{function="{function}"}} 1\n' in said


def test_what_is_broken_by_hand_is_what_is_planned_and_what_is_mended(
    lab: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    root(lab, "client1", "echo '# mine' >> /etc/profile.d/gearman.sh")
    root(lab, "worker1", "systemctl disable --quiet --now gearman-worker@wc.service")
    before = root(lab, "worker1", "systemctl show -P MainPID gearman-worker@reverse.service")

    for act, status in ((planned, begin.CHANGES_PENDING), (deployed, 0)):
        assert act(lab) == status
        out = capsys.readouterr().out
        assert changes(out) == [
            "~ file /etc/profile.d/gearman.sh  (content)",
            "+ start gearman-worker@wc.service  (it is inactive)",
        ]
        assert "      -# mine\n" in out
    assert planned(lab) == 0
    assert "# mine" not in root(lab, "client1", "cat /etc/profile.d/gearman.sh")
    after = root(lab, "worker1", "systemctl show -P MainPID gearman-worker@reverse.service")
    assert after == before


def test_a_process_that_is_older_than_its_unit_file_is_replaced(
    lab: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    # As a deploy leaves it that is interrupted between the file and the reload.
    root(
        lab,
        "server1",
        "cd /etc/systemd/system; cp gearmand.service /tmp/wanted;"
        "sed -i s/GEARMAN_CONFIG=.*/GEARMAN_CONFIG=older/ gearmand.service;"
        "systemctl daemon-reload; systemctl restart gearmand.service;"
        "cat /tmp/wanted > gearmand.service",
    )
    assert deployed(lab) == 0
    assert changes(capsys.readouterr().out) == [
        "~ daemon-reload  (unit files changed)",
        "~ reload gearmand.service  (it runs with another configuration)",
    ]
    assert planned(lab) == 0


def test_a_reload_puts_a_new_process_beside_the_old_and_systemd_follows(lab: ModuleType) -> None:
    unit = "gearman-worker@reverse.service"

    def show(what: str) -> str:
        return root(lab, "worker1", f"systemctl show -P {what} {unit}").strip()

    before = show("MainPID")
    root(lab, "worker1", f"systemctl reload {unit}")
    after = show("MainPID")
    assert after != before
    root(lab, "worker1", f"while kill -0 {before} 2>/dev/null; do sleep 0.1; done")
    assert (show("ActiveState"), show("NRestarts")) == ("active", "0")
    assert planned(lab) == 0
    # It is systemd's own child now: its death is seen, and mended.
    root(
        lab,
        "worker1",
        f"kill -KILL {after}; until [ $(systemctl show -P NRestarts {unit}) = 1 ]"
        f" && systemctl is-active {unit}; do sleep 0.1; done",
    )
    root(lab, "worker1", f"systemctl reset-failed {unit}")


@pytest.mark.parametrize(("host", "unit"), [(h, unit) for h in UNITS for unit in UNITS[h]])
def test_units_are_shut_in(lab: ModuleType, host: str, unit: str) -> None:
    assert root(lab, host, f"systemctl is-active {unit}").strip() == "active"
    said = root(lab, host, f"systemd-analyze security --no-pager {unit}")
    level = re.findall(r"Overall exposure level for .*: ([\d.]+)", said)
    assert float(level[0]) <= MOST_EXPOSED, said


@contextmanager
def spoilt(lab: ModuleType, host: str, spoil: str, mend: str) -> Iterator[None]:
    root(lab, host, spoil)
    try:
        yield
    finally:
        root(lab, host, mend)


@pytest.mark.parametrize(
    ("host", "spoil", "mend", "message"),
    [
        pytest.param(
            "worker1",
            FULL_DISK,
            "umount /opt/gearman /run/small; rmdir /run/small",
            r"/opt/gearman has [12](\.\d)? MiB free, and a release needs [\d.]+ MiB: make room",
            id="disk full",
        ),
        pytest.param(
            "server1",
            SQUATTER,
            "systemctl stop squatter.service; systemctl start gearmand.socket gearmand.service",
            rf"{SERVER}:4730 is taken by python3 \(pid \d+, squatter\.service\): stop it",
            id="port taken",
        ),
        pytest.param(
            "worker1",
            OLD_PYTHON,
            "ln -sf python3.11 /usr/bin/python3",
            r"Python 3\.9\.2 \(Debian GNU/Linux 12 \(bookworm\)\) is too old: 3\.11 or newer",
            id="Python too old",
        ),
    ],
)
def test_a_host_that_lacks_what_is_needed_is_not_touched_and_stops_those_that_need_it(
    lab: ModuleType,
    capsys: pytest.CaptureFixture[str],
    host: str,
    spoil: str,
    mend: str,
    message: str,
) -> None:
    root(lab, "client1", "rm /etc/profile.d/gearman.sh")  # something that is due elsewhere
    with spoilt(lab, host, spoil, mend):
        assert deployed(lab) == 3
        out = capsys.readouterr().out
    assert re.search(message, out)
    assert f"client1  not begun  because of {host}" in out
    assert "absent" in root(lab, "client1", "ls /etc/profile.d/gearman.sh || echo absent")
    assert deployed(lab) == 0
