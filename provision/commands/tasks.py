"""Tasks that need no roles: what hosts are and say, own apps, the lab.

Those that compare hosts with their roles are in tasks.py.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from invoke.context import Context

from gearman_py.printable import printable
from provision.cli import HOSTS, LIMIT, OUTPUT, PART, YES, command, inventory_path
from provision.lab import lab
from provision.lab.base import SUITES
from provision.lab.mirror import OFFERED
from provision.options import HOSTS_AT_ONCE, Options

WEB_PORT = 4780


@command(help=HOSTS | LIMIT | {"json": OUTPUT["json"]})
def history(c: Context, hosts: str = "", limit: str = "", json: bool = False) -> int:
    """Show who deployed what, when, and how it went, as the hosts remember it."""
    from provision.commands import history as past

    return past.history(inventory_path(hosts), Options(limit=limit or None, json=json))


@command(help=HOSTS | LIMIT | {"json": OUTPUT["json"]})
def releases(c: Context, hosts: str = "", limit: str = "", json: bool = False) -> int:
    """Show the releases that hosts keep: which run, which are bad."""
    from provision.commands import history as past

    return past.releases(inventory_path(hosts), Options(limit=limit or None, json=json))


@command(help=HOSTS | LIMIT | {"json": "a line of JSON for each host"})
def inventory(c: Context, hosts: str = "", limit: str = "", json: bool = False) -> None:
    """Show groups, hosts and variables as they were understood, and where each stands."""
    from provision.commands import show_inventory as listing

    for line in listing.inventory_lines(
        inventory_path(hosts), Options(limit=limit or None, json=json)
    ):
        print(printable(line))


@command(
    help=HOSTS
    | LIMIT
    | {"yes": YES["yes"]}
    | {"replace": "hosts that were reinstalled, comma-separated"}
)
def trust(
    c: Context, hosts: str = "", limit: str = "", replace: str = "", yes: bool = False
) -> int:
    """Show the hosts' keys, ask, and record them in the inventory's known_hosts."""
    from provision.commands import trust as keys

    return keys.trust(inventory_path(hosts), Options(limit=limit or None, yes=yes), replace)


@command(help=HOSTS | LIMIT | {"json": OUTPUT["json"]})
def facts(c: Context, hosts: str = "", limit: str = "", json: bool = False) -> int:
    """Show what the hosts are: system, size, clock, addresses, release."""
    from provision.commands import facts as looking

    return looking.facts(inventory_path(hosts), Options(limit=limit or None, json=json))


@command(help=HOSTS | {"to": "the folder to write to"})
def monitor_config(c: Context, hosts: str = "", to: str = "prometheus") -> None:
    """Write what a Prometheus needs to watch the job servers: targets, rules, certificate."""
    from provision.commands import monitor_config as config

    print(config.write_config(inventory_path(hosts), Path(to)))


@command(
    help=HOSTS
    | LIMIT
    | {
        "port": f"where the page is on this machine ({WEB_PORT})",
        "history": "keep 8 days of history in this file (in memory)",
        "operate": "steer too, by the admin sockets through sudo; the page is for who has its link",
    }
)
def web(
    c: Context,
    hosts: str = "",
    limit: str = "",
    port: int = WEB_PORT,
    history: str = "",
    operate: bool = False,
) -> int:
    """Show the job servers on a web page of this machine, asked through SSH."""
    from provision.commands import web as dashboard

    options = Options(limit=limit or None)
    folder = inventory_path(hosts)
    return dashboard.show(folder, options, port, history, print, operate=operate)


@command(
    help=HOSTS
    | LIMIT
    | {
        "root": "as root",
        "shell": "by a shell there: pipes, globs, variables",
        "seconds": "how long it may take (3600)",
        "parallel": PART["parallel"],
        "json": OUTPUT["json"],
    }
)
def run(
    c: Context,
    hosts: str = "",
    limit: str = "",
    root: bool = False,
    shell: bool = False,
    seconds: float = 3600.0,
    parallel: int = HOSTS_AT_ONCE,
    json: bool = False,
) -> int:
    """Run a command on many hosts: ./invoke run --hosts ... -- COMMAND."""
    from provision.commands import run as running

    words = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
    options = Options(limit=limit or None, json=json, parallel=parallel)
    how = running.RunOptions(root=root, shell=shell, seconds=seconds)
    return running.run(inventory_path(hosts), options, words, how)


@command(help=HOSTS | LIMIT | {"patience": "seconds that each job may take (20)"})
def smoke(c: Context, hosts: str = "", limit: str = "", patience: int = 20) -> int:
    """Submit a job for each worker on the client host, as an ordinary user would."""
    from provision.commands import smoke as end_to_end

    return end_to_end.smoke(inventory_path(hosts), patience, limit=limit or None)


@command(help=HOSTS | {"app": "an app of gearman_apps"}, name="try")
def try_(c: Context, app: str, hosts: str = "") -> int:
    """Build an app's release here, and run its workers against a job server of their own."""
    from provision.commands import try_app as trying

    return trying.try_app(inventory_path(hosts), app, print)


@command(
    help={
        "app": "an app of gearman_apps that is a Python project",
        "hosts": HOSTS["hosts"],
        "upgrade": "take the newest versions, and not those that the lock names already",
    }
)
def lock(c: Context, app: str, hosts: str = "", upgrade: bool = False) -> None:
    """Write the lock of an app's Python dependencies, with hashes; asks no host."""
    from provision.commands import lock as locking

    locking.lock(inventory_path(hosts), app, print, upgrade=upgrade)


@command(
    iterable=["suite"],
    help={
        "workers": "how many worker hosts (1)",
        "suite": f"{', '.join(SUITES)} for all hosts, or HOST=SUITE for one (repeatable)",
        "packages": f"Debian packages that hosts can install, beside {', '.join(OFFERED)}",
    },
)
def lab_up(
    c: Context, workers: int = 1, suite: Sequence[str] | None = None, packages: str = ""
) -> None:
    """Boot three real systemd hosts on this machine (as root)."""
    pairs = (each.rpartition("=") for each in suite or ())
    suites = {host or "all": name for host, _, name in pairs}
    lab.up(print, workers, suites, packages.replace(",", " ").split())


@command()
def lab_down(c: Context) -> None:
    """Remove the lab's hosts, and all that they left on this machine."""
    lab.down(print)


@command()
def lab_status(c: Context) -> None:
    """Show the lab's hosts."""
    for row in lab.status():
        print(f"{row.host:10} {row.address:16} {row.group:12} {row.suite:10} {row.state}")


@command(help={"host": "its name: client1, server1, worker1 ..."})
def lab_shell(c: Context, host: str) -> int:
    """Open a shell on one of the lab's hosts, as its deploy user."""
    return lab.shell(host)
