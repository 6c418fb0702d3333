"""The hosts of one run: asked, planned, locked, changed, and asked again.

Every host is connected to, asked and planned at once, before anything is changed anywhere. What
is true is on the hosts: nothing is remembered here between runs, and an interrupted run is
resumed by the next one, which plans what is left. Whatever is done to a host is told there, in
its history.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from threading import Lock
from types import TracebackType
from typing import Any, Protocol

from provision import build as release
from provision import pki as authority
from provision import plan
from provision.build import ON_HOSTS, Artifact, Target
from provision.errors import HostFailed, ToolkitError, Unreachable
from provision.fleet import pool as hosts
from provision.fleet import tags
from provision.inventory import load as inventory
from provision.inventory.host import Host, Inventory
from provision.options import Options
from provision.plan import Plan
from provision.remote.messages import Operation, Outcome, Question, Unknown
from provision.remote.session import Session
from provision.report.events import Applied, Begun, Building, Event, Failed, Planned
from provision.report.reporter import reporter
from provision.report.shell import advice
from provision.resources.base import Answers, Change, Resource
from provision.resources.release import Release
from provision.resources.unit import as_kept

LAST_WORDS = 20  # lines of what a failed command said
HISTORY = "/var/lib/gearman-deploy/history.jsonl"
PAST: Question = ("history", HISTORY, "50")
FACTS: tuple[Question, ...] = (("host",), ("releases", ON_HOSTS), PAST)


class Role(Protocol):
    """A generator of resources: what a host of a kind should be."""

    @property
    def __name__(self) -> str: ...

    def __call__(
        self, host: Host, inventory: Inventory, artifact: Artifact, /
    ) -> Iterable[Resource]: ...


Roles = Mapping[str, Sequence[Role]]
"""Inventory group -> its roles, in the order in which groups are deployed."""

Connect = Callable[[Host], Session]

Choose = Callable[[str, Answers], str | None]
"""A host's name and facts -> the id of the release that it should run; None: this tree's."""


@dataclass
class Site:
    """A host with a session to it, what it should be, and what is left to change."""

    host: Host
    session: Session
    resources: Sequence[Resource]
    answers: Answers
    release: str
    plan: Plan = field(init=False)
    applied: int = 0  # changes

    def __post_init__(self) -> None:
        self.before: str | None = self.answers["releases", ON_HOSTS]["current"]
        self.probe()

    @property
    def name(self) -> str:
        return self.host.name

    def probe(self) -> None:
        """Ask everything again, and plan what is left to change now."""
        self.answers = {**self.answers, **self.session.ask(plan.questions(self.resources))}
        self.plan = plan.make(self.resources, self.answers)


def planned(site: Site) -> Event:
    return Planned(site.name, site.plan)


def this_tree(name: str, facts: Answers) -> str | None:
    """Every host should run the release that is made of this tree."""
    return None


class Run:
    """One way through the hosts of an inventory."""

    def __init__(
        self,
        folder: Path,
        roles: Roles,
        options: Options,
        connect: Connect,
        choose: Choose = this_tree,
    ) -> None:
        self.inventory = inventory.load(folder, options.limit)
        self.roles = roles
        self.options = options
        self.sites: list[Site] = []
        self.failed: dict[str, ToolkitError] = {}
        names = [host.name for host in self.inventory.hosts]
        self.report = reporter(options, names)
        self._connect = connect
        self._choose = choose
        self._sessions: list[Session] = []
        self._tags = tags.parse(
            options.tags, [role.__name__ for group in roles.values() for role in group]
        )
        self._building = Lock()
        self._artifacts: dict[Target, Artifact] = {}
        self._id = token_hex(4)
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
        """The hosts that are not as wanted, and can be made so."""
        return [site for site in self.sites if site.plan.changes and site.name not in self.failed]

    @property
    def status(self) -> int:
        """The worst of all hosts that failed."""
        return max((error.status for error in self.failed.values()), default=0)

    def groups(self) -> list[list[str]]:
        """Names of hosts by the first group that says what they are for, in the roles' order."""
        left, found = list(self.inventory.hosts), []
        for name in self.roles:
            found.append([host.name for host in left if name in host.groups])
            left = [host for host in left if name not in host.groups]
        return [group for group in found if group]

    def everyone(self) -> Iterator[tuple[str, list[Resource]]]:
        """Every host of the inventory, in this run or not, and what it should be."""
        for host in self.inventory.everyone:
            yield host.name, self.resources(host, release.named("any"))

    def question(self, verb: str) -> str:
        """What to ask before anything is changed."""
        without = ", ".join(self.failed)
        return f"{verb} (without {without})?" if without else f"{verb}?"

    # -- asking -------------------------------------------------------------------------

    def probe(self, told: Callable[[Site], Event] = planned) -> None:
        """Plan every host and tell of each."""
        known = self.inventory.hosts
        results = dict(hosts.each(known, self._probe, self.options.parallel))
        for host in known:
            result = results[host]
            if isinstance(result, ToolkitError):
                self.fail(host.name, result)
                continue
            self.sites.append(result)
            self.report.show(told(result))
            if result.plan.problems:
                self.failed[host.name] = HostFailed("no plan can be made for it")

    def _probe(self, host: Host) -> Site:
        session = self._connect(host)
        self._sessions.append(session)
        facts = session.ask(FACTS)
        root = "" if host.become else "; it takes root to look, and ansible_become is false"
        for question, answer in facts.items():
            if isinstance(answer, Unknown):
                raise HostFailed(f"it cannot tell its {question[0]}: {answer.reason}{root}")
        id = self._choose(host.name, facts)
        if id is None:
            artifact = self._artifact(release.target(facts["host",]))
            resources = self.resources(host, artifact)
        else:
            artifact = release.named(id)
            kept = facts["releases", ON_HOSTS]["kept"]
            if artifact.path is None and id not in kept:
                known = ", ".join(kept) or "none"
                raise HostFailed(
                    f"it keeps no release {id}, nor does this machine; it keeps {known}"
                )
            release.must_fit(artifact, release.target(facts["host",]))
            resources = self.restored(session, self.resources(host, artifact))
        return Site(host, session, resources, facts, artifact.id)

    def resources(self, host: Host, artifact: Artifact) -> list[Resource]:
        """What ``host`` should be, as far as the tags that were asked for go."""
        found = [
            resource
            for group, roles in self.roles.items()
            if group in host.groups
            for role in roles
            for resource in role(host, self.inventory, artifact)
            if tags.matches(self._tags, role.__name__, resource)
        ]
        again = self.options.again
        return [replace(one, again=again) if isinstance(one, Release) else one for one in found]

    def restored(self, session: Session, resources: Sequence[Resource]) -> list[Resource]:
        """The same with the unit files that this release ran with, where they are kept."""
        return as_kept(resources, session.ask)

    def _artifact(self, target: Target) -> Artifact:
        with self._building:
            if target not in self._artifacts:
                artifact = release.built(target)
                if artifact is None:
                    self.report.show(Building(target))
                    artifact = release.build(target)
                self._artifacts[target] = artifact
            return self._artifacts[target]

    # -- changing -----------------------------------------------------------------------

    def lock(self) -> None:
        """Lock every host, or none: one that somebody else has locked raises Locked."""
        # In one order for every run, so that two runs never have each other's hosts.
        for site in sorted(self.sites, key=lambda site: site.name):
            site.session.lock(hosts.holder())
        if made := authority.keep(self.inventory.everyone[0].folder):
            self.report.say(f"the certificate authority of this fleet is new: {made}; keep its key")

    def each(self, sites: Iterable[Site], step: Callable[[Site], None]) -> None:
        """Do a step at all sites at once, and tell where it fails."""
        for site, result in hosts.each(sites, step, self.options.parallel):
            if isinstance(result, ToolkitError):
                self.fail(site.name, result)

    def fail(self, name: str, error: ToolkitError) -> None:
        self.failed[name] = error
        self.report.show(Failed(name, error, self.seconds))

    def recheck(self, site: Site) -> None:
        """What is applied is what was shown, or less, though the host lives on in between."""
        shown = _operations(site.plan)
        site.probe()
        if not all(operation in shown for operation in _operations(site.plan)):
            raise HostFailed("it has changed since its plan was made: deploy again")

    def stage(self, site: Site) -> None:
        """All that touches nothing that runs."""
        self.carry_out(site, site.plan.changes[: site.plan.staged])

    def finish(self, site: Site) -> None:
        """The rest; the host must then be as wanted."""
        self._complete(site, site.plan.changes[site.plan.staged :])

    def finish_all(self, site: Site, how: Callable[[Change], Change] = lambda each: each) -> None:
        """All of it, as it is now; the host must then be as wanted."""
        site.probe()
        self._complete(site, [how(change) for change in site.plan.changes])

    def _complete(self, site: Site, changes: Sequence[Change]) -> None:
        self.carry_out(site, changes)
        site.probe()
        if site.plan.changes or site.plan.problems:
            raise _unlike(site.plan)

    def carry_out(self, site: Site, changes: Sequence[Change]) -> None:
        if not changes:
            return
        self.report.show(Begun(site.name))
        outcomes = site.session.apply([change.operation for change in changes])
        for change, outcome in zip(changes, outcomes, strict=True):
            self.report.show(Applied(site.name, change, outcome))
            if outcome.error is not None:
                raise _failure(change, outcome)
            site.applied += 1

    def record(self, site: Site, error: ToolkitError | None = None, result: str = "ok") -> None:
        """Write down on the host what was done there; what cannot be written stops nothing."""
        if isinstance(error, Unreachable):
            return  # which has been told
        if error is not None:
            result = f"failed: {str(error).splitlines()[0]}"
        entry: dict[str, Any] = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "run": self._id,
            **hosts.operator(),
            "release": site.release,
            "from": site.before,
            "changes": site.applied,
            "result": result,
            "seconds": round(self.seconds, 1),
        }
        try:
            site.session.record(HISTORY, entry)
        except ToolkitError as error:
            self.report.say(f"{site.name}: its history lacks this run: {error}")


def _operations(made: Plan) -> list[Operation]:
    return [change.operation for change in made.changes]


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
