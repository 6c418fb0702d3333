"""What an operator can do: `./invoke --list`. Each task calls one function of the engine.

Here are those that compare hosts with their roles; the others are in provision/commands/tasks.py,
packages/tasks.py and tests/tasks.py, and the flags that they share in provision/cli.py. Exit
statuses are those of provision/errors.py.
"""

from pathlib import Path

from invoke.collection import Collection
from invoke.context import Context

from packages.tasks import package, release, site
from provision.cli import (
    HOSTS,
    LIMIT,
    OUTPUT,
    PART,
    RELEASE,
    ROLL,
    ROOT,
    YES,
    command,
    inventory_path,
)
from provision.commands.tasks import (
    facts,
    history,
    inventory,
    lab_down,
    lab_shell,
    lab_status,
    lab_up,
    lock,
    monitor_config,
    releases,
    run,
    smoke,
    trust,
    try_,
    web,
)
from provision.lab import lab
from provision.lab.hosts import INVENTORY as LAB
from provision.lab.hosts import first_three
from provision.options import BATCH, HOSTS_AT_ONCE, SETTLE, Options
from roles import RETIRED, ROLES
from tests.tasks import bench, fuzz, reliability, test


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


@command(help=HOSTS | PART | OUTPUT | RELEASE | YES | {"check": "the same as ./invoke plan"})
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
    settle: float = SETTLE,
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
    settle: float = SETTLE,
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
        server = next(each.address for each in first_three() if each.group == "job_server")
        print("it works. Submit a job, look around, see the dashboard, and end it:")
        print(f"  .venv/bin/gearman -h {server} -f wc < /etc/passwd")
        print(f"  ./invoke status --hosts {where}")
        print(f"  ./invoke web --hosts {where}")
        print("  ./invoke lab.down")
    return status


ON_HOSTS = (trust, plan, deploy, upgrade, rollback, drain, undrain, retire, smoke)
LOOKING = (inventory, status, check, doctor, facts, logs, run, history, releases)
WATCHING = (monitor_config, web)
OWN_APPS = (try_, lock)
THIS_PROJECT = (demo, test, bench, reliability, fuzz, site, package, release)
namespace = Collection(*ON_HOSTS, *LOOKING, *WATCHING, *OWN_APPS, *THIS_PROJECT)
namespace.add_collection(
    Collection("lab", up=lab_up, down=lab_down, status=lab_status, shell=lab_shell)
)
