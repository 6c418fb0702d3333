"""Which hosts run without the accelerator, why, and what to do.

:func:`provision.fleet.choice.release_for` says who brings it, and who takes it away.
"""

import json

from provision.fleet.host_run import HostRun
from provision.fleet.release_track import OWN
from provision.fleet.run import Run
from provision.invoke_line import invoke_line
from provision.release.accelerator import find_obstacle
from provision.release.manifest import read_manifest
from provision.release.target import target_of
from provision.report.folding import fold_hosts


def tell_pure_hosts(run: Run) -> None:
    """In a line for each reason; what a run is about to change counts as done."""
    told: dict[str, list[str]] = {}
    for host_run in run.host_runs:
        if _has_accelerator(host_run) is False:
            obstacle = find_obstacle(target_of(host_run.answers["host",]))
            told.setdefault(obstacle, []).append(host_run.name)
    for obstacle, names in told.items():
        where = fold_hosts(names, len(run.inventory.everyone))
        why = f": {obstacle}" if obstacle else f"; `{invoke_line('upgrade')}` brings it"
        run.report.say(f"{where}: pure Python, without the accelerator{why}")


def _has_accelerator(host_run: HostRun) -> bool | None:
    """Whether the release that a host should run has it, as far as that is known."""
    kept = host_run.answers[OWN.question]["kept"].get(host_run.artifact.id)
    if kept is not None:
        found: bool | None = kept.get("accelerated")
        return found
    manifest = read_manifest(host_run.artifact)
    return bool(json.loads(manifest).get("accelerated")) if manifest else None
