"""What an operator can do: `./invoke --list`. Each task calls one function of the engine.

Exit statuses are those of provision/errors.py.
"""

import os
import subprocess
import sys
from collections.abc import Sequence

from invoke.collection import Collection
from invoke.context import Context

from provision import lab, local
from provision.cli import ROOT, command, inventory_folder
from provision.errors import ToolkitError
from roles import ROLES

LAB = ROOT / "inventory" / "lab"
HOSTS = {"hosts": "the inventory: a folder with hosts.yml, such as inventory/prod"}
LIMIT = {"limit": "only these hosts or groups, comma-separated; * matches, ! excludes"}
VERBOSE = {"verbose": "show each operation as the shell line it equals, and new files whole"}
YES = {"yes": "apply without asking"}

# What the tests talk to: other people's Gearman.
PEERS = {
    "/usr/sbin/gearmand": "gearman-job-server",
    "gearman": "gearman-tools",
    "php": "php-cli",
    "/usr/share/doc/php-gearman": "php-gearman",
    "/usr/share/doc/php-imagick": "php-imagick",
    "/usr/share/perl5/Gearman/Client.pm": "libgearman-client-perl",
    "strace": "strace",  # makes a disk fail
}
BENCHES = ("job_server", "libraries", "resize")
CHECKS = (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",))


@command(help=HOSTS | LIMIT | VERBOSE)
def plan(c: Context, hosts: str = "", limit: str = "", verbose: bool = False) -> int:
    """Show what a deploy would change; writes nothing. Exit status 2: changes are pending."""
    from provision import deploy as engine

    return engine.plan(inventory_folder(hosts), ROLES, limit=limit or None, verbose=verbose)


@command(help=HOSTS | LIMIT | YES | VERBOSE)
def deploy(
    c: Context, hosts: str = "", limit: str = "", yes: bool = False, verbose: bool = False
) -> int:
    """Make every host as its roles say: plan, ask, apply, verify."""
    from provision import deploy as engine

    folder = inventory_folder(hosts)
    return engine.deploy(folder, ROLES, limit=limit or None, yes=yes, verbose=verbose)


@command(help=HOSTS | LIMIT)
def status(c: Context, hosts: str = "", limit: str = "") -> int:
    """Show what runs where: releases, units, what a deploy would change."""
    from provision import status as standing

    return standing.status(inventory_folder(hosts), ROLES, limit=limit or None)


@command(help=HOSTS | {"patience": "seconds that each job may take (20)"})
def smoke(c: Context, hosts: str = "", patience: int = 20) -> int:
    """Submit wc, reverse and resize on the client host, as an ordinary user would."""
    from provision import smoke as end_to_end

    return end_to_end.smoke(inventory_folder(hosts), patience)


@command()
def demo(c: Context) -> int:
    """From nothing to a passing smoke test: lab.up, deploy, smoke."""
    from provision import deploy as engine
    from provision import smoke as end_to_end

    lab.up(print)
    return engine.deploy(LAB, ROLES, yes=True) or end_to_end.smoke(LAB)


@command(iterable=["only"], help={"only": "these tests alone: a path, or path::name (repeatable)"})
def test(c: Context, only: Sequence[str] = ()) -> int:
    """Run every check and every test: style, types, other people's Gearman, real hosts."""
    try:
        local.ensure(PEERS | lab.PROGRAMS | {"sudo": "sudo"}, print)
    except ToolkitError as error:
        if os.environ.get("CI") == "true":
            raise
        print(f"{error}; the tests that need them are skipped")
    checks = () if only else CHECKS
    failed = [check[0] for check in checks if _python("-m", *check)]
    if _python("-m", "pytest", *only):
        failed.append("pytest")
    if failed:
        print(f"invoke test: failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


@command(
    iterable=["row"],
    help={
        "what": "job_server (and C's), libraries (and pygearman, gear, pecl), resize (and PHP's)",
        "row": "only this row (repeatable), such as latency, single, worker",
    },
)
def bench(c: Context, what: str = "job_server", row: Sequence[str] = ()) -> int:
    """Compare our job server, libraries or resize with others', in turn (minutes)."""
    if what not in BENCHES:
        print(
            f"invoke bench: there is no {what!r}; there are {', '.join(BENCHES)}", file=sys.stderr
        )
        return 1
    local.ensure(PEERS, print)
    return _python("-m", f"tests.bench.{what}", *row)


@command(help={"workers": "how many worker hosts (1)"})
def lab_up(c: Context, workers: int = 1) -> None:
    """Boot three real systemd hosts on this machine (as root)."""
    lab.up(print, workers=workers)


@command()
def lab_down(c: Context) -> None:
    """Remove the lab's hosts, and all that they left on this machine."""
    lab.down(print)


@command()
def lab_status(c: Context) -> None:
    """Show the lab's hosts."""
    for row in lab.status():
        print(f"{row.host:10} {row.address:16} {row.group:12} {row.state}")


@command(positional=["host"], help={"host": "its name: client1, server1, worker1 ..."})
def lab_shell(c: Context, host: str = "") -> int:
    """Open a shell on one of the lab's hosts, as its deploy user."""
    return lab.shell(host)


def _python(*arguments: str) -> int:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, check=False).returncode


namespace = Collection(plan, deploy, status, smoke, demo, test, bench)
namespace.add_collection(
    Collection("lab", up=lab_up, down=lab_down, status=lab_status, shell=lab_shell)
)
