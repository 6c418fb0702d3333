"""What deploys put on a host, and nothing there needs any more: drained, stopped, removed."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from provision.inventory.host import Host, Inventory
from provision.inventory.schedules import ADMIN_SOCKET
from provision.release.app import apps_of
from provision.release.app_source import APPS
from provision.release.build import Artifact
from provision.resources.account import FormerAccount, FormerGroup, UnneededAccount
from provision.resources.base import Resource
from provision.resources.dashboard import DEPLOYS_FOLDER, FormerHistory
from provision.resources.former_apps import FormerApps
from provision.resources.former_files import FormerFiles, FormerInstallation
from provision.resources.former_units import FormerServer, FormerUnits
from provision.resources.unit import FOLDER, WORKER_UNITS
from roles.client import client
from roles.dashboard import HISTORY, dashboard
from roles.dashboard import USER as DASHBOARD_USER
from roles.job_server import SOCKET, UNIT, job_server
from roles.runtime import ROOT, SERVER_USER, WORKER_USER
from roles.servers import QUEUE_FOLDER, move_command, reached
from roles.tls import PAIR, READERS, readers
from roles.worker import worker

ROLES_OF_GROUPS = {
    "job_server": job_server,
    "worker": worker,
    "client": client,
    "dashboard": dashboard,
}
DASHBOARD_UNITS = "gearman-web.*"
FIREWALL_UNITS = "gearman-firewall.*"
SERVER_UNITS = "gearmand.*"
PLACES = (
    *("/etc/gearman", "/etc/gearman/*", "/etc/gearman/tls/*", "/etc/gearman/secrets/*"),
    *("/etc/profile.d/gearman.sh", "/usr/local/bin/*"),
)
"""Where deploys write, besides unit files, releases and apps."""
DATA = ("/var/lib/*", "/var/cache/*", "/var/spool/*", "/srv/*")
"""Where a folder may be that a worker wrote to: it keeps the account that it belongs to."""
OWNED = (
    *(
        "/var/lib/*/*",
        "/var/log/*",
        "/var/backups/*",
        "/srv/*/*",
        "/home/*",
        "/home/*/*",
        "/root/*",
    ),
    *("/opt/*", "/opt/*/*", "/etc/*", "/usr/local/*/*", "/mnt/*", "/mnt/*/*"),
)
"""Where an operator's files may be that belong to an account: it stays, or another account that
gets its number would own them."""
USER = "gearman"  # the job server and the workers ran as this one account, until 0.1.0
RETIRED = "its host is retired"
SERVERS = ("/run/gearmand", QUEUE_FOLDER)  # systemd gives them to whom the unit runs as


def former(host: Host, inventory: Inventory, artifact: Artifact) -> Iterator[Resource]:
    """Whatever the roles of the host's groups do not need."""
    roles = (role for group, role in ROLES_OF_GROUPS.items() if group in host.groups)
    wanted = [each for role in roles for each in role(host, inventory, artifact)]
    yield from _leftovers(inventory, wanted, tuple(apps_of(host)), readers(inventory))


def retired(host: Host, inventory: Inventory, artifact: Artifact) -> Iterator[Resource]:
    """All that deploys put on a host, but its history."""
    for each in _leftovers(inventory, (), (), ()):
        yield replace(each, why=RETIRED) if isinstance(each, FormerUnits) else each
    yield FormerInstallation(ROOT)


def _leftovers(
    inventory: Inventory,
    wanted: Iterable[Resource],
    apps: tuple[str, ...],
    readers: tuple[str, ...],
) -> Iterator[Resource]:
    kept = frozenset[str]().union(*(each.provides for each in wanted))
    units = _names(kept, "unit:")
    files = _names(kept, f"path:{FOLDER}/")
    running = frozenset(f"unit:{name}" for name in units) | kept & {"certificate"}
    yield FormerUnits(WORKER_UNITS, units, files)
    is_server = UNIT in units
    others = tuple(map(reached, inventory.group("job_server")))
    if not is_server:
        move = move_command(others, inventory)
        yield FormerServer(SERVER_UNITS, (), (), QUEUE_FOLDER, ADMIN_SOCKET, others, move)
    yield FormerUnits(DASHBOARD_UNITS, units, files)
    if f"user:{DASHBOARD_USER}" not in kept:
        yield FormerHistory(HISTORY, DASHBOARD_USER, running)
        yield FormerHistory(DEPLOYS_FOLDER, "root", running)
    yield FormerUnits(FIREWALL_UNITS, units, files)  # when nothing listens any more
    yield FormerApps(APPS, apps)
    yield FormerFiles(PLACES, frozenset(_names(kept, "path:")), running)
    own = tuple(name for name in units if name not in (SOCKET, "gearman-firewall.service"))
    yield FormerAccount(
        USER,
        own,
        (*DATA, *OWNED) if is_server else (*DATA, *OWNED, *SERVERS),
        handed_over=SERVERS if is_server else (),
        keeps_group=USER in readers,
    )
    for user, pattern, data in (
        (WORKER_USER, WORKER_UNITS, (*DATA, *OWNED)),
        (SERVER_USER, SERVER_UNITS, (*DATA, *OWNED)),
        (DASHBOARD_USER, DASHBOARD_UNITS, ()),
    ):
        if f"user:{user}" not in kept:
            handed_over = SERVERS if user == SERVER_USER else ()
            yield UnneededAccount(user, (), data, handed_over, pattern=pattern, after=running)
    if f"group:{READERS}" not in kept:
        users = (WORKER_USER, SERVER_USER, DASHBOARD_USER)
        yield FormerGroup(READERS, users, (f"{PAIR}.key",), running)


def _names(provided: Iterable[str], prefix: str) -> tuple[str, ...]:
    return tuple(sorted(key.removeprefix(prefix) for key in provided if key.startswith(prefix)))
