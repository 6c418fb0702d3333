"""What an operator can do: `./invoke --list`. Each task calls one function of the engine.

Exit statuses are those of provision/errors.py.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from invoke.collection import Collection
from invoke.context import Context

from gearman_py.printable import printable
from provision.cli import ROOT, command, inventory_path
from provision.errors import ToolkitError
from provision.lab import lab
from provision.lab import programs as local
from provision.lab.base import SUITES
from provision.lab.hosts import INVENTORY as LAB
from provision.lab.mirror import OFFERED
from provision.options import BATCH, HOSTS_AT_ONCE, Options
from roles import RETIRED, ROLES

HOSTS = {"hosts": "the inventory: a folder such as inventory/prod, a file, or - for standard input"}
LIMIT = {"limit": "only these hosts or groups, comma-separated; * matches, ! excludes"}
PART = LIMIT | {
    "tags": "only resources of these roles or kinds, such as worker, unit, file; comma-separated",
    "parallel": f"how many hosts at once ({HOSTS_AT_ONCE})",
}
OUTPUT = {
    "verbose": "show each operation as the shell line it equals, and new files whole",
    "json": "tell what happens as lines of JSON on stdout",
}
RELEASE = {
    "release": "this one, also of an app; tree: those made of this tree and apps (what a host runs)"
}
YES = {
    "yes": "apply without asking",
    "wait": "seconds to wait for hosts that another run has locked (0)",
}

ROLL = {
    **{key: value for key, value in PART.items() if key != "tags"},
    **OUTPUT,
    **YES,
    "batch": f"how many hosts at once after the first: 1, or a share of their group ({BATCH})",
    "max_fail": "how many hosts may fail before all are put back (0)",
    "settle": "seconds that a unit must stay up (2)",
    "gap": "a function may be without a worker for a moment",
    "again": "also a release that was given up before",
    "app": "this app of gearman_apps with its workers; all else stays as it is",
}

# What the tests talk to: other people's Gearman.
PEERS = {
    "/usr/sbin/gearmand": "gearman-job-server",
    "/usr/bin/gearmand": "gearman-server",
    "gearman": "gearman-tools",
    "php": "php-cli",
    "/usr/share/doc/php-gearman": "php-gearman",
    "/usr/share/doc/php-imagick": "php-imagick",
    "/usr/share/perl5/Gearman/Client.pm": "libgearman-client-perl",
    "/usr/share/perl5/Gearman/Server.pm": "gearman-server",
    "strace": "strace",  # makes a disk fail
    "faketime": "faketime",  # sets a server's clock
    "promtool": "prometheus",  # reads our metrics
    "prometheus-alertmanager": "prometheus-alertmanager",
    "chromium": "chromium",  # looks at the dashboard
    "/usr/lib/postgresql": "postgresql",
    "redis-server": "redis-server",
    "/usr/sbin/mariadbd": "mariadb-server",
    "memcached": "memcached",
    "man": "man-db",
    "zsh": "zsh",
    "fish": "fish",
    "lintian": "lintian",
    "rpmlint": "rpmlint",
    "gpg": "gpg",
}
WEB_PORT = 4780
BENCHES = (
    "job_server",
    "instructions",
    "libraries",
    "resize",
    "converge",
    "shared_queue",
    "steering",
)
# More processes than cores: most tests wait for another process. Each takes 5 s to collect them.
SIDE_BY_SIDE = ("--numprocesses", "4", "--dist", "loadgroup", "--no-loadscope-reorder")
FAST = (
    *("-m", "not lab and not interop and not slow", "--hypothesis-profile", "fast"),
    *("--numprocesses", "3"),  # few of these wait
)
WITHOUT_FOLDERS = ("--ignore=tests/lab", "--ignore=tests/interop")  # not even read
TESTS_FAILED = 1  # pytest's status when all ran and some failed
RUN_AGAIN_AT_MOST = 3  # files with failed tests
CHECKS = (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",))


@command(help=HOSTS | PART | OUTPUT | RELEASE)
def plan(
    c: Context,
    hosts: str = "",
    limit: str = "",
    tags: str = "",
    parallel: int = HOSTS_AT_ONCE,
    release: str = "",
    verbose: bool = False,
    json: bool = False,
) -> int:
    """Show what a deploy would change; writes nothing. Exit status 2: changes are pending."""
    from provision.fleet import deploy as engine

    return engine.plan(
        inventory_path(hosts),
        ROLES,
        Options(limit=limit or None, tags=tags, verbose=verbose, json=json, parallel=parallel),
        release=release,
    )


@command(help=HOSTS | PART | OUTPUT | RELEASE | YES | {"check": "the same as invoke plan"})
def deploy(
    c: Context,
    hosts: str = "",
    limit: str = "",
    tags: str = "",
    parallel: int = HOSTS_AT_ONCE,
    release: str = "",
    yes: bool = False,
    wait: float = 0.0,
    check: bool = False,
    verbose: bool = False,
    json: bool = False,
) -> int:
    """Make every host as its roles say: plan, ask, apply, verify."""
    from provision.fleet import deploy as engine

    options = Options(
        limit=limit or None,
        tags=tags,
        yes=yes,
        wait=wait,
        verbose=verbose,
        json=json,
        parallel=parallel,
    )
    act = engine.plan if check else engine.deploy
    return act(inventory_path(hosts), ROLES, options, release=release)


@command(help=HOSTS | ROLL | {"release": "this one, which the hosts or this machine have"})
def upgrade(
    c: Context,
    hosts: str = "",
    release: str = "",
    app: str = "",
    limit: str = "",
    batch: str = BATCH,
    max_fail: int = 0,
    settle: float = 2.0,
    gap: bool = False,
    again: bool = False,
    parallel: int = HOSTS_AT_ONCE,
    yes: bool = False,
    wait: float = 0.0,
    verbose: bool = False,
    json: bool = False,
) -> int:
    """Bring hosts to this tree's release, or an app's, and back if it does not work."""
    from provision.fleet.rollout import roll_out
    from provision.fleet.rollout_policy import RolloutPolicy

    options = Options(
        limit=limit or None,
        yes=yes,
        wait=wait,
        verbose=verbose,
        json=json,
        parallel=parallel,
        again=again,
    )
    policy = RolloutPolicy(batch=batch, max_fail=max_fail, settle=settle, gap=gap)
    return roll_out(inventory_path(hosts), ROLES, options, policy, to=release or None, app=app)


@command(help=HOSTS | ROLL | {"to": "this release (the one before)"})
def rollback(
    c: Context,
    hosts: str = "",
    to: str = "",
    app: str = "",
    limit: str = "",
    batch: str = BATCH,
    max_fail: int = 0,
    settle: float = 2.0,
    gap: bool = False,
    again: bool = False,
    parallel: int = HOSTS_AT_ONCE,
    yes: bool = False,
    wait: float = 0.0,
    verbose: bool = False,
    json: bool = False,
) -> int:
    """Bring hosts back to the release they ran before, or to any that they keep."""
    from provision.fleet.rollout import roll_out
    from provision.fleet.rollout_policy import RolloutPolicy

    options = Options(
        limit=limit or None,
        yes=yes,
        wait=wait,
        verbose=verbose,
        json=json,
        parallel=parallel,
        again=again,
    )
    policy = RolloutPolicy(batch=batch, max_fail=max_fail, settle=settle, gap=gap)
    return roll_out(
        inventory_path(hosts), ROLES, options, policy, to=to or None, back=True, app=app
    )


@command(help=HOSTS | OUTPUT | YES | {"names": "the hosts of job servers, comma-separated"})
def drain(
    c: Context,
    names: str,
    hosts: str = "",
    yes: bool = False,
    wait: float = 0.0,
    verbose: bool = False,
    json: bool = False,
) -> int:
    """Have a job server give its jobs to the others and stop, until undrain."""
    from provision.fleet import drain as engine

    options = Options(yes=yes, wait=wait, verbose=verbose, json=json)
    return engine.drain(inventory_path(hosts), ROLES, options, names)


@command(help=HOSTS | OUTPUT | YES | {"names": "the hosts of job servers, comma-separated"})
def undrain(
    c: Context,
    names: str,
    hosts: str = "",
    yes: bool = False,
    wait: float = 0.0,
    verbose: bool = False,
    json: bool = False,
) -> int:
    """Start a job server that was drained."""
    from provision.fleet import drain as engine

    options = Options(yes=yes, wait=wait, verbose=verbose, json=json)
    return engine.drain(inventory_path(hosts), ROLES, options, names, back=True)


@command(
    help=HOSTS
    | OUTPUT
    | YES
    | {"names": "the hosts that leave, comma-separated", "parallel": PART["parallel"]}
)
def retire(
    c: Context,
    names: str,
    hosts: str = "",
    parallel: int = HOSTS_AT_ONCE,
    yes: bool = False,
    wait: float = 0.0,
    verbose: bool = False,
    json: bool = False,
) -> int:
    """Drain hosts and remove all of ours there, before they leave the inventory."""
    from provision.fleet import retire as engine

    options = Options(yes=yes, wait=wait, verbose=verbose, json=json, parallel=parallel)
    return engine.retire(inventory_path(hosts), RETIRED, options, names)


@command(help=HOSTS | LIMIT | {"json": OUTPUT["json"]})
def status(c: Context, hosts: str = "", limit: str = "", json: bool = False) -> int:
    """Show what runs where: releases, units, what a deploy would change."""
    from provision.commands import status as standing

    return standing.status(inventory_path(hosts), ROLES, Options(limit=limit or None, json=json))


@command(help=HOSTS | LIMIT | {"textfile": "also write metrics to FOLDER/NAME.prom"})
def check(c: Context, hosts: str = "", limit: str = "", textfile: str = "") -> int:
    """Tell in a line whether all is as wanted, as a plugin of Nagios, Icinga and Naemon does."""
    from provision.commands import check as plugin

    options = Options(limit=limit or None, quiet=True)
    to = Path(textfile) if textfile else None
    status, line = plugin.check(hosts, ROLES, options, textfile=to)
    print(line)
    return status


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
    help=HOSTS | LIMIT | {"json": OUTPUT["json"], "problems": "only what is wrong, and the counts"}
)
def doctor(
    c: Context, hosts: str = "", limit: str = "", problems: bool = False, json: bool = False
) -> int:
    """Show why it is not working: all that is known to go wrong, looked at, with its cure."""
    from provision.doctor import doctor as examination

    options = Options(limit=limit or None, json=json)
    return examination.doctor(inventory_path(hosts), ROLES, options, problems=problems)


@command(
    help=HOSTS
    | LIMIT
    | {
        "name": "a host, a group, gearmand, a function or a unit; or all",
        "follow": "go on with what is said from now on",
        "lines": "how many of each host (50)",
        "since": "not what is older, as `-1h`, `today`, `2026-11-23 14:00`",
        "json": OUTPUT["json"],
    },
)
def logs(
    c: Context,
    name: str,
    hosts: str = "",
    limit: str = "",
    follow: bool = False,
    lines: int = 50,
    since: str = "",
    json: bool = False,
) -> int:
    """Show what the units say, of one host or of all, in the order of time."""
    from provision.commands import logs as journal

    wanted = journal.LogQuery(lines=lines, since=since, follow=follow)
    options = Options(limit=limit or None, json=json)
    return journal.logs(inventory_path(hosts), ROLES, options, name, wanted)


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
    """Run a command on many hosts: invoke run --hosts ... -- COMMAND."""
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


@command(help={"local": "without hosts: the same three parts on this machine (needs no root)"})
def demo(c: Context, local: bool = False) -> int:
    """From nothing to a passing smoke test: lab.up, deploy, smoke."""
    from provision.commands import local_demo
    from provision.commands import smoke as end_to_end
    from provision.fleet import deploy as engine

    if not local and (why := lab.obstacle()):
        print(f"the lab cannot run here: {why}; the same three parts, on this machine:")
        local = True
    if local:
        return local_demo.demo(print)
    lab.up(print)
    status = engine.deploy(LAB, ROLES, Options(yes=True)) or end_to_end.smoke(LAB)
    if not status:
        where = LAB.relative_to(ROOT)
        print(f"it works. Look around: invoke status --hosts {where}; and lab.down ends it")
    return status


@command(help={"to": "the folder that it is put into (build/site)"})
def site(c: Context, to: str = "build/site") -> int:
    """Build the documentation site from docs/; a broken link in a page is an error."""
    status = _python("-m", "sphinx", "-q", "-E", "-W", "--keep-going", "docs", to)
    if not status:
        print(f"{to}/index.html")
    return status


@command(
    iterable=["format"],
    help={
        "dist": "the folder that they are put into (dist)",
        "format": "deb or rpm, beside sdist and wheel (repeatable; both where they can be built)",
    },
)
def package(c: Context, dist: str = "dist", format: Sequence[str] | None = None) -> None:
    """Build the last commit's packages, sdist and wheel: the same bytes every time."""
    from packages.build import build_packages

    build_packages(ROOT / dist, print, formats=_formats(format))


