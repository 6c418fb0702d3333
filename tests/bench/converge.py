"""A deploy beside those of Ansible and pyinfra, to the same hosts, in turn, in one run.

    .venv/bin/python -m tests.bench.converge [ROW...]      (as root: it boots the lab)

All rows take most of an hour; $ROUNDS is for who has less time.

`noop` is a deploy to hosts that are as wanted, `first` one to hosts that bear no trace of Gearman;
then the number of hosts, and a round trip to each that is so long. All start cold: a new process,
no connection left over. Ansible has pipelining, a fork for each host, ControlPersist, gathers no
facts, and is told where Python is. Medians of the rounds: seconds, CPU seconds of this side, and of
each host connections, channels and sudos (from the hosts' logs) and round trips (those of SSH's
handshake too; counted where there is a delay).
"""

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

from provision.fleet import deploy as engine
from provision.inventory import load as inventory
from provision.lab import lab
from provision.options import Options
from roles import ROLES
from tests.bench.converge_peers import SSH, write_inventories, write_work
from tests.bench.delay import Trips, delayed

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".cache" / "bench-converge"
PACKAGES = ("ansible-core==2.19.14", "pyinfra==3.10.0")
PATIENCE = 1200  # seconds
OTHERS = 2  # hosts of the lab that are no workers
UNITS = "gearmand.socket gearmand.service"
WORKERS = " ".join(f"gearman-worker@{each}.service" for each in ("reverse", "resize", "wc"))
BARE = f"""
systemctl disable --now {UNITS} {WORKERS}
rm -rf /opt/gearman /etc/systemd/system/gearman* /usr/local/bin/gear* /etc/profile.d/gearman.sh
rm -rf /var/lib/gearmand /var/lib/gearman-deploy
userdel gearman; groupdel gearman
systemctl daemon-reload; systemctl reset-failed; sync
"""
RUNNING = {"server": f"systemctl is-active {UNITS}", "worker": f"systemctl is-active {WORKERS}"}


class Row(NamedTuple):
    """What is compared; the round trip is in seconds."""

    first: bool
    hosts: int
    round_trip: float
    rounds: int


ROWS = {
    "noop-3": Row(False, 3, 0.0, 1),
    "noop-3-50ms": Row(False, 3, 0.05, 3),
    "first-3": Row(True, 3, 0.0, 3),
    "first-3-50ms": Row(True, 3, 0.05, 1),
    "noop-20": Row(False, 20, 0.0, 3),
    "noop-20-50ms": Row(False, 20, 0.05, 3),
    "first-20": Row(True, 20, 0.0, 1),
    "first-20-50ms": Row(True, 20, 0.05, 1),
}


class Cost(NamedTuple):
    """Of one deploy: seconds, CPU seconds of this side, and of a host on average the rest."""

    wall: float
    cpu: float
    connections: float
    channels: float
    sudos: float
    trips: float


class Contender(NamedTuple):
    """A command, and the pattern of what it says when it changed nothing."""

    command: Sequence[str]
    nothing: str


def contenders(folder: Path, hosts: int) -> dict[str, Contender]:
    ours = (
        f"{sys.executable} -m invoke --search-root {ROOT} deploy --yes --hosts {folder}/inventory"
    )
    ansible = f"{PEERS}/bin/ansible-playbook -i inventory/hosts.yml -e @told.json site.yml"
    pyinfra = f"{PEERS}/bin/pyinfra -y inventory.py deploy.py"
    return {
        "ours": Contender([*ours.split(), "--parallel", str(hosts)], r"\d+ ok; nothing to change"),
        "ansible": Contender(ansible.split(), r"PLAY RECAP(?!.*(changed|failed)=[1-9])"),
        "pyinfra": Contender(pyinfra.split(), r"Grand total +\d+ +- +- +\d+ "),
    }


def settings(folder: Path, hosts: int) -> Mapping[str, str]:
    """The environment of all: Ansible's settings are in it."""
    ansible = {
        "PIPELINING": "True",
        "FORKS": str(hosts),
        "HOST_KEY_CHECKING": "True",
        "PYTHON_INTERPRETER": "/usr/bin/python3",
        "SSH_COMMON_ARGS": f"-F none -o UserKnownHostsFile={folder}/inventory/known_hosts",
        "SSH_CONTROL_PATH_DIR": str(folder / "control"),
        "HOME": str(folder / "ansible"),
    }
    prefixed = {f"ANSIBLE_{key}": value for key, value in ansible.items()}
    return os.environ | prefixed | {"PYTHONPATH": str(ROOT), "COLUMNS": "160"}


def peers() -> None:
    """Put Ansible and pyinfra into an environment of their own, once."""
    if not (PEERS / "bin" / "made").exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
        subprocess.run([f"{PEERS}/bin/pip", "install", "-q", *PACKAGES], check=True)
        (PEERS / "bin" / "made").touch()


