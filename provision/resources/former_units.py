"""Units of ours that the inventory does not name any more: stopped, disabled, removed."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from provision.invoke_line import invoke_line
from provision.remote.messages import Operation, Question
from provision.resources.base import Answers, Change, Problem, Resource
from provision.resources.files import removal_change
from provision.resources.unit import FOLDER, RELOAD, unit_change
from provision.wording import format_count

WHY = "the inventory does not have it"
REPLACED = "the new one takes its place"
NEWER = "the release that it goes back to ran without it"


@dataclass(frozen=True)
class FormerUnits(Resource):
    """No unit of ours whose name matches ``pattern``, but those ``wanted``, and those of ``files``.

    ``newer``: units, without suffix, that the inventory has and an earlier release ran without.
    ``why``: of all others.
    systemd waits for a unit that it stops: a worker finishes its job.
    """

    pattern: str
    wanted: tuple[str, ...]
    files: tuple[str, ...] = ()
    newer: tuple[str, ...] = field(default=(), kw_only=True)
    why: str = field(default=WHY, kw_only=True)

    def questions(self) -> Iterable[Question]:
        return [self.question]

    @property
    def question(self) -> Question:
        return ("units", self.pattern)

    def former_units(self, answers: Answers) -> dict[str, Mapping[str, bool]]:
        """The units of ours that are there, and not wanted; workers first."""
        found = [
            name
            for name, state in answers[self.question].items()
            if state["ours"] and name not in (*self.wanted, *self.files)
        ]
        order = sorted(found, key=lambda name: "@" not in name)
        return {name: answers[self.question][name] for name in order}

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        former = self.former_units(answers)
        for name, found in former.items():
            action = "stop" if found["active"] else None
            if found["failed"]:  # systemd would list it as failed for as long as the host is up
                action = "reset-failed"
            if action or found["enabled"]:
                disable = False if found["enabled"] else None
                yield unit_change("-", name, action, disable, self._why(name))
        yield from self._removals(former)

    def _removals(self, former: Mapping[str, Mapping[str, bool]]) -> Iterator[Change]:
        files = [name for name, found in former.items() if found["file"]]
        for name in files:
            yield removal_change(f"{FOLDER}/{name}", "", self._why(name))
        if files:
            yield RELOAD

    def _why(self, name: str) -> str:
        stem, instance = name.removesuffix(".service"), _program_of(name)
        if {stem, instance} & {*self.newer}:
            return NEWER
        replaced = instance and instance in map(_program_of, self.wanted)
        return REPLACED if replaced else self.why

    @property
    def needs(self) -> frozenset[str]:
        """What takes a unit's place runs first."""
        return frozenset(f"unit:{name}" for name in self.wanted)


@dataclass(frozen=True)
class FormerServer(FormerUnits):
    """No job server of ours, once no job is in its queue, the ``folder``.

    ``admin``: the socket at which it is asked. ``servers``: those that its jobs are moved to by
    ``command``; without any, it stays while it has jobs.
    """

    folder: str = ""
    admin: str = ""
    servers: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    def questions(self) -> Iterable[Question]:
        return [self.question, self._queue_question]

    def jobs_left(self, answers: Answers) -> Mapping[str, int]:
        """How many jobs of each function it holds."""
        queue = answers[self._queue_question]
        return queue["jobs"] if queue and (queue["kept"] or self.former_units(answers)) else {}

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        queue, former = answers[self._queue_question], self.former_units(answers)
        jobs = self.jobs_left(answers)
        if jobs and not (self.servers and former):
            yield Problem(
                f"its job server holds {format_jobs(jobs)}, which would be stranded: add another "
                "to group job_server, which takes them, or keep it there until workers have done "
                f"them (`{invoke_line('status')}` shows them)"
            )
            return
        if jobs or any(found["active"] or found["enabled"] for found in former.values()):
            yield self._close_change(former, jobs)
        yield from self._removals(former)
        if queue and queue["kept"]:
            operation = Operation("remove_queue", {"folder": self.folder})
            yield Change("-", f"queue {self.folder}", operation, "no job is in it")

    def _close_change(self, former: Iterable[str], jobs: Mapping[str, int]) -> Change:
        arguments = {"folder": self.folder, "admin": self.admin, "command": list(self.command)}
        summary = f"stop {' and '.join(sorted(former)) or 'the job server'}"
        if jobs:
            summary = f"move {format_jobs(jobs)} to {', '.join(self.servers)} and {summary}"
        return Change("-", summary, Operation("close_server", arguments), self.why)

    @property
    def _queue_question(self) -> Question:
        return ("queue", self.folder, self.admin)


def _program_of(name: str) -> str:
    """Of the unit of a program, whose name ends with a digest, what is before that; else ""."""
    stem = name.removesuffix(".service")
    return stem.rpartition(".")[0] if "@" in stem else ""


def format_jobs(jobs: Mapping[str, int]) -> str:
    """How many, in all and of each function."""
    told = ", ".join(f"{name} {number}" for name, number in sorted(jobs.items()))
    return f"{format_count(sum(jobs.values()), 'job')} ({told})"
