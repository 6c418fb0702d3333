"""A command in a transient unit, which is gone when the block that runs it ends."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from provision.agent.command import end_units, run_command
from provision.agent.files import Failure
from provision.agent.last_words import LastWords, find_cause
from provision.agent.link import FrameLink
from provision.agent.processes import pids_of_unit

STATE = ("MainPID", "Result", "ExecMainCode", "ExecMainStatus")
CLD_EXITED = "1"
NOT_EXECUTED = 203  # systemd's status of what could not be executed
STACKS = 20  # processes that are made to write where they hang
STACK_TIME = 0.5  # seconds for each of them
END_TIMEOUT = 30.0  # seconds after its time in which systemd ends what an agent left behind


class TransientUnit:
    """A worker that runs in unit ``name`` with these ``properties``, whose output is read."""

    def __init__(
        self, link: FrameLink, name: str, properties: list[str], output: LastWords
    ) -> None:
        self._link = link
        self.name = name
        self._properties = properties
        self._output = output
        self._pid = 0

    def start(self, options: list[str], argv: list[str]) -> None:
        """Raises :class:`Failure` if systemd does not come to run it."""
        words = [word.replace("$", "$$") for word in argv]  # which systemd would expand
        command = ["systemd-run", "--quiet", f"--unit={self.name}", *options, "--", *words]
        try:
            run_command(self._link, command)
        except Failure as failure:
            raise self.explain(failure) from failure
        self._pid = int(self._state["MainPID"])

    def is_alive(self) -> bool:
        return self._pid > 0 and os.path.exists(f"/proc/{self._pid}")

    def explain(self, failure: Failure) -> Failure:
        """The same with how it ended and what it said; one that hangs is made to write where."""
        why, said = self._why_ended(hangs=failure.late), self._output.read()
        if why is None:
            return Failure(str(failure), f"{failure.output or failure}\n{said}".strip())
        if not said:
            return Failure(why)
        cause, (*before, last) = find_cause(said), said.splitlines()
        rest = before if cause == last else [*before, last]
        return Failure(why, "\n".join([f"{why}: {cause}", *rest]))

    def stop(self) -> None:
        """End it at once, also when the operator's side is gone."""
        end_units(self.name)

    @property
    def _state(self) -> dict[str, str]:
        show = ["systemctl", "show", f"--property={','.join(STATE)}", self.name]
        said = run_command(self._link, show)
        return dict(line.split("=", 1) for line in said.splitlines())

    def _why_ended(self, *, hangs: bool) -> str | None:
        """How it ended; None if it has not, after it was made to write where it ``hangs``."""
        pid = int(self._state["MainPID"])
        if pid > 0 and os.path.exists(f"/proc/{pid}"):
            if not hangs:
                return None
            # In one of its further processes the job may hang. Together they would mix their lines.
            for each in pids_of_unit(self.name)[:STACKS]:
                try:
                    os.kill(each, signal.SIGUSR1)
                except ProcessLookupError:
                    continue
                self._link.wait(seconds=STACK_TIME)
            if os.path.exists(f"/proc/{pid}"):
                return None
        state = self._state
        status = int(state["ExecMainStatus"])
        if state["ExecMainCode"] == CLD_EXITED:
            cause = ": it cannot be executed" if status == NOT_EXECUTED else ""
            return f"the worker ended with {status}{cause}"
        if status == signal.SIGUSR1:
            return None  # it had not come as far as to listen to it
        if state["Result"] == "oom-kill" or status == signal.SIGKILL:
            limits = [each for each in self._properties if each.startswith("MemoryMax=")]
            return f"the worker was killed, as at its limit of memory ({', '.join(limits)})"
        return f"the worker was ended by signal {status}"


@contextmanager
def running_unit(
    link: FrameLink,
    purpose: str,
    argv: list[str],
    properties: list[str],
    environment: dict[str, str],
    seconds: float,
) -> Iterator[TransientUnit]:
    """Run ``argv`` in a unit gearman-PURPOSE-PID; ``seconds``: the most that it is needed for.

    Raises :class:`Failure` if it cannot be started.
    """
    with tempfile.TemporaryDirectory(prefix=f"gearman-{purpose}-", dir="/run") as folder:
        pipe = f"{folder}/output"
        output = LastWords(pipe)
        unit = TransientUnit(link, f"gearman-{purpose}-{os.getpid()}.service", properties, output)
        wanted = [
            *properties,
            "OOMPolicy=kill",  # one process at the limit of memory is reason enough
            f"RuntimeMaxSec={seconds + END_TIMEOUT:.0f}",
            *(f"Standard{stream}=append:{pipe}" for stream in ("Output", "Error")),
        ]
        options = [f"--property={each}" for each in wanted]
        options += [f"--setenv={name}={text}" for name, text in environment.items()]
        try:
            unit.start(options, argv)
            yield unit
        finally:
            unit.stop()
            output.close()
