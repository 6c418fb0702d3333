"""A rolling upgrade: staged and tried everywhere, then host by host, each seen to do its work.

First the release is put on all hosts, and does a job of each kind there, in a worker that serves
no other: a release that does not work is found before anything that runs is touched. Then,
group by group, one host goes first, and batches follow. A worker is reloaded, a new one beside
the old, so no function is without a worker meanwhile. A host on which the new release does not
do its work is put back; after more of them than allowed, so are those that were upgraded.

What is true is on the hosts: an upgrade that was interrupted goes on when it is run again.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from provision import build as release
from provision.build import ON_HOSTS
from provision.errors import HostFailed, RolledBack, ToolkitError, Unreachable
from provision.fleet import pool as hosts
from provision.fleet.deploy import CHANGES_PENDING, DEFAULT
from provision.fleet.health_check import Gate, Unhealthy, healths, why
from provision.fleet.run import PAST, Choose, Connect, Roles, Run, Site, this_tree
from provision.options import Options
from provision.remote.messages import Operation
from provision.report.events import PutBack, Skipped, Tried, Upgraded
from provision.resources.base import Answers, Change, Resource
from provision.resources.health import WorkerHealth

SETTLE = 3600  # seconds that a unit may be watched at most


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How an upgrade goes about it."""

    batch: str = "25%"  # hosts at once after the first: a number, or a share of their group
    max_fail: int = 0  # hosts that may fail, and are put back, while the others go on
    settle: float = 2.0  # seconds that a unit must stay up
    gap: bool = False  # a function may be without a worker for a moment

    def __post_init__(self) -> None:
        """Raises :class:`ToolkitError`."""
        if self.max_fail < 0:
            raise ToolkitError(f"--max-fail {self.max_fail}: say 0 or more")
        if not 0 <= self.settle <= SETTLE:
            raise ToolkitError(f"--settle {self.settle:g}: say 0 to {SETTLE} seconds")
        self.size(1)

    def size(self, number: int) -> int:
        """Of a batch, in a group of this size. Raises :class:`ToolkitError`."""
        text = self.batch.strip()
        share = text.endswith("%")
        digits = text.removesuffix("%")
        if not digits.isdigit() or not int(digits) or (share and int(digits) > 100):
            raise ToolkitError(f"--batch {self.batch}: say a number of hosts, or a share as 25%")
        return max(1, ceil(number * int(digits) / 100) if share else int(digits))


def upgrade(
    folder: Path,
    roles: Roles,
    options: Options = DEFAULT,
    manner: Manner = Manner(),
    *,
    to: str | None = None,
    connect: Connect = hosts.connect,
) -> int:
    """Bring every host to release ``to`` (this tree's, if None). Returns an exit status."""
    choose: Choose = this_tree if to is None else lambda name, facts: to
    return _roll(Run(folder, roles, options, connect, choose), manner, blame=False)


def rollback(
    folder: Path,
    roles: Roles,
    options: Options = DEFAULT,
    manner: Manner = Manner(),
    *,
    to: str | None = None,
    connect: Connect = hosts.connect,
) -> int:
    """Bring every host back to release ``to``, or to the one it ran before this one.

    What is left is marked as bad: no deploy brings it back unasked.
    """
    choose: Choose = previous if to is None else lambda name, facts: to
    return _roll(Run(folder, roles, options, connect, choose), manner, blame=True)


def previous(name: str, facts: Answers) -> str:
    """The release that a host ran before its current one. Raises :class:`HostFailed`."""
    known = facts["releases", ON_HOSTS]
    good = {id for id, found in known["kept"].items() if not found["bad"]} - {known["current"]}
    for entry in reversed(facts[PAST]):
        if entry.get("from") in good:
            return str(entry["from"])
    raise HostFailed("it keeps no earlier release that it could go back to")


def _roll(run: Run, manner: Manner, *, blame: bool) -> int:
    with run:
        run.probe()
        rollout = Rollout(run, manner, blame=blame)
        rollout.refuse()
        run.report.recap(run.seconds)
        if run.failed or not run.pending:
            return run.status
        if not run.options.yes and not run.report.confirm("Upgrade?"):
            return CHANGES_PENDING
        run.start_clock()
        run.lock()
        try:
            status = rollout.go()
        except KeyboardInterrupt:
            run.report.say("interrupted: the same command goes on where this one stopped")
            raise
        run.report.end(run.seconds)
        rollout.tell()
        return status