@contextmanager
def far_away(folder: Path, round_trip: float) -> Iterator[Trips]:
    """The lab's hosts, so far away, as inventories for all three in ``folder``."""
    near = {host.name: (host.address, SSH) for host in inventory.load(lab.INVENTORY).hosts}
    if not round_trip:
        write_inventories(folder, near)
        yield Trips()
        return
    with delayed(list(near.values()), round_trip) as (ports, trips):
        far = [("127.0.0.1", port) for port in ports]
        write_inventories(folder, dict(zip(near, far, strict=True)))
        yield trips


def make_bare(hosts: Sequence[str]) -> None:
    for host in hosts:
        lab.run(host, ["sh", "-c", BARE])


def counted(hosts: Sequence[str]) -> list[int]:
    """Connections, channels and sudos that the hosts have seen together."""
    sshd = "\n".join(line for host in hosts for line in lab.journal(host))
    sudo = "\n".join(line for host in hosts for line in lab.journal(host, "-t", "sudo"))
    channels = sshd.count("server_input_channel_open: ctype session")
    return [sshd.count("Connection from"), channels, sudo.count("COMMAND=")]


def deploy(folder: Path, name: str, row: Row, hosts: Sequence[str], trips: Trips) -> Cost:
    """One deploy by a contender, which must have done what it is there for."""
    contender = contenders(folder, len(hosts))[name]
    if row.first:
        make_bare(hosts)
    seen, turned = counted(hosts), trips.count
    used, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with (folder / "said").open("w") as said:  # a pipe would be held open by ControlPersist
        done = subprocess.run(
            contender.command,
            cwd=folder,
            env=settings(folder, len(hosts)),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            check=False,
        )
    wall, now = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    out = (folder / "said").read_text()
    nothing = re.search(contender.nothing, out, re.DOTALL) is not None
    if done.returncode or nothing is row.first:
        raise SystemExit(f"{name}: status {done.returncode}\n{out[-3000:]}")
    if row.first:
        for host, units in RUNNING.items():
            if (up := lab.run(f"{host}1", units.split())).returncode:
                raise SystemExit(f"{name}: {host}1: {up.stdout}\n{out[-3000:]}")
    for path in (folder / "control").glob("*"):
        subprocess.run(
            ["ssh", "-O", "exit", "-S", str(path), "host"], capture_output=True, check=False
        )
    counts = [after - before for after, before in zip(counted(hosts), seen, strict=True)]
    cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    each = [count / len(hosts) for count in (*counts, trips.count - turned)]
    return Cost(wall, cpu, *each)


def measure(row: Row, folder: Path) -> dict[str, Cost]:
    """Every contender's median cost, in turn. The lab is up; its hosts are as wanted."""
    hosts = [host.name for host in inventory.load(lab.INVENTORY).hosts]
    found: dict[str, list[Cost]] = {name: [] for name in contenders(folder, 0)}
    with far_away(folder, row.round_trip) as trips:
        write_work(folder)
        for _ in range(int(os.environ.get("ROUNDS", row.rounds))):
            for name, costs in found.items():
                costs.append(deploy(folder, name, row, hosts, trips))
        if row.first:  # what a peer left is no release of ours
            make_bare(hosts)
    return {name: Cost(*map(median, zip(*costs, strict=True))) for name, costs in found.items()}


def show(row: str, costs: Mapping[str, Cost]) -> None:
    ours = costs["ours"]
    for name, cost in costs.items():
        line = (
            f"{row:13} {name:8} {cost.wall:7.2f} s {cost.cpu:6.2f} s CPU, a host: "
            f"{cost.connections:3.1f} connections {cost.channels:5.1f} channels "
            f"{cost.sudos:5.1f} sudos"
        )
        trips = f" {cost.trips:6.1f} trips" * bool(cost.trips)
        ratio = f"   ours: {cost.wall / ours.wall:4.1f} x" * (name != "ours")
        print(line + trips + ratio, flush=True)


def growth(costs: Mapping[str, Mapping[str, Cost]]) -> None:
    """What more hosts and a longer way cost each."""
    for first in ("noop", "first"):
        for other in ("20", "3-50ms", "20-50ms"):
            base, more = costs.get(f"{first}-3"), costs.get(f"{first}-{other}")
            if base and more:
                ratios = (f"{name} {more[name].wall / base[name].wall:.1f} x" for name in base)
                print(f"{first}-3 -> {first}-{other}: {', '.join(ratios)}")


def main(rows: list[str]) -> int:
    """Measure the rows named, or all."""
    if unknown := [row for row in rows if row not in ROWS]:
        print(f"there is no row {unknown[0]!r}; there are {', '.join(ROWS)}", file=sys.stderr)
        return 2
    peers()
    costs = {}
    try:
        for name in rows or ROWS:
            row = ROWS[name]
            lab.up(print, workers=row.hosts - OTHERS)
            if engine.deploy(lab.INVENTORY, ROLES, Options(yes=True)):
                return 1
            with tempfile.TemporaryDirectory(prefix="bench-converge-") as folder:
                costs[name] = measure(row, Path(folder))
            show(name, costs[name])
    finally:
        lab.down(print)
    growth(costs)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
