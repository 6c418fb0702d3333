"""The unit of a job server, whose jobs may be in its memory alone."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from provision.remote.messages import Question
from provision.resources.base import Answers, Change, Problem
from provision.resources.former_units import format_jobs
from provision.resources.unit import Unit

STORES = "--queue-file"  # by which a unit's file says that jobs are on the disk


@dataclass(frozen=True)
class ServerUnit(Unit):
    """A unit of which a restart loses jobs if they are in memory; the plan then says how many.

    ``admin``: the socket at which it is asked.
    """

    kind = "unit"
    admin: str = ""

    def questions(self) -> Iterable[Question]:
        return [*super().questions(), self._queue_question]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        stored = STORES in self.file.current_text(answers)
        held = {} if stored else (answers[self._queue_question] or {}).get("jobs")
        for step in super().plan_changes(answers):
            if held and isinstance(step, Change) and _ends_process(step):
                lost = f"{step.reason}; {format_jobs(held)} in its memory are lost"
                yield replace(step, reason=lost)
            else:
                yield step

    @property
    def _queue_question(self) -> Question:
        # Without a folder: a server that does not answer may be restarted.
        return ("queue", "", self.admin)


def _ends_process(change: Change) -> bool:
    return change.operation.arguments.get("action") in ("restart", "stop")
