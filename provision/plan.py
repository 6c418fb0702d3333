"""Resources and answers make a plan: what must change, in which order, and why.

Pure: no host, no clock. The order follows from what resources need of each other; where
nothing follows, the order in which roles yield them stays.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

from provision.errors import ToolkitError
from provision.remote.messages import Question, Unknown
from provision.remote.questions import check_question, format_question
from provision.resources.base import Answers, Change, Problem, Resource

EARLY, RELEASE, FOR_TRIAL, LATE = range(4)  # the parts of a plan, in their order


@dataclass(frozen=True)
class Plan:
    """What must change on one host; ``problems`` are for a person, and forbid applying it."""

    resources: int
    changes: tuple[Change, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def staged(self) -> int:
        """How many of the changes touch nothing that runs: those that come first, and the release.

        It is the slow one and the likeliest to fail, and the rest is done in a moment. It is
        tried as the accounts that will run it, with their secrets.
        """
        return sum(rank < FOR_TRIAL for rank in _rank_changes(self.changes))

    @property
    def for_trial(self) -> int:
        """How many come first: those that are staged, and what a trial needs beside."""
        return sum(rank <= FOR_TRIAL for rank in _rank_changes(self.changes))


def questions_of(resources: Iterable[Resource]) -> list[Question]:
    """Every question once, in the order first asked. Raises :class:`ValueError` for a wrong one."""
    found = list(dict.fromkeys(question for each in resources for question in each.questions()))
    for question in found:
        check_question(question)
    return found


def make_plan(resources: Iterable[Resource], answers: Answers) -> Plan:
    """The plan for one host. Raises :class:`ToolkitError` when two resources contradict."""
    order = order_resources(resources)
    steps = [step for resource in order for step in _changes_of(resource, answers)]
    changes = (step for step in steps if isinstance(step, Change))
    problems = dict.fromkeys(step for step in steps if isinstance(step, Problem))
    return Plan(len(order), tuple(_staged_first(_reload_late(changes))), tuple(problems))


def order_resources(resources: Iterable[Resource]) -> list[Resource]:
    """Each resource after those that provide what it needs, otherwise as given; equal ones once."""
    unique = list(dict.fromkeys(resources))
    provider = _find_providers(unique)
    order: list[Resource] = []
    placed: set[int] = set()  # their ids: to hash one takes its content

    def place(resource: Resource, path: tuple[Resource, ...]) -> None:
        if id(resource) in placed:
            return
        if resource in path:
            circle = " -> ".join(", ".join(sorted(each.provides)) for each in (*path, resource))
            raise ToolkitError(f"these need each other: {circle}")
        for need in sorted(resource.needs):
            if need in provider and provider[need] is not resource:
                place(provider[need], (*path, resource))
        placed.add(id(resource))
        order.append(resource)

    for resource in unique:
        place(resource, ())
    return order


def _find_providers(resources: Sequence[Resource]) -> dict[str, Resource]:
    provider: dict[str, Resource] = {}
    for resource in resources:
        for key in resource.provides:
            if key in provider:
                what = key.replace(":", " ", 1)
                raise ToolkitError(f"two roles of one host want different things of {what}")
            provider[key] = resource
    return provider


def _changes_of(resource: Resource, answers: Answers) -> Iterator[Change | Problem]:
    unknown = [
        Problem(f"{format_question(question)}: {answer.reason}", "?")
        for question in resource.questions()
        if isinstance(answer := answers[question], Unknown)
    ]
    return iter(unknown) if unknown else resource.plan_changes(answers)


def _staged_first(changes: Iterable[Change]) -> list[Change]:
    """Every release, with the folders that it is in, before the first change of what is in use.

    Then comes what a trial of the release needs, and is not staged.
    """
    found = list(changes)
    ranked = zip(_rank_changes(found), found, strict=True)
    return [change for _, change in sorted(ranked, key=itemgetter(0))]


def _rank_changes(changes: Sequence[Change]) -> list[int]:
    """Of each change in which part of a plan it is: EARLY, RELEASE, FOR_TRIAL or LATE."""
    releases = [change.operation for change in changes if change.operation.kind == "release"]
    roots = [f"{each.arguments['root']}/releases/" for each in releases]
    early = [_path_of(change) for change in changes if _is_early(change)]
    tried = [_path_of(change) for change in changes if change.for_trial]

    def holds(change: Change, paths: Sequence[str]) -> bool:
        folder = f"{_path_of(change)}/"
        is_folder = change.operation.kind == "directory"
        return is_folder and any(path.startswith(folder) for path in paths)

    def rank(change: Change) -> int:
        if _is_early(change) or (change.sign == "+" and holds(change, early)):
            return EARLY
        if change.operation.kind == "release" or holds(change, roots):
            return RELEASE
        return FOR_TRIAL if change.for_trial or holds(change, tried) else LATE

    return list(map(rank, changes))


def _path_of(change: Change) -> str:
    return str(change.operation.arguments.get("path", ""))


def _is_early(change: Change) -> bool:
    """Whether it comes before a release, which is tried with it: packages, a new account, its
    folder, a secret, what else a trial needs and is new, or tells of an account."""
    kind, arguments = change.operation.kind, change.operation.arguments
    is_account = kind in ("group", "user")
    new = is_account or change.for_trial or (kind == "directory" and arguments["owner"] != "root")
    is_harmless = change.sign == "+" or (is_account and change.for_trial)
    return kind in ("packages", "secret") or (new and is_harmless)


def _reload_late(changes: Iterable[Change]) -> Iterator[Change]:
    """Put off a daemon-reload until a unit is touched, or to the end: one does for many files."""
    due: Change | None = None
    for change in changes:
        if change.operation.kind == "daemon_reload":
            due = change
            continue
        if due and change.operation.kind in ("unit", "program"):
            yield due
            due = None
        yield change
    if due:
        yield due