class Rollout:
    """One upgrade of the hosts of a run. ``blame``: what they leave is bad."""

    def __init__(self, run: Run, manner: Manner, *, blame: bool) -> None:
        self._run = run
        self._manner = manner
        self._blame = blame
        self._gate = Gate(run, manner.settle)
        self._sites = run.pending
        self._upgraded: list[Site] = []
        self._stuck: dict[str, ToolkitError] = {}  # neither upgraded nor put back
        self._guilty = False  # the release, and not the host, was why one failed
        self._origin = {site.name: before(site) for site in run.sites}
        self._runs = {site.name: site.before for site in run.sites}

    # -- before anything is changed -------------------------------------------------------

    def refuse(self) -> None:
        """Find what should not be begun: it is told as the failure of its host."""
        for site in self._sites:
            if self._origin[site.name] is None:
                self._run.fail(site.name, HostFailed("nothing of ours runs there: deploy it first"))
        for group in self._groups():
            for wave in self._waves(group):
                for function in sorted(self._gaps(wave)):
                    site = next(each for each in wave if function in interrupted(each))
                    problem = (
                        f"{function} would have no worker while this host restarts the only one "
                        "(its unit file changes): add a worker, or say --gap"
                    )
                    self._run.fail(site.name, HostFailed(problem))

    def _groups(self) -> Iterator[list[Site]]:
        sites = {site.name: site for site in self._sites}
        for group in self._run.groups():
            if found := [sites[name] for name in group if name in sites]:
                yield found

    def _waves(self, group: Sequence[Site]) -> Iterator[list[Site]]:
        """One host, then batches; hosts without functions at once."""
        if not any(map(healths, group)):
            yield list(group)
            return
        size = self._manner.size(len(group))
        batches = [group[:1], *(group[n : n + size] for n in range(1, len(group), size))]
        for batch in batches:
            if self._gaps(batch):
                yield from ([site] for site in batch)
            else:
                yield list(batch)

    def _gaps(self, wave: Sequence[Site]) -> set[str]:
        """Functions without a worker while these hosts are changed."""
        if self._manner.gap:
            return set()
        away = {site.name for site in wave}
        serving: dict[str, set[str]] = {}
        for name, resources in self._run.everyone():
            for function in functions(resources):
                serving.setdefault(function, set()).add(name)
        return {
            function
            for site in wave
            for function in interrupted(site)
            if serving.get(function, set()) <= away
        }

    # -- the upgrade ----------------------------------------------------------------------

    def go(self) -> int:
        """Returns the exit status."""
        run = self._run
        run.each(self._sites, run.recheck)
        if run.failed:
            return run.status
        run.each(self._sites, self._stage)
        if run.failed:
            status = self._give_up("before anything that runs was touched")
            return status if self._guilty else run.status
        for group in self._groups():
            for wave in self._waves(group):
                run.each(wave, self._upgrade)
                if self._stuck or len(run.failed) > self._manner.max_fail:
                    return self._give_up("and every host was put back")
        if self._blame:
            who = hosts.operator()["who"]
            for site in self._upgraded:
                self._condemn(site, self._origin[site.name], f"rolled back by {who}")
        return run.status

    def _stage(self, site: Site) -> None:
        self._run.stage(site)
        try:
            self._gate.trial(site)
        except Unhealthy:
            self._guilty = True
            raise
        self._run.report.show(Tried(site.name, site.release, self._run.seconds))

    def _upgrade(self, site: Site) -> None:
        try:
            self._run.finish(site)
            self._gate.pass_(site)
        except ToolkitError as error:
            self._guilty = self._guilty or not isinstance(error, Unreachable)
            self._run.fail(site.name, why(site, error))
            self._run.record(site, error)
            self._put_back(site)
            return
        self._upgraded.append(site)
        self._runs[site.name] = site.release
        self._run.record(site)
        self._run.report.show(Upgraded(site.name, site.release, self._run.seconds))

    # -- the way back ---------------------------------------------------------------------

    def _give_up(self, how: str) -> int:
        """Put back what was upgraded, and mark the release as bad. Returns the exit status."""
        run = self._run
        first, error = next(iter(run.failed.items()))
        for _ in hosts.each(self._also_upgraded(), self._put_back, run.options.parallel):
            pass
        begun = {*run.failed, *(site.name for site in self._upgraded)}
        for site in self._sites:
            if site.name not in begun:
                run.report.show(Skipped(site.name, tuple(run.failed)))
        reason = f"{first}: {str(error).splitlines()[0]}"
        for site in run.sites if self._guilty else ():
            self._condemn(site, site.release, reason)
        run.report.say(f"rolled back, {how}" if not self._stuck else "not every host is back")
        return HostFailed.status if self._stuck else RolledBack.status

    def _also_upgraded(self) -> list[Site]:
        """With those that an earlier run of this upgrade had reached: its record says so."""
        origins = {self._origin[site.name] for site in self._sites} - {None}
        earlier = [
            site
            for site in self._run.sites
            if site not in self._sites and self._origin[site.name] in origins
        ]
        return [*self._upgraded, *earlier]

    def _put_back(self, site: Site) -> None:
        run, origin = self._run, self._origin[site.name]
        if origin is None:
            return
        try:
            wanted = run.resources(site.host, release.named(origin))
            wanted = run.restored(site.session, wanted)
            back = Site(site.host, site.session, wanted, site.answers, origin)
            back.before = site.release
            try:
                run.finish_all(back)
            except HostFailed:
                # A worker that cannot be reloaded any more can still be restarted.
                run.finish_all(back, restarting)
            self._gate.pass_(back)
        except ToolkitError as error:
            self._stuck[site.name] = error
            run.report.say(f"{site.name} could not be put back to {origin}: {error}")
            return
        self._runs[site.name] = origin
        run.record(back, result="rolled back")
        run.report.show(PutBack(site.name, origin, run.seconds))

    def _condemn(self, site: Site, id: str | None, reason: str) -> None:
        """Mark a release as bad where it is; a host that is out of reach is left as it is."""
        try:
            site.probe()
            if id in site.answers["releases", ON_HOSTS]["kept"]:
                arguments = {"root": ON_HOSTS, "id": id}
                list(site.session.apply([Operation("condemn", arguments, reason.encode())]))
        except ToolkitError as error:
            self._run.report.say(f"{site.name}: {id} is not marked as bad: {error}")

    def tell(self) -> None:
        """Where the fleet stands."""
        for id in sorted(filter(None, set(self._runs.values()))):
            names = ", ".join(name for name, runs in self._runs.items() if runs == id)
            self._run.report.say(f"{id} runs on {names}")


