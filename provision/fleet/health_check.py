"""Does a release do its work on a host? Asked of it before the switch, and of the units after."""

import base64
import time
from collections.abc import Iterable
from dataclasses import dataclass

from provision.errors import HostFailed, ToolkitError
from provision.fleet.run import Run, Site
from provision.remote.messages import Operation
from provision.report.events import Proved
from provision.resources.health import Health, Proof
from provision.resources.unit import Unit

NO_SERVER = "ended with 3"  # as `gearman` does that reaches none


@dataclass(frozen=True)
class Gate:
    """``settle``: seconds that a unit must go on running after it was started."""

    run: Run
    settle: float

    def trial(self, site: Site) -> None:
        """Have the staged release do a job of each kind. Raises :class:`HostFailed`."""
        for health in healths(site):
            self._prove(site, health, health.trials())

    def pass_(self, site: Site) -> None:
        """See that the units run on, and do their work. Raises :class:`HostFailed`."""
        before = _restarts(site)
        if before:
            time.sleep(self.settle)
        site.probe()
        for name, restarts in _restarts(site).items():
            if restarts != before[name]:
                raise HostFailed(f"{name} does not stay up: systemd has restarted it")
        for change in site.plan.changes:
            raise HostFailed(f"{change.summary} is due again: {change.reason}")
        for health in healths(site):
            self._prove(site, health, health.proofs())

    def _prove(self, site: Site, health: Health, proofs: Iterable[Proof]) -> None:
        for proof in proofs:
            (outcome,) = site.session.apply([proof.operation])
            if outcome.error:
                first, *more = [*outcome.output.splitlines(), outcome.error]
                if outcome.error.endswith(NO_SERVER):
                    raise HostFailed(f"{proof.summary}: {first}")  # not the release's fault
                raise Unhealthy(f"{proof.summary}: {first}", more, health)
            if problem := proof.judge(base64.b64decode(outcome.output)):
                raise Unhealthy(f"{proof.summary}: {problem}", [], health)
            self.run.report.show(Proved(site.name, proof.summary, outcome.seconds))


class Unhealthy(HostFailed):
    """A proof failed: of which unit."""

    def __init__(self, problem: str, said: list[str], health: Health) -> None:
        super().__init__("\n".join([problem, *(f"| {line}" for line in said)]))
        self.health = health


def why(site: Site, error: ToolkitError) -> ToolkitError:
    """The same error with what the host's own tools say of the unit that does not work."""
    named = error.health if isinstance(error, Unhealthy) else None
    concerned = [each for each in healths(site) if each == named or each.unit in str(error)]
    commands = [command for health in concerned[:1] for command in health.view()]
    if not commands:
        return error
    try:
        (outcome,) = site.session.apply([Operation("look", {"commands": commands})])
    except ToolkitError:
        return error  # it is out of reach, as the error says
    said = (f"| {line}" for line in outcome.output.splitlines())
    told = HostFailed("\n".join([str(error), *said]))
    told.status = error.status
    return told


def healths(site: Site) -> list[Health]:
    return [each for each in site.resources if isinstance(each, Health)]


def _restarts(site: Site) -> dict[str, int]:
    units = (each.name for each in site.resources if isinstance(each, Unit) and each.wanted)
    found = {name: site.answers["unit", name] for name in units}
    return {name: one["restarts"] for name, one in found.items() if one}
