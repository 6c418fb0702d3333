"""The dashboard: gearman-web, for those on the host; with TLS and users, for others too.

Beside a job server, users who operate use its admin socket. Without users it is not used at all.
"""

from collections.abc import Iterator

from provision.errors import InventoryError
from provision.inventory.host import Host, Inventory
from provision.inventory.places import PAGE_LISTEN, is_page_public, page_address, page_url
from provision.inventory.schedules import ADMIN_SOCKET
from provision.inventory.schema import USERS
from provision.release.build import Artifact
from provision.render import exec_word
from provision.resources.account import Group
from provision.resources.base import Resource
from provision.resources.dashboard import DEPLOYS_FILE, DEPLOYS_FOLDER, PageHealth, UsersFile
from provision.resources.files import Directory
from provision.resources.release import Release
from provision.resources.requirement import FreePort, OwnAddress
from provision.resources.secret import FOLDER as SECRETS
from provision.resources.unit import Unit, unit_file
from roles.firewall import firewall
from roles.once import once
from roles.runtime import ROOT, SERVER_USER, account
from roles.servers import servers
from roles.tls import CA, fingerprint, flags, readers, tls

UNIT = "gearman-web.service"
USER = "gearman-web"
HISTORY = "/var/lib/gearman-web"
PORT = "gearman_dashboard_port"


@once
def dashboard(host: Host, inventory: Inventory, artifact: Artifact) -> Iterator[Resource]:
    address, port = page_address(host)
    release = Release(ROOT, artifact)
    users = _users_file(host)
    _refuse_unsafe(host, inventory, has_users=bool(users))
    public = is_page_public(host)
    steers = bool(users) and "job_server" in host.groups
    file = unit_file(
        UNIT,
        release,
        address=address,
        port=port,
        names=[exec_word(each.name) for each in inventory.group("job_server")],
        servers=",".join(servers(inventory)),
        ca=fingerprint(inventory),
        tls=public,
        users=users[0].path if users else "",
        user=USER,
        deploys=DEPLOYS_FILE,
        admin=f"{exec_word(host.name)}=unix:{ADMIN_SOCKET}" if steers else "",
        group=SERVER_USER,
    )
    yield OwnAddress(address, f"{PAGE_LISTEN} ({host.where_is(PAGE_LISTEN)})", PAGE_LISTEN)
    yield FreePort(address, port, UNIT, setting=f"{PORT} ({host.where_is(PORT)})")
    yield from account(USER, readers(inventory))
    yield Directory(DEPLOYS_FOLDER, group=USER, mode="2750")
    if steers:
        yield Group(SERVER_USER)
    yield from tls(host, inventory)
    yield from firewall(host, inventory)
    if users:
        yield Directory("/etc/gearman")
        yield Directory(SECRETS, mode="0700")
        yield from users
    yield file
    yield Unit(UNIT, file, release.current, secrets=users)
    yield PageHealth(UNIT, release, flags(inventory), page_url(host), CA if public else "")


def _users_file(host: Host) -> tuple[UsersFile, ...]:
    secret = host.variables.get(USERS)
    where = f"{host.where_is(USERS)}: {USERS}"
    return (UsersFile("dashboard", "users", secret, where),) if secret else ()


def _refuse_unsafe(host: Host, inventory: Inventory, *, has_users: bool) -> None:
    """Raises :class:`InventoryError` for a page that others could read."""
    if not is_page_public(host):
        return
    where = f"{host.where_is(PAGE_LISTEN)}: {PAGE_LISTEN}: {host.variables[PAGE_LISTEN]}"
    if not readers(inventory):
        raise InventoryError(
            f"{where} is not loopback, so passwords would cross the network readable: set "
            "gearman_tls for all hosts, or put a proxy on the host that speaks HTTPS"
        )
    if not has_users:
        raise InventoryError(
            f"{where} is not loopback, so everyone could read it: set {USERS}, the lines that "
            "`gearman-web --users FILE --add-user NAME` writes to FILE"
        )
