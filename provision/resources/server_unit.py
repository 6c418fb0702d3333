"""The unit of a job server, with whose process connections end, and jobs in its memory.

And the certificate of its database's authority.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from provision.invoke_line import invoke_line
from provision.remote.messages import Question
from provision.resources.base import Answers, Change, Problem
from provision.resources.files import File
from provision.resources.former_units import format_jobs
from provision.resources.queue_place import MEMORY, queue_place
from provision.resources.unit import ABSENT, Unit


@dataclass(frozen=True)
class ServerUnit(Unit):
    """A unit that is reloaded where its process can be, into another release or other settings.

    The new process takes over connections and jobs. A restart drops connections, and loses jobs
    that are in memory; the plan then says so, and how many.

    ``admin``: the socket at which it is asked. ``setting``: what says how its jobs are kept, and
    ``database``, in which database.
    """

    kind = "unit"
    admin: str = ""
    setting: str = ""
    database: str = ""

    def questions(self) -> Iterable[Question]:
        return [*super().questions(), self._queue_question]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        held = (answers[self._queue_question] or {}).get("jobs")
        place = queue_place(self.file.current_text(answers))
        wanted = queue_place(self.file.content.decode())
        if held and place not in ((MEMORY,), wanted):
            yield Problem(self._stranded_jobs(held, place[0], wanted[0]))
            return
        held = held if place == (MEMORY,) else {}
        runs = (answers["unit", self.name] or ABSENT)["active"] == "active"
        for step in super().plan_changes(answers):
            if runs and isinstance(step, Change) and _ends_process(step):
                lost = f"; {format_jobs(held)} in its memory are lost" if held else ""
                yield replace(step, reason=f"{step.reason}; connections are dropped{lost}")
            else:
                yield step

    def _stranded_jobs(self, held: Mapping[str, int], kind: str, wanted: str) -> str:
        text = f"its job server holds {format_jobs(held)}, which {{}} would not have: leave {{}} "
        text += f"until workers have done them (`{invoke_line('status')}` shows them)"
        if kind != wanted:
            return text.format(wanted, f"{self.setting} at {kind}")
        text = text.format("the other database", f"{self.database} as it was")
        return f"{text}; if they were copied there with the database, stop {self.name} first"

    def _action_for_release(self, found: Mapping[str, Any]) -> str:
        same = self.file.reload_key and found.get("reload_key") == self.file.reload_key
        return "reload" if same and found.get("room_for_two") else "restart"

    def _action_for_settings(self, found: Mapping[str, Any]) -> str:
        return self._action_for_release(found)

    @property
    def _queue_question(self) -> Question:
        # Without a folder: a server that does not answer may be restarted.
        return ("queue", "", self.admin)


class DatabaseCa(File):
    """It is there before the release is in use: the job server is tried with it."""

    kind = "file"

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        for step in super().plan_changes(answers):
            yield replace(step, for_trial=True) if isinstance(step, Change) else step


def _ends_process(change: Change) -> bool:
    return change.operation.arguments.get("action") in ("restart", "stop")
