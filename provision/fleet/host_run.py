"""A host within a run: what it should be, what is left to change, and how that is changed."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import takewhile
from threading import Event

from provision import plan
from provision.agent.signed import UNSIGNED
from provision.errors import HostFailed, Interrupted
from provision.fleet.pool import describe_operator
from provision.fleet.release_track import OWN, ReleaseTrack
from provision.fleet.signing import with_signatures
from provision.inventory.host import Host
from provision.plan import Plan
from provision.release.build import Artifact
from provision.remote.messages import Operation, OperationOutcome
from provision.remote.session import Session
from provision.report.denials import find_denials
from provision.report.events import Applied, Begun
from provision.report.reporter import Reporter
from provision.report.shell import advice_for
from provision.resources.base import Answers, Change, Resource
from provision.wording import format_count

OUTPUT_LINES = 20  # of what a failed command said


@dataclass(eq=False)
class HostRun:
    """A host with a session to it; every step is shown by ``report``."""

    host: Host
    session: Session
    report: Reporter
    resources: Sequence[Resource]
    answers: Answers
    artifact: Artifact  # that it should run, with those of its apps
    track: ReleaseTrack = OWN  # what the run moves
    plan: Plan = field(init=False)
    applied: int = 0  # changes
    begun: int = 0  # of the plan's changes, those that are not to be applied again
    rolled_back: str = ""  # how, where a change failed and what ran goes on
    workers_failed: bool = False  # as they would on other hosts
    is_tried: bool = False  # its workers are, where job servers had not yet moved
    due: int = 0  # changes of the plan that is carried out
    in_progress: Change | None = None  # begun, and its outcome is not known yet
    is_begun: bool = False  # as its history tells
    is_finished: bool = False  # as wanted, after its changes
    stopping: Event = field(default_factory=Event)  # the operator has interrupted the run

    def __post_init__(self) -> None:
        self.before: dict[str, str | None] = {  # what is in use; of an app by its name
            name: self.answers[ReleaseTrack(name).question]["current"]
            for name in ("", *dict(self.artifact.apps))
        }
        self.release_before = self.before[self.track.app]
        self.make_plan()

    @property
    def release(self) -> str:
        """The id of what it should run, as far as the run moves it."""
        return self.track.release_of(self.artifact)

    @property
    def kept_tracks(self) -> list[ReleaseTrack]:
        """Those whose release in use should stay."""
        tracks = map(ReleaseTrack, self.before)
        return [each for each in tracks if each.release_of(self.artifact) == self.before[each.app]]

    @property
    def name(self) -> str:
        return self.host.name

    @property
    def operations(self) -> list[Operation]:
        """Those of its plan."""
        return [change.operation for change in self.plan.changes]

    @property
    def closes_server(self) -> bool:
        """Whether its job server leaves the fleet."""
        return any(change.operation.kind == "close_server" for change in self.plan.changes)

    def make_plan(self) -> None:
        """Ask everything again, and plan what is left to change now."""
        self.answers = {**self.answers, **self.session.ask(plan.questions_of(self.resources))}
        self.plan = plan.make_plan(self.resources, self.answers)

    def recheck_plan(self) -> None:
        """What is applied is what was shown, or less, though the host lives on in between."""
        shown = self.operations
        self.make_plan()
        if self.plan.problems:
            raise HostFailed("; ".join(each.message for each in self.plan.problems))
        if not all(operation in shown for operation in self.operations):
            command = describe_operator()["doing"]
            raise PlanOutdated(f"it has changed since its plan was made: run `{command}` again")
        self.due = len(self.plan.changes)

    def stage_changes(self) -> None:
        """Apply all that touches nothing that runs."""
        if self.plan.staged:
            self.report.show(Begun(self.name))
        self._apply(self.plan.changes[: self.plan.staged])
        self.begun = self.plan.staged

    def apply_before(self, touched: AbstractSet[str]) -> None:
        """Apply what comes before the first change of one of these: units' names, and paths."""

        def is_before(change: Change) -> bool:
            arguments = change.operation.arguments
            return touched.isdisjoint((arguments.get("name"), arguments.get("path")))

        self._begin_with(takewhile(is_before, self.plan.changes[self.begun :]))

    def apply_for_trial(self) -> None:
        """Apply what a trial needs, and nothing that the host's own job server is concerned by."""
        self._begin_with(self.plan.changes[self.begun : self.plan.for_trial])

    def _begin_with(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self.go_on()
            self._apply([change])
            self.begun += 1

    def finish_changes(self) -> None:
        """Apply the rest; the host must then be as wanted."""
        self._complete(self.plan.changes[self.begun :])

    def apply_all(self, how: Callable[[Change], Change] = lambda each: each) -> None:
        """Apply all that is left now, each change as ``how`` makes it; see finish_changes()."""
        self.make_plan()
        self._complete([how(change) for change in self.plan.changes])

    def go_on(self) -> None:
        """Raises :class:`Interrupted` when the operator has interrupted the run."""
        if self.stopping.is_set():
            raise self.interrupted()

    def interrupted(self) -> Interrupted:
        """What is said of it where the operator has interrupted the run."""
        return Interrupted(f"interrupted after {format_count(self.applied, 'change')}")

    def _complete(self, changes: Sequence[Change]) -> None:
        if changes:
            self.report.show(Begun(self.name))
        for change in changes:  # one by one: an interrupt stops between two
            self.go_on()
            self._apply([change])
        self.make_plan()
        if self.plan.changes or self.plan.problems:
            raise _still_different(self.plan)

    def _apply(self, changes: Sequence[Change]) -> None:
        left = deque(changes)
        self.in_progress = left[0] if left else None
        operations = list(
            with_signatures(self.host.signing_key, (each.operation for each in changes))
        )
        for outcome in self.session.apply(operations):
            if outcome.operation.kind == "signature" and outcome.error is None:
                continue
            change = left.popleft()
            self.report.show(Applied(self.name, change, outcome))
            if outcome.error is not None:
                raise _change_failed(change, outcome)
            if change.operation.kind in ("close_server", "drain_server") and outcome.output:
                self.report.say(f"{self.name}: {outcome.output.splitlines()[-1]}")
            self.applied += 1
            self.in_progress = left[0] if left else None


class PlanOutdated(HostFailed):
    """The host is no longer as it was when its plan was shown."""


class ChangeFailed(HostFailed):
    """An operation failed; the message has what was said: of a unit, its journal's last lines.

    ``concerns_unit``: a unit did not do what it was told.
    """

    concerns_unit = False


def restart_instead(change: Change) -> Change:
    """The same change without a reload."""
    operation = change.operation
    if operation.kind != "unit" or operation.arguments["action"] != "reload":
        return change
    arguments = {**operation.arguments, "action": "restart"}
    return Change(change.sign, change.summary, Operation("unit", arguments), change.reason)


def _change_failed(change: Change, outcome: OperationOutcome) -> ChangeFailed:
    """What was tried, what the host said, and what to try next."""
    said = outcome.output.splitlines()[-OUTPUT_LINES:]
    operation, cures = outcome.operation, []
    if operation.kind in ("unit", "program"):
        cures = [cure for _, cure in find_denials(operation.arguments["name"], said)]
    lines = [f"{change.summary}: {outcome.error}", *(f"| {line}" for line in said)]
    refused = (outcome.error or "").startswith(UNSIGNED)  # which says what to do
    advice = [] if refused else cures or [advice_for(operation)]
    failed = ChangeFailed("\n".join([*lines, *(f"try: {each}" for each in advice)]))
    failed.concerns_unit = operation.kind in ("unit", "program")
    return failed


def _still_different(left: Plan) -> HostFailed:
    """All was done and said to be well, and the host is still not as wanted."""
    lines = [f"{change.sign} {change.summary} ({change.reason})" for change in left.changes]
    lines += (f"{problem.sign} {problem.message}" for problem in left.problems)
    first, *more = lines
    return HostFailed("\n".join([f"every change was applied, and is due again: {first}", *more]))
