"""What the lab writes into its inventory: a key, the hosts' keys, and workers beside the first."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import yaml

from provision.lab.hosts import EXAMPLE, INVENTORY, SOURCE, hosts_of_this_lab
from provision.lab.machine import Machine
from provision.lab.number import NUMBER
from provision.lab.programs import execute

KEY = INVENTORY / "id_ed25519"
KNOWN_HOSTS = INVENTORY / "known_hosts"
MORE_WORKERS = INVENTORY / "more-workers.yml"


def write_inventory(machines: Sequence[Machine]) -> None:
    """Give this checkout a key to the hosts; write down their keys, and which there are."""
    INVENTORY.mkdir(parents=True, exist_ok=True)
    if not SOURCE.is_relative_to(INVENTORY):
        (INVENTORY / SOURCE.name).write_text(hosts_of_this_lab())
    public = KEY.with_suffix(".pub")
    if not public.exists():
        KEY.unlink(missing_ok=True)
        execute(["ssh-keygen", "-q", "-N", "", "-C", "lab", "-t", "ed25519", "-f", str(KEY)])
    lines = []
    for machine in machines:
        machine.authorize(public.read_text().strip())
        lines += [f"{machine.name},{machine.address} {key}\n" for key in machine.host_keys()]
    KNOWN_HOSTS.write_text("".join(lines))
    hosts = {machine.name: {"ansible_host": machine.address} for machine in machines[3:]}
    if hosts:
        more = {"all": {"children": {"worker": {"hosts": hosts}}}}
        MORE_WORKERS.write_text(yaml.safe_dump(more, sort_keys=False))
    else:
        MORE_WORKERS.unlink(missing_ok=True)
    copies = _copy_to_example() if NUMBER == 1 else []
    owner = SOURCE.stat()  # also under sudo these files are the checkout's owner's
    for file in (INVENTORY, KEY, public, KNOWN_HOSTS, MORE_WORKERS, *copies):
        if file.exists():
            os.chown(file, owner.st_uid, owner.st_gid)


def _copy_to_example() -> list[Path]:
    """``examples/lab`` is an inventory of the same hosts."""
    copies = []
    for file in (KNOWN_HOSTS, MORE_WORKERS):
        copy = EXAMPLE / file.name
        copy.unlink(missing_ok=True)
        if file.exists():
            copies.append(Path(shutil.copy2(file, copy)))
    return copies


def remove_inventory() -> None:
    """Remove what was written for these hosts: keys, and the inventory of a lab but the first."""
    if NUMBER != 1:
        shutil.rmtree(INVENTORY, ignore_errors=True)
        return
    for path in (KEY, KEY.with_suffix(".pub"), KNOWN_HOSTS, EXAMPLE / KNOWN_HOSTS.name):
        path.unlink(missing_ok=True)


def forget_more_workers() -> None:
    for folder in (INVENTORY, EXAMPLE) if NUMBER == 1 else (INVENTORY,):
        (folder / MORE_WORKERS.name).unlink(missing_ok=True)