def before(site: Site) -> str | None:
    """What a host ran before the release that it should run now.

    An interrupted upgrade may have switched the link already: then what still runs tells, or
    else the host's history.
    """
    known = site.answers["releases", ON_HOSTS]
    if known["current"] != site.release:
        return str(known["current"]) if known["current"] else None
    for id in known["running"]:
        if id != site.release:
            return str(id)
    for entry in reversed(site.answers[PAST]):
        if entry.get("release") == site.release and entry.get("from") in known["kept"]:
            return str(entry["from"])
    return None


def functions(resources: Iterable[Resource]) -> dict[str, str]:
    """The functions that a host with these resources serves, and by which units."""
    found = (each for each in resources if isinstance(each, WorkerHealth))
    return {each.function: each.unit for each in found}


def interrupted(site: Site) -> set[str]:
    """The functions whose worker is away for a moment while a host is changed."""
    stopped = {
        change.operation.arguments["name"]
        for change in site.plan.changes
        if change.operation.kind == "unit"
        and change.operation.arguments["action"] in ("restart", "stop")
    }
    return {function for function, unit in functions(site.resources).items() if unit in stopped}


def restarting(change: Change) -> Change:
    """The same change without a reload."""
    operation = change.operation
    if operation.kind != "unit" or operation.arguments["action"] != "reload":
        return change
    arguments = {**operation.arguments, "action": "restart"}
    return Change(change.sign, change.summary, Operation("unit", arguments), change.reason)
