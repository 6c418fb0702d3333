"""The hosts of one run: asked, planned, locked, changed, and asked again.

Every host is connected to, asked and planned at once, before anything is changed anywhere. What
is true is on the hosts: nothing is remembered here between runs, and an interrupted run is
resumed by the next one, which plans what is left. Whatever is done to a host is told there, in
its history.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from provision.errors import HostFailed, RolledBack, ToolkitError, Unreachable
from provision.fleet import past_runs
from provision.fleet import pool as hosts
from provision.fleet.app_share import hosts_with
from provision.fleet.before_change import find_ran
from provision.fleet.choice import ChooseRelease, bad_releases, previous_release, running_release
from provision.fleet.desired_state import DesiredState, Roles, kept_artifact
from provision.fleet.host_run import HostRun, PlanOutdated
from provision.fleet.past_runs import BACK, GATED, RETIRES
from provision.fleet.release_track import OWN, ReleaseTrack
from provision.fleet.run_record import RunRecord
from provision.inventory import load as inventory
from provision.inventory.drained import DRAINED_QUESTION, mark_drained
from provision.inventory.host import Host, Inventory
from provision.inventory.schedules import SCHEDULES_QUESTION, find_schedules, place_schedules
from provision.inventory.workers import WorkerDefinition, open_secrets
from provision.options import Options
from provision.release.app import app_workers, apps_of
from provision.release.app_check import check_apps
from provision.release.app_source import App
from provision.release.build import ON_HOSTS, Artifact, named_release
from provision.release.target import target_of
from provision.remote.messages import Question, Unknown
from provision.remote.session import Session
from provision.report.events import Event, Failed, Planned
from provision.report.folding import fold_names
from provision.report.reporter import make_reporter
from provision.resources.base import Answers, Resource
from provision.resources.kept import as_kept, without_new_workers

PARTIAL = (
    "its job server leaves once all workers and clients know the others: without --limit and --tags"
)

Connect = Callable[[Host], Session]


def planned(host_run: HostRun) -> Event:
    return Planned(host_run.name, host_run.plan)


class Run:
    """One way through the hosts of an inventory."""

    leaving: Collection[str] = ()  # the names of hosts that a retirement takes out

    def __init__(
        self,
        folder: Path,
        roles: Roles,
        options: Options,
        connect: Connect,
        choose: ChooseRelease = running_release,
        track: ReleaseTrack | None = None,
    ) -> None:
        self.track = track or OWN
        self._loaded = self.inventory = self._load_inventory(folder, options.limit)
        open_secrets(self.inventory.hosts)
        self.options = options
        self.host_runs: list[HostRun] = []
        self.failed: dict[str, ToolkitError] = {}
        names = [host.name for host in self.inventory.hosts]
        self.report = make_reporter(options, names, plans=True)
        for text in self.inventory.warnings:
            self.report.say(text)
        self.desired = DesiredState(self.inventory, roles, options, self.report, track)
        self.goes_back = False  # it is a rollback
        self.stopping = threading.Event()  # the operator has interrupted it
        self.at_work: set[str] = set()  # hosts
        self._connect = connect
        self._choose = choose
        self._moves = track is not None
        self._sessions: dict[str, Session] = {}
        self.fleet: dict[str, Answers] = {}  # what hosts answered
        self._written = RunRecord(self.report)
        self.start_clock()

    def _load_inventory(self, folder: Path, limit: str | None) -> Inventory:
        return hosts_with(self.track.app, inventory.load(folder, limit))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: object, where: TracebackType | None) -> None:
        for session in self._sessions.values():
            session.close()
        self._written.tell_dashboards(self._loaded, self._connect)

    @property
    def takes_limit(self) -> bool:
        """Whether the same could be done for the hosts that were not begun."""
        if any(each.closes_server or each.workers_failed for each in self.host_runs):
            return False
        return not any(
            isinstance(each, PlanOutdated) or each.status == RolledBack.status
            for each in self.failed.values()
        )

    def start_clock(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def pending(self) -> list[HostRun]:
        """The hosts that are not as wanted, or that an earlier run has left, and can be made so."""
        is_left = past_runs.is_unfinished if self._moves else past_runs.is_retiring
        due = filter(self.is_well, self.host_runs)
        return [each for each in due if each.plan.changes or is_left(each)]

    def is_well(self, host_run: HostRun) -> bool:
        """Whether nothing has failed there."""
        return host_run.name not in self.failed

    @property
    def status(self) -> int:
        """The worst of all hosts that failed."""
        return max((error.status for error in self.failed.values()), default=0)

    # -- asking -------------------------------------------------------------------------

    def plan_hosts(self, to_event: Callable[[HostRun], Event] = planned) -> None:
        """Plan every host and tell of each. A mistake in an app's source ends it before that.

        It can be done again; the sessions stay, and with them the locks.
        """
        self.inventory, self.host_runs, self.failed = self._loaded, [], {}
        parallel = self.options.parallel
        asked = dict(hosts.run_on_each(self.inventory.hosts, self._ask_host, parallel))
        self.fleet = {host.name: facts for host, facts in asked.items() if isinstance(facts, dict)}
        self._ask_others()
        self.desired.bad = bad_releases(self.fleet)
        known = mark_drained(self.inventory, self.find_drained())
        self.inventory = place_schedules(known, self._find_schedules())
        self.desired.know(self.inventory)
        answered = [host for host in self.inventory.hosts if host.name in self.fleet]
        self._check_apps(answered)
        results: dict[str, HostRun | ToolkitError] = {
            host.name: error for host, error in asked.items() if isinstance(error, ToolkitError)
        }
        planned = hosts.run_on_each(answered, self._plan_host, parallel)
        results |= {host.name: result for host, result in planned}
        for host in self.inventory.hosts:
            result = results[host.name]
            if isinstance(result, ToolkitError):
                self.fail(host.name, result)
                continue
            self.host_runs.append(result)
            self.report.show(to_event(result))
            if result.plan.problems:
                self.failed[host.name] = HostFailed("no plan can be made for it")
            elif result.closes_server and self.is_partial:
                self.fail(host.name, HostFailed(PARTIAL))

    @property
    def is_partial(self) -> bool:
        """Whether workers and clients may go on that know a job server which leaves."""
        left_out = len(self.inventory.hosts) < len(self.inventory.everyone)
        return left_out or bool(self.options.tags)

    def _check_apps(self, known: Iterable[Host]) -> None:
        """Raises :class:`ToolkitError` for mistakes in apps whose files are to be sent."""
        if self._choose is previous_release:
            return
        wanted: dict[App, list[WorkerDefinition]] = {}
        for host in known:
            for app, worker in app_workers(host):
                if self._choose_release(host.name, ReleaseTrack(app.name)) is None:
                    wanted.setdefault(app, []).append(worker)
        check_apps(wanted)

    def _session_with(self, host: Host) -> Session:
        if host.name not in self._sessions:
            self._sessions[host.name] = self._connect(host)
        return self._sessions[host.name]

    def _ask_host(self, host: Host) -> Answers:
        questions = (*self._first_questions(host), *self._release_questions(apps_of(host)))
        facts = self._session_with(host).ask(questions)
        root = "" if host.become else "; it takes root to look, and ansible_become is false"
        for question, answer in facts.items():
            if isinstance(answer, Unknown):
                raise HostFailed(f"it cannot tell its {question[0]}: {answer.reason}{root}")
        return facts

    @staticmethod
    def _first_questions(host: Host) -> tuple[Question, ...]:
        is_server = "job_server" in host.groups
        return (*past_runs.FACTS, DRAINED_QUESTION, *([SCHEDULES_QUESTION] if is_server else ()))

    @staticmethod
    def _release_questions(apps: Iterable[str]) -> list[Question]:
        return [ReleaseTrack(name).question for name in ("", *apps)]

    def _needs_fleet(self) -> bool:
        """Whether hosts that the run leaves out know more of releases than those in it."""
        told = (each.items() for each in self.fleet.values())
        known = [answer for one in told for question, answer in one if question[0] == "releases"]
        return self._choose is not running_release or None in [each["current"] for each in known]

    def find_drained(self) -> set[str]:
        """The names of hosts whose job server is drained, as far as they were asked."""
        return {name for name, facts in self.fleet.items() if facts.get(DRAINED_QUESTION)}

    def _find_schedules(self) -> dict[str, set[str]]:
        """Which schedules of the inventory each job server has, as far as they were asked."""
        told = {name: facts.get(SCHEDULES_QUESTION) for name, facts in self.fleet.items()}
        return {n: set(find_schedules(each)) for n, each in told.items() if isinstance(each, dict)}

    def _ask_others(self) -> None:
        """What others run and gave up (job servers: are drained); those away are passed over."""
        known = self.inventory.hosts
        others = [each for each in self.inventory.everyone if each not in known]
        if others and not self._needs_fleet():
            servers = self.inventory.group("job_server")
            others = [each for each in others if each in servers and len(servers) > 1]

        apps = dict.fromkeys(name for host in self.inventory.hosts for name in apps_of(host))
        releases = self._release_questions(apps)

        def ask(host: Host) -> Answers:
            return self._session_with(host).ask((*self._first_questions(host), *releases))

        for host, facts in hosts.run_on_each(others, ask, self.options.parallel):
            if isinstance(facts, dict):
                self.fleet[host.name] = facts

    def _plan_host(self, host: Host) -> HostRun:
        session, facts = self._sessions[host.name], self.fleet[host.name]
        artifact = self._choose_artifact(host, facts)
        apps = ((name, self._choose_app(host, app, facts)) for name, app in apps_of(host).items())
        artifact = replace(artifact, apps=tuple(apps))
        resources = self._resources_of(host, artifact)
        if self._moves and (id := self._choose_release(host.name, self.track)):
            resources = as_kept(resources, session.ask)  # with the unit files that it ran with
            if self.goes_back and self.track.app and (ran := find_ran(session, self.track, id)):
                resources = without_new_workers(resources, ran)  # whose code it may lack
        made = HostRun(host, session, self.report, resources, facts, artifact, self.track)
        made.stopping = self.stopping
        return made

    def _resources_of(self, host: Host, artifact: Artifact) -> list[Resource]:
        return self.desired.resources_of(host, artifact)

    def _choose_artifact(self, host: Host, facts: Answers) -> Artifact:
        """The release that a host should run."""
        current, kept = (facts["releases", ON_HOSTS][key] for key in ("current", "kept"))
        if current is None and self.track.app:
            raise HostFailed(OWN.absence)
        id = self._choose_release(host.name, OWN)
        if id is None:
            return self.desired.tree_artifact(facts)
        if not self._moves and id == current:
            target_of(facts["host",])  # raises where nothing of ours could start again
            return named_release(id)
        try:
            return kept_artifact(id, facts["host",], kept)
        except HostFailed:
            if self._choose is running_release:  # of hosts that have another Python
                return self.desired.tree_artifact(facts)
            raise

    def _choose_app(self, host: Host, app: App, facts: Answers) -> Artifact:
        """The release of an app that a host should use; of the files here if none was chosen."""
        track = ReleaseTrack(app.name)
        id = self._choose_release(host.name, track)
        if id is None:
            return self.desired.app_artifact(app, facts["host",])
        known = facts[track.question]
        if id == known["current"]:
            return track.named(id)
        return kept_artifact(id, facts["host",], known["kept"], track)

    def _choose_release(self, name: str, track: ReleaseTrack) -> str | None:
        """A run that moves releases of one track leaves the others as they are."""
        choose = self._choose if track == self.track or not self._moves else running_release
        return choose(name, self.fleet, track)

    def confirm(self, verb: str) -> bool:
        """Ask before anything is changed, unless that was answered with --yes."""
        without = f" (without {fold_names(list(self.failed))})" if self.failed else ""
        return self.options.yes or self.report.confirm(f"{verb}{without}?")

    # -- changing -----------------------------------------------------------------------

    def for_each(self, host_runs: Iterable[HostRun], step: Callable[[HostRun], None]) -> None:
        """Do a step at all of these at once, and tell where it fails.

        An interrupt stops them between two changes; ``at_work`` are then those that did not stop.
        """

        def take_step(host_run: HostRun) -> None:
            self.at_work.add(host_run.name)
            try:
                step(host_run)
            finally:
                self.at_work.discard(host_run.name)

        parallel = self.options.parallel
        for host_run, result in hosts.run_on_each(
            host_runs, take_step, parallel, self.stopping.set
        ):
            if isinstance(result, ToolkitError):
                self.fail(host_run.name, result)

    def fail(self, name: str, error: ToolkitError) -> None:
        self.failed[name] = error
        self.report.show(Failed(name, error, self.seconds))

    def record(
        self, host_run: HostRun, error: ToolkitError | None = None, result: str = "ok"
    ) -> None:
        """Write down on the host what was done there; what cannot be written stops nothing."""
        if isinstance(error, Unreachable):
            return  # which has been told
        if error is not None:
            result = past_runs.describe_failure(error)
        leaves = host_run.name in self.leaving
        flags = {BACK: self.goes_back, GATED: self._moves, RETIRES: leaves}
        self._written.add(host_run, result, self.seconds, flags)
