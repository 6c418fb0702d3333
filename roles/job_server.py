"""The job server: gearmand, on this host's own address."""

from collections.abc import Iterator
from hashlib import sha256

from provision.inventory.drained import DRAINED, DRAINED_FILE, serving_hosts
from provision.inventory.host import Host, Inventory
from provision.inventory.queue import DATABASE, DRIVERS, QUEUE, Queue, queue_of
from provision.inventory.schedules import ADMIN_SOCKET, schedules
from provision.release.build import Artifact
from provision.resources.base import Resource
from provision.resources.drained_server import DrainedServer
from provision.resources.files import Directory, File
from provision.resources.health import ServerHealth
from provision.resources.release import Release
from provision.resources.requirement import Driver, FreePort, OwnAddress
from provision.resources.schedules import ServerSchedules
from provision.resources.secret import FOLDER as SECRETS
from provision.resources.secret import DatabasePassword
from provision.resources.server_unit import DatabaseCa, ServerUnit
from provision.resources.unit import Socket, UnitFile, unit_file
from roles.environment import environment
from roles.firewall import firewall
from roles.once import once
from roles.runtime import ROOT, SERVER_USER, account, on_path
from roles.servers import QUEUE_FOLDER, listens, move_command, reached
from roles.tls import MARK, fingerprint, flags, readers, speaks_tls, tls

UNIT = "gearmand.service"
SOCKET = "gearmand.socket"
DATABASE_CA = "/etc/gearman/database-ca.pem"
STATE_FORMAT = "2.5"  # of messages and state of a reload: a test compares it with gearmand's


@once
def job_server(host: Host, inventory: Inventory, artifact: Artifact) -> Iterator[Resource]:
    address, port = listens(host)
    release = Release(ROOT, artifact)
    metrics_port = host.variables["gearman_metrics_port"]
    place = {"address": address, "port": port}
    port_file = unit_file(SOCKET, release, **place)
    queue = queue_of(host, DATABASE_CA)
    passwords = _password_file(queue)
    file = unit_file(
        UNIT,
        release,
        **place,
        metrics_port=metrics_port,
        memory=host.variables["gearman_memory"],
        kept=[each for each in host.variables["gearman_keep_results"].split() if each != "0"],
        queue=queue,
        shared=queue.kind in DRIVERS,
        password=passwords[0] if passwords else None,
        database_ca=sha256(queue.ca.read_bytes()).hexdigest()[:12] if queue.ca else "",
        ca=fingerprint(inventory) if speaks_tls(host) else "",
        user=SERVER_USER,
        state_format=STATE_FORMAT,
    )
    named = "gearman_listen" if host.is_set("gearman_listen") else "ansible_host"
    yield OwnAddress(address, f"{named} ({host.where_is(named)})")
    for name in ("gearman_port", "gearman_metrics_port"):
        if (number := host.variables[name]) and DRAINED not in host.groups:
            yield FreePort(address, number, UNIT, setting=f"{name} ({host.where_is(name)})")
    yield from account(SERVER_USER, readers(inventory))
    yield from tls(host, inventory)
    yield from firewall(host, inventory)
    yield from on_path("gearadmin")
    yield from environment(host, inventory)
    yield from _database(queue, release, passwords)
    yield file
    socket = Socket(SOCKET, port_file, UNIT, address, port)
    yield port_file
    wanted = schedules(host)
    if wanted:
        yield Driver(release, "cronsim", f"gearman_schedules ({wanted[0].where})")
    yield ServerSchedules(ADMIN_SOCKET, "" if DRAINED in host.groups else UNIT, wanted)
    if DRAINED in host.groups:
        yield from _drained_server(inventory, queue, (port_file, file))
        return
    yield socket
    yield ServerUnit(
        UNIT,
        file,
        release.current,
        socket=socket,
        secrets=passwords,
        admin=ADMIN_SOCKET,
        setting=f"{QUEUE} ({host.where_is(QUEUE)})",
        database=f"{DATABASE} ({host.where_is(DATABASE)})",
    )
    words = _database_options(queue, passwords)
    yield ServerHealth(UNIT, release, flags(inventory), reached(host), words, file.limits)


def _drained_server(
    inventory: Inventory, queue: Queue, files: tuple[UnitFile, UnitFile]
) -> Iterator[Resource]:
    """One that stands still; others take the jobs of a shared database as they are."""
    others = tuple(map(reached, serving_hosts(inventory)))
    marker = File(DRAINED_FILE, content=MARK.encode())
    yield marker
    yield DrainedServer(
        (SOCKET, UNIT),
        files,
        marker,
        QUEUE_FOLDER,
        ADMIN_SOCKET,
        others,
        () if queue.kind in DRIVERS else move_command(others, inventory),
    )


def _database(
    queue: Queue, release: Release, passwords: tuple[DatabasePassword, ...]
) -> Iterator[Resource]:
    """What a job server needs whose queue is in a database."""
    if queue.kind in DRIVERS:
        yield Driver(release, DRIVERS[queue.kind], f"{QUEUE}: {queue.kind}")
    if passwords:
        yield Directory(SECRETS, mode="0700")
        yield from passwords
    if queue.ca:
        yield DatabaseCa(DATABASE_CA, content=MARK.encode() + queue.ca.read_bytes())


def _database_options(queue: Queue, passwords: tuple[DatabasePassword, ...]) -> tuple[str, ...]:
    """As the unit file has them: systemd replaces variables."""
    if queue.kind not in DRIVERS:
        return ()
    words = [each.replace("$", "$$") for each in queue.options]
    for each in passwords:
        words += [f"--{queue.kind}-passfile", f"${{CREDENTIALS_DIRECTORY}}/{each.name}"]
    return tuple(words)


def _password_file(queue: Queue) -> tuple[DatabasePassword, ...]:
    return (DatabasePassword("gearmand", "password", queue.password),) if queue.password else ()
