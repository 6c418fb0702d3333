"""A program that speaks Gearman itself, as a unit whose name says what is in its file.

Another file, of another release or with other settings, is another unit. It begins beside the
one before, which is stopped when the job servers know the new one: no function is without a worker.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from provision.remote.messages import Operation, Question
from provision.render import render_template
from provision.resources.base import Answers, Change, Problem, Sign
from provision.resources.health import Health, Proof
from provision.resources.sample_jobs import Sample, accept_any
from provision.resources.unit import FOLDER, Unit, UnitFile, boot_change
from provision.resources.unit_text import find_openings

BEGIN_TIMEOUT = 60.0  # seconds in which the job servers must know it
DIGEST = 8  # digits, in a unit's name


@dataclass(frozen=True)
class ProgramFile(UnitFile):
    """Its unit's file; one of the same ``instance`` that it replaces has another name."""

    kind = "unit"
    instance: str = ""

    def questions(self) -> Iterable[Question]:
        return [*super().questions(), self._former_question]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        former = answers[self._former_question]
        for step in super().plan_changes(answers):
            if former and isinstance(step, Change) and step.sign == "+":
                yield self._replacement(step, *next(iter(former.items())))
            else:
                yield step

    def _replacement(self, written: Change, former: str, text: str) -> Change:
        """What was new is told as a change of the file before."""
        reason = "; ".join((f"in place of {former}", *find_openings(self.content.decode())))
        diff = self._diff_from(text.encode(), f"{FOLDER}/{former}")
        return replace(written, sign="~", reason=reason, diff=diff)

    @property
    def _former_question(self) -> Question:
        return ("unit_texts", f"gearman-worker@{self.instance}.{'[0-9a-f]' * DIGEST}.service")


def program_file(instance: str, template: str, **variables: object) -> ProgramFile:
    """The file of unit gearman-worker@INSTANCE.DIGEST, from ``templates/TEMPLATE``."""
    content = render_template(template, variables).encode()
    digest = hashlib.sha256(content).hexdigest()[:DIGEST]
    path = f"{FOLDER}/gearman-worker@{instance}.{digest}.service"
    return ProgramFile(path, content=content, instance=instance)


@dataclass(frozen=True)
class Program(Unit):
    """A unit that serves ``functions`` to ``servers``; ``folder`` is what it runs from."""

    kind = "unit"
    functions: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()
    folder: str = ""

    def _run_changes(
        self, found: Mapping[str, Any], changes: bool, whole: bool
    ) -> Iterator[Change]:
        enable = boot_change(found)
        if found["active"] != "active":
            yield self._start_change(found)
        elif found["outdated"]:
            yield self._own_change("~", "restart", enable, found["outdated"])
        elif changes:
            yield self._own_change("~", "restart", enable, "what it was started from is replaced")
        elif enable:
            yield self._own_change("~", None, enable, "it would not start at boot")

    def _own_change(self, sign: Sign, action: str | None, enabled: bool | None, why: str) -> Change:
        if action is None:
            return super()._own_change(sign, action, enabled, why)
        arguments = {
            "name": self.name,
            "enabled": enabled,
            "action": action,
            "functions": list(self.functions),
            "servers": list(self.servers),
            "seconds": BEGIN_TIMEOUT,
        }
        return Change(sign, f"{action} {self.name}", Operation("program", arguments), why)

    @property
    def needs(self) -> frozenset[str]:
        folder = {f"path:{self.folder}"} if self.folder else frozenset()
        return self._own_needs | folder


@dataclass(frozen=True)
class ProgramHealth(Health):
    """That a program serves ``functions``: it began only when the job servers knew it.

    ``asked``: the function of a job that shows it too, whichever worker does it; none, if empty.
    ``trial``: the program, as it does that job for a job server of its own before that, in a unit
    with these ``properties``. It is empty of further instances, which are like the first one
    (``is_tried``), and of a program that finds job servers in its own way. Where job servers speak
    TLS so does that of the trial, at one of the ``names`` of its host's certificate.
    """

    functions: tuple[str, ...]
    servers: tuple[str, ...]
    asked: str
    sample: Sample
    is_tried: bool = True
    trial: tuple[str, ...] = ()
    properties: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    names: tuple[str, ...] = ()

    def with_check(self, function: str, sample: Sample) -> "ProgramHealth":
        same = self.asked == function
        return replace(self, sample=sample) if same else replace(self, asked="")

    @property
    def served(self) -> tuple[str, ...]:
        return self.functions

    @property
    def pinged(self) -> "ProgramHealth | None":
        return replace(self, asked="") if self.asked else None

    def staged_proofs(self) -> Iterator[Proof]:
        if not self.trial:
            return
        arguments = {
            "server": [self._command_path("gearmand"), *(["--ssl", *self.tls] if self.tls else [])],
            "program": list(self.trial),
            "properties": list(self.properties),
            "environment": {**self._tls_environment, **dict(self.environment)},
            "functions": list(self.functions),
            "command": self._job_command(self.asked, *self.tls) if self.asked else [],
            "seconds": BEGIN_TIMEOUT,
            "names": list(self.names) if self.tls else [],
        }
        workload = self.sample.workload() if self.asked else b""
        yield Proof(
            f"{', '.join(self.functions)}, by a program beside",
            Operation("trial_program", arguments, workload),
            self.sample.judge if self.asked else accept_any,
        )

    def running_proofs(self) -> Iterator[Proof]:
        for server in self.servers if self.asked else ():
            arguments = self._job_arguments(server, self.asked)
            operation = Operation("job", arguments, self.sample.workload())
            yield Proof(f"{self.asked} through {server}", operation, self.sample.judge)
