"""What a host should be for one app's sake: what moves with the app's release, and nothing else."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from typing import Any

from provision.inventory.document import Table
from provision.inventory.host import Host, Inventory
from provision.inventory.workers import workers
from provision.release.app import apps_of, find_app
from provision.resources.account import FormerAccount, FormerGroup, UnneededAccount
from provision.resources.base import Resource
from provision.resources.former_apps import FormerApps
from provision.resources.former_files import FormerFiles
from provision.resources.former_units import FormerUnits
from provision.resources.health import Health
from provision.resources.packages import Packages

LEFT_TO_DEPLOYS = (FormerAccount, FormerApps, FormerFiles, FormerGroup, UnneededAccount)


def without_app(host: Host, app: str) -> Host:
    """The same host without the workers of an app."""
    named: Mapping[str, Any] = host.variables.get("gearman_workers", {})
    places = getattr(named, "places", {})
    others = Table({**named, **dict.fromkeys(_workers_of(host, app))}, places)
    return replace(host, variables={**host.variables, "gearman_workers": others})


def share_of_app(
    host: Host, app: str, wanted: Sequence[Resource], without: Iterable[Resource]
) -> Iterator[Resource]:
    """Of what a host should be, what it would not need ``without`` the app's workers.

    Units that these had before are removed; whatever else is due waits for a deploy.
    """
    others = list(without)
    packages = {name for each in others if isinstance(each, Packages) for name in each.names}
    kept = set(others)
    # How other workers are tried tells of the app's too; that makes them none of the app's.
    others_units = {each.unit for each in others if isinstance(each, Health)}
    for each in wanted:
        if isinstance(each, Packages):
            if names := tuple(name for name in each.names if name not in packages):
                yield Packages(names)
        elif isinstance(each, FormerUnits):
            for name in _workers_of(host, app):
                if fnmatch(f"gearman-worker@{name}.service", each.pattern):
                    yield replace(each, pattern=f"gearman-worker@{name}[.:]*")
        elif isinstance(each, Health):
            if each.unit not in others_units:
                yield each
        elif each not in kept and not isinstance(each, LEFT_TO_DEPLOYS):
            yield each


def _workers_of(host: Host, app: str) -> list[str]:
    return [each.name for each in workers(host) if each.app == app]


def hosts_with(app: str, known: Inventory) -> Inventory:
    """The hosts of an inventory that need an app; all, if none is named."""
    if not app:
        return known
    find_app(known.everyone, app)
    return replace(known, hosts=tuple(host for host in known.hosts if app in apps_of(host)))
