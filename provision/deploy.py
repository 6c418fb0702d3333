"""A deploy, from its first line to its last: probe -> plan -> apply -> verify. Read this first.

Every host is connected to, asked and planned, all at once, before anything is changed anywhere.
A plan that cannot be made (a host does not answer, a port is taken) stops the deploy while
nothing is changed. Then the release is put on all hosts, where nothing uses it yet. Then hosts
are changed group by group, in the order in which the roles are given: a group begins when the
one before it is as wanted, and does not begin when a host failed before. Within a group a host
that fails stops alone, and the others go on.

Nothing is remembered here between runs. What is true is on the hosts: an interrupted deploy is
resumed by the next one, which plans what is left.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from types import TracebackType

from provision import hosts, inventory, release
from provision.errors import HostFailed, ToolkitError
from provision.events import Applied, Begun, Building, Event, Failed, Planned, Skipped, Verified
from provision.explain import advice
from provision.inventory import Host, Inventory
from provision.messages import Operation, Outcome, Unknown
from provision.plan import Plan, make, questions
from provision.release import Artifact, Target
from provision.report import Report
from provision.resources.base import Answers, Change, Resource
from provision.session import Session

CHANGES_PENDING = 2  # the status of a plan that is not empty
LAST_WORDS = 20  # lines of what a failed command said

Role = Callable[[Host, Inventory, Artifact], Iterable[Resource]]
Roles = Mapping[str, Sequence[Role]]
"""Inventory group -> its roles, in the order in which groups are deployed."""

Connect = Callable[[Host], Session]


def plan(
    folder: Path,
    roles: Roles,
    *,
    limit: str | None = None,
    verbose: bool = False,
    connect: Connect = hosts.connect,
) -> int:
    """Show what a deploy would change. Returns 0 when nothing, 2 when something."""
    with Run(inventory.load(folder, limit), roles, connect, verbose=verbose) as run:
        status = run.probe()
        run.report.recap(run.seconds)
        return status or (CHANGES_PENDING if run.pending else 0)


def deploy(
    folder: Path,
    roles: Roles,
    *,
    limit: str | None = None,
    yes: bool = False,
    verbose: bool = False,
    connect: Connect = hosts.connect,
) -> int:
    """Make every host as its roles say; ask before, unless ``yes``. Returns an exit status."""
    with Run(inventory.load(folder, limit), roles, connect, verbose=verbose) as run:
        status = run.probe()
        run.report.recap(run.seconds, "nothing was changed" if status else "")
        if status or not run.pending:
            return status
        if not yes and not run.report.confirm("Apply?"):
            return CHANGES_PENDING
        run.start_clock()
        run.lock()
        status = run.apply()
        run.report.recap(run.seconds)
        return status


@dataclass
class Site:
    """A host with a session to it, what it should be, and what is left to change."""

    host: Host
    session: Session
    resources: Sequence[Resource]
    answers: Answers
    plan: Plan = field(init=False)

    def __post_init__(self) -> None:
        self.probe()

    def probe(self) -> None:
        """Ask everything again, and plan what is left to change now."""
        self.answers = {**self.answers, **self.session.ask(questions(self.resources))}
        self.plan = make(self.resources, self.answers)


def planned(site: Site) -> Event:
    return Planned(site.host.name, site.plan)


class Run:
    """One way through all hosts of an inventory."""

    def __init__(
        self, inventory: Inventory, roles: Roles, connect: Connect, *, verbose: bool = False
    ) -> None:
        self.report = Report([host.name for host in inventory.hosts], verbose=verbose)
        self.sites: list[Site] = []
        self._inventory = inventory
        self._roles = roles
        self._connect = connect
        self._sessions: list[Session] = []
        self._building = Lock()
        self.start_clock()

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: type | None, error: object, where: TracebackType | None) -> None:
        for session in self._sessions:
            session.close()

    def start_clock(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def pending(self) -> list[Site]:
        """The hosts that are not as wanted."""
        return [site for site in self.sites if site.plan.changes]

    def probe(self, told: Callable[[Site], Event] = planned) -> int:
        """Plan every host and tell of each. Returns the status of the worst that cannot be."""
        status = 0
        results = dict(hosts.each(self._inventory.hosts, self._probe))
        for host in self._inventory.hosts:
            result = results[host]
            if isinstance(result, ToolkitError):
                self.report.show(Failed(host.name, result, self.seconds))
                status = max(status, result.status)
                continue
            self.sites.append(result)
            self.report.show(told(result))
            if result.plan.problems:
                status = max(status, HostFailed.status)
        return status

    def lock(self) -> None:
        """Lock all hosts that will change; the first to be locked by another raises Locked."""
        # In one order for everybody, so that two deploys never wait for each other's hosts.
        for site in sorted(self.pending, key=lambda site: site.host.name):
            site.session.lock(hosts.holder())

    def apply(self) -> int:
        """Stage everywhere, then change the hosts group by group. Returns the worst status.

        What has not begun when a host failed is left alone.
        """
        failed: dict[str, int] = {}  # host -> its status
        groups = list(self._groups())
        for step in (self._recheck, self._stage):
            if not failed:
                self._each([site for group in groups for site in group], step, failed)
        for group in groups:
            left = [site for site in group if site.host.name not in failed]
            if not failed:
                self._each(left, self._finish, failed)
                continue
            for site in left:
                self.report.show(Skipped(site.host.name, tuple(failed)))
        return max(failed.values(), default=0)

    def _groups(self) -> Iterable[list[Site]]:
        left = self.pending
        for name in self._roles:
            yield [site for site in left if name in site.host.groups]
            left = [site for site in left if name not in site.host.groups]

    def _each(
        self, sites: Iterable[Site], step: Callable[[Site], None], failed: dict[str, int]
    ) -> None:
        for site, result in hosts.each(sites, step):
            if isinstance(result, ToolkitError):
                failed[site.host.name] = result.status
                self.report.show(Failed(site.host.name, result, self.seconds))

    def _probe(self, host: Host) -> Site:
        session = self._connect(host)
        self._sessions.append(session)
        facts = session.ask([("host",)])
        if isinstance(facts["host",], Unknown):
            raise HostFailed(f"it cannot say what kind of host it is: {facts['host',].reason}")
        artifact = self._artifact(release.target(facts["host",]))
        return Site(host, session, self._resources(host, artifact), facts)

    def _artifact(self, target: Target) -> Artifact:
        with self._building:
            artifact = release.built(target)
            if artifact is None:
                self.report.show(Building(target))
                artifact = release.build(target)
            return artifact

    def _resources(self, host: Host, artifact: Artifact) -> list[Resource]:
        return [
            resource
            for group, roles in self._roles.items()
            if group in host.groups
            for role in roles
            for resource in role(host, self._inventory, artifact)
        ]

    def _recheck(self, site: Site) -> None:
        """What is applied is what was shown, though somebody else deployed in between."""
        shown = site.plan
        site.probe()
        if _operations(site.plan) != _operations(shown):
            raise HostFailed("it has changed since its plan was made: deploy again")

    def _stage(self, site: Site) -> None:
        self._carry_out(site, site.plan.changes[: site.plan.staged])

    def _finish(self, site: Site) -> None:
        self._carry_out(site, site.plan.changes[site.plan.staged :])
        site.probe()
        if site.plan.changes or site.plan.problems:
            raise _unlike(site.plan)
        self.report.show(Verified(site.host.name, self.seconds))

    def _carry_out(self, site: Site, changes: Sequence[Change]) -> None:
        if not changes:
            return
        self.report.show(Begun(site.host.name))
        outcomes = site.session.apply([change.operation for change in changes])
        for change, outcome in zip(changes, outcomes, strict=True):
            self.report.show(Applied(site.host.name, change, outcome))
            if outcome.error is not None:
                raise _failure(change, outcome)


def _operations(plan: Plan) -> list[Operation]:
    return [change.operation for change in plan.changes]


def _failure(change: Change, outcome: Outcome) -> HostFailed:
    """What was tried, what the host said, and what to try next."""
    lines = [f"{change.summary}: {outcome.error}"]
    lines += (f"| {line}" for line in outcome.output.splitlines()[-LAST_WORDS:])
    return HostFailed("\n".join([*lines, f"try: {advice(change.operation)}"]))


def _unlike(left: Plan) -> HostFailed:
    """All was done and said to be well, and the host is still not as wanted."""
    lines = [f"{change.sign} {change.summary} ({change.reason})" for change in left.changes]
    lines += (f"{problem.sign} {problem.message}" for problem in left.problems)
    return HostFailed("\n".join(["every change was applied, and these are due again:", *lines]))
