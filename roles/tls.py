"""TLS: each host has a certificate of its own, and the CA's, where a job server asks for them."""

from collections.abc import Iterator

from provision.inventory.host import Host, Inventory
from provision.pki import authority_of
from provision.resources.account import Group
from provision.resources.base import Resource
from provision.resources.certificate import AuthorityFile, Certificate
from provision.resources.files import Directory

MARK = "# Made by the deploy.\n"  # by which the file is known to be ours
FOLDER = "/etc/gearman/tls"
CA = f"{FOLDER}/ca.pem"
PAIR = f"{FOLDER}/host"
READERS = "gearman"  # the group that may read the host's key: services, and who submits jobs


def speaks_tls(host: Host) -> bool:
    """Whether a job server does."""
    return bool(host.variables["gearman_tls"])


def tls(host: Host, inventory: Inventory) -> Iterator[Resource]:
    """What a host needs to speak it, if any job server does."""
    if not readers(inventory):
        return
    made = authority_of(host.folder)
    yield Group(READERS)
    yield Directory("/etc/gearman")
    yield Directory(FOLDER)
    yield AuthorityFile(CA, content=MARK.encode() + made.pem)
    yield Certificate(
        PAIR,
        certificate_names(host),
        host.variables["gearman_certificate_days"],
        # On a client host who logs in submits jobs, and who is in the group.
        host.user if "client" in host.groups else "root",
        READERS,
        made,
    )


def certificate_names(host: Host) -> tuple[str, ...]:
    """The names and addresses that its certificate is for."""
    listening = ["gearman_listen"]
    if "dashboard" in host.groups and host.is_set("gearman_dashboard_listen"):
        listening.append("gearman_dashboard_listen")
    addresses = (host.variables[each] for each in listening)
    return tuple(dict.fromkeys((host.name, host.address, *addresses)))


def readers(inventory: Inventory) -> tuple[str, ...]:
    """The groups that an account must be in to read the key of its host; none without TLS."""
    return (READERS,) if any(map(speaks_tls, inventory.group("job_server"))) else ()


def fingerprint(inventory: Inventory) -> str:
    """Of the CA, so that what runs is restarted when another takes its place; "" without TLS."""
    found = [host for host in inventory.group("job_server") if speaks_tls(host)]
    return authority_of(found[0].folder).fingerprint if found else ""


def flags(inventory: Inventory) -> tuple[str, ...]:
    """With which the commands speak it, if they are to."""
    if not fingerprint(inventory):
        return ()
    files = ("--ssl-ca-file", CA, "--ssl-certificate", f"{PAIR}.pem", "--ssl-key", f"{PAIR}.key")
    return tuple(files)
