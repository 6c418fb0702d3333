"""In which order hosts are upgraded, so that no function is left without a worker."""

from collections.abc import Iterable, Iterator, Sequence

from provision.fleet.health_check import health_resources
from provision.fleet.host_run import HostRun
from provision.fleet.rollout_policy import RolloutPolicy
from provision.fleet.run import Run
from provision.resources.base import Resource
from provision.resources.health import Health


class Waves:
    """The hosts of a run that are pending when this is made, in groups and waves."""

    def __init__(self, run: Run, policy: RolloutPolicy) -> None:
        self._policy = policy
        pending = {each.name: each for each in run.pending}
        groups = run.desired.host_groups()
        self._groups = [[pending[name] for name in group if name in pending] for group in groups]
        self._serving: dict[str, set[str]] = {}  # function -> hosts that have a worker for it
        for name, resources in run.desired.all_resources():
            for function in served_functions(resources):
                self._serving.setdefault(function, set()).add(name)

    def __iter__(self) -> Iterator[list[HostRun]]:
        """Of each group one host, then batches; hosts without functions at once."""
        for group in self._groups:
            if not any(health_resources(each) for each in group):
                yield from [group] if group else []
                continue
            size = self._policy.batch_size(len(group))
            batches = [group[:1], *(group[n : n + size] for n in range(1, len(group), size))]
            for batch in batches:
                if self._gaps(batch):
                    yield from ([each] for each in batch)
                else:
                    yield batch

    def first_hosts(self) -> list[HostRun]:
        """Of each group the host that goes first."""
        return [group[0] for group in self._groups if group]

    def gaps(self) -> Iterator[tuple[HostRun, str]]:
        """A function without a worker while a wave is changed, and a host that interrupts it."""
        for wave in self:
            for function in sorted(self._gaps(wave)):
                yield next(each for each in wave if function in interrupted(each)), function

    def _gaps(self, wave: Sequence[HostRun]) -> set[str]:
        if self._policy.gap:
            return set()
        away = {each.name for each in wave}
        return {
            function
            for host_run in wave
            for function in interrupted(host_run)
            if self._serving.get(function, set()) <= away
        }


def served_functions(resources: Iterable[Resource]) -> dict[str, set[str]]:
    """What a host with these resources serves, and by which units."""
    units: dict[str, set[str]] = {}
    for each in (one for one in resources if isinstance(one, Health)):
        for function in each.served:
            units.setdefault(function, set()).add(each.unit)
    return units


def interrupted(host_run: HostRun) -> set[str]:
    """The functions whose worker is away for a moment while a host is changed.

    Several instances of one restart one after the other.
    """
    stopped = {
        change.operation.arguments["name"]
        for change in host_run.plan.changes
        if change.operation.kind in ("unit", "program")
        and change.operation.arguments["action"] in ("restart", "stop")
    }
    served = served_functions(host_run.resources)
    return {name for name, units in served.items() if len(units) == 1 and units <= stopped}