@command(
    help={
        "dist": "the folder that the files are put into (dist)",
        "key": "the OpenPGP key that signs (gpg's default key)",
    }
)
def release(c: Context, dist: str = "dist", key: str = "") -> None:
    """Build, check, sign and tag the version that the changelog begins with."""
    from packages.release import make_release

    make_release(ROOT / dist, print, key=key, formats=_formats())


def _formats(asked: Sequence[str] | None = None) -> list[str]:
    """Those asked for, or that can be built on this machine."""
    from packages.build import PACKAGERS

    if unknown := sorted({*(asked or ())} - {*PACKAGERS}):
        raise ToolkitError(f"unknown format {unknown[0]!r}; expected {' or '.join(PACKAGERS)}")
    usable = []
    for name in asked or PACKAGERS:
        try:
            local.ensure(PACKAGERS[name], print)
        except ToolkitError as error:
            if asked:
                raise
            print(f"{error}; the {name} is left out")
        else:
            usable.append(name)
    return usable


@command(
    iterable=["only"],
    help={
        "only": "these tests alone: a path, or path::name (repeatable)",
        "fast": "in a minute or so: no lab, no peers, nothing slow, few examples of a property",
        "python": "on 3.12, 3.13 or 3.14, as root: only what needs no lab, no peers and no checks",
    },
)
def test(
    c: Context, only: Sequence[str] | None = None, fast: bool = False, python: str = ""
) -> int:
    """Run every check and every test: style, types, other people's Gearman, real hosts."""
    if python:
        flag = ("--fast",) if fast else ()
        return _python("-m", "tests.pythons", python, *flag, *(only or ()))
    from packages.accelerator import PROGRAMS as COMPILER
    from packages.build import PACKAGERS

    try:
        if not fast:
            builders = PACKAGERS["deb"] | PACKAGERS["rpm"] | COMPILER
            local.ensure(PEERS | builders | lab.PROGRAMS | {"sudo": "sudo"}, print)
    except ToolkitError as error:
        if os.environ.get("CI") == "true":
            raise
        print(f"{error}; the tests that need them are skipped")
    options = () if only else (*SIDE_BY_SIDE, "--cache-clear")
    if fast:
        options += (*FAST, *(() if only else WITHOUT_FOLDERS))
    with ExitStack() as stack:
        checks = [
            (check[0], stack.enter_context(_start_python("-m", *check)))
            for check in (() if only else CHECKS)
        ]
        if not only and not fast:  # compile the tests once, or each process would do it
            _python("-m", "pytest", "--collect-only", "--quiet", output=subprocess.DEVNULL)
        status = _python("-m", "pytest", *options, *(only or ()))
        if status == TESTS_FAILED and not only and not fast:
            status = _run_failed_again()
        failed = [name for name, check in checks if check.wait()]
    if status:
        failed.append("pytest")
    if failed:
        print(f"invoke test: failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


@command(
    iterable=["row"],
    help={
        "what": "job_server (and C's), instructions (by valgrind), libraries (and "
        "pygearman, gear, pecl), resize (and PHP's), converge (and Ansible, pyinfra), "
        "steering (ours with and without)",
        "row": "only this row (repeatable), such as latency, single, worker",
    },
)
def bench(c: Context, what: str = "job_server", row: Sequence[str] | None = None) -> int:
    """Compare our job server, libraries or resize with others', in turn (minutes)."""
    if what not in BENCHES:
        print(
            f"invoke bench: unknown benchmark {what!r}; expected one of {', '.join(BENCHES)}",
            file=sys.stderr,
        )
        return 1
    local.ensure(PEERS, print)
    return _python("-m", f"tests.bench.{what}", *(row or ()))


@command(
    iterable=["row"],
    help={"row": "only this row of docs/reliability.md (repeatable), such as kill, clock, cut"},
)
def reliability(c: Context, row: Sequence[str] | None = None) -> int:
    """Break the job server in every known way, and count (as root, half an hour)."""
    local.ensure(PEERS, print)
    return _python("-m", "tests.reliability", *(row or ()))


@command(
    iterable=["target"],
    help={
        "target": "only this one (repeatable), such as codec, server, inventory, resize",
        "seconds": "for each (60)",
    },
)
def fuzz(c: Context, target: Sequence[str] | None = None, seconds: int = 60) -> int:
    """Look for input that breaks the server, the bundled functions or the inventory's reader."""
    os.environ["SECONDS"] = str(seconds)
    return _python("-m", "tests.fuzz", *(target or ()))


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


def _run_failed_again() -> int:
    """Run the files of the tests that failed once more, alone, as CPython's regrtest does.

    Four processes on two cores delay each other by seconds. What fails alone too is a fault; what
    passes is named, since it tells of a test or of a program that cannot bear a busy machine.
    """
    failed = json.loads((ROOT / ".pytest_cache/v/cache/lastfailed").read_text())
    files = sorted({name.partition("::")[0] for name in failed})
    if len(files) > RUN_AGAIN_AT_MOST:
        return TESTS_FAILED
    print(f"invoke test: running again, alone: {' '.join(files)}", file=sys.stderr)
    status = _python("-m", "pytest", *files)
    if not status:
        print(f"invoke test: passed only alone: {' '.join(sorted(failed))}", file=sys.stderr)
    return status


def _python(*arguments: str, output: int | None = None) -> int:
    with _start_python(*arguments, output=output) as process:
        return process.wait()


def _start_python(*arguments: str, output: int | None = None) -> subprocess.Popen[bytes]:
    # Tests start hundreds of processes: without bytecode each would compile our modules again.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)


ON_HOSTS = (trust, plan, deploy, upgrade, rollback, drain, undrain, retire, smoke)
LOOKING = (inventory, status, check, doctor, facts, logs, run, history, releases)
WATCHING = (monitor_config, web)
OWN_APPS = (try_, lock)
THIS_PROJECT = (demo, test, bench, reliability, fuzz, site, package, release)
namespace = Collection(*ON_HOSTS, *LOOKING, *WATCHING, *OWN_APPS, *THIS_PROJECT)
namespace.add_collection(
    Collection("lab", up=lab_up, down=lab_down, status=lab_status, shell=lab_shell)
)
