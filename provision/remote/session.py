"""One host's agent, spoken to through a channel: start it, ask it, lock the host, change it.

The channel is any pair of byte streams to a shell on the host: SSH's, or a pipe in tests. The
agent is sent through it as source. A session that is only asked has sent link.py and probe.py,
which cannot write; :meth:`Session.lock` sends the rest, and nothing is changed before that.

Every wait has an end. What the host says is never trusted to be whole: a frame that breaks
off is an error that names the host and what was being done.
"""

import hashlib
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from provision.errors import HostFailed, Locked, ToolkitError, Unreachable
from provision.remote.answers import decode
from provision.remote.frames import Frames
from provision.remote.handshake import (
    LINE_LIMIT,
    PYTHON,
    START_TIMEOUT,
    Password,
    Start,
    command_line,
    no_password,
    shake_hands,
)
from provision.remote.messages import Answer, Operation, OperationOutcome, Question, Unknown
from provision.remote.questions import QUESTIONS
from provision.remote.replies import (
    NULL,
    Answered,
    AnswersReply,
    Crash,
    LockHolder,
    LockReply,
    RecordReply,
    StepReply,
)
from provision.remote.running import Running

AGENT = Path(__file__).parents[1] / "agent"
LOCK = "/run/gearman-deploy.lock"
ASKING = (
    *("system", "packages", "paths", "processes", "machine", "installed", "ours", "units"),
    *("accounts", "text_answer", "queue_file", "schedules", "probe"),
)
FRAME_LIMIT = 1 << 26  # bytes, of whatever an agent says
ANSWERS_LIMIT = 1 << 23  # of answers; more for some (QuestionKind.more)
OUTCOME_LIMIT = 1 << 25  # of how an operation went, with a job's result
REPLY_LIMIT = 1 << 22  # of anything else
OUTPUT_LIMIT = 1 << 16  # characters of what a failed operation said

ANSWER_TIMEOUT = 60.0  # seconds until a question is answered
# Seconds for one operation: three commands, each stopped by the agent in time.
OPERATION_TIMEOUT = 3000.0
# Seconds between signs of life while a host is locked, or runs a command for us.
PING_INTERVAL = 5.0
SILENCE_TIMEOUT = 25.0  # seconds of silence after which an agent ends

Message = TypeVar("Message", bound=Crash)


class Session:
    """A conversation with the agent on host ``name``.

    Raises :class:`Unreachable` when sudo refuses, or no Python can be the agent.
    ``lock_file`` is where on the host :meth:`lock` locks.
    """

    def __init__(
        self,
        name: str,
        start: Start,
        *,
        sudo: bool = False,
        password: Password = no_password,
        python: str = PYTHON,
        lock_file: str = LOCK,
    ) -> None:
        self.name = name
        self._lock_file = lock_file
        self._pinger: Thread | None = None
        token = secrets.token_hex(8)
        channel = start(command_line(token, sudo=sudo, python=python))
        try:
            asked = password if sudo else None
            before = shake_hands(channel, name, token, asked, python)
            source = agent_source("link")
            channel.send(b"%08x" % len(source) + source)
            self._frames = Frames(name, channel, before)
            self._load_modules(*ASKING)
        except BaseException:
            channel.close()
            raise

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- what can be done ---------------------------------------------------------------

    def ask(self, questions: Iterable[Question]) -> dict[Question, Answer]:
        """Every question's answer, in one round trip; equal questions are asked once."""
        asked = list(dict.fromkeys(questions))
        if not asked:
            return {}
        self._frames.send({"do": "ask", "questions": asked})
        more = sum(QUESTIONS[kind].more for kind, *_ in asked if kind in QUESTIONS)
        limit = min(ANSWERS_LIMIT + more, FRAME_LIMIT)
        during = "it was asked how it is"
        answers = self._receive(AnswersReply, ANSWER_TIMEOUT, during, limit)["answers"]
        now = time.time()
        if len(answers) != len(asked):
            raise HostFailed(f"{self.name}: {len(answers)} answers to {len(asked)} questions")
        found = dict(zip(asked, map(self._answer, asked, answers), strict=True))
        host = found.get(("host",))
        if isinstance(host, dict):  # only here it is known when it told its time
            host["ahead"] = host["time"] - now
        return found

    def _answer(self, question: Question, answered: Answered) -> Answer:
        if "unknown" in answered:
            return Unknown(answered["unknown"])
        try:
            return decode(answered.get("is", NULL), QUESTIONS[question[0]].answer)
        except ValueError as error:
            raise HostFailed(f"{self.name}: malformed answer to {question[0]}: {error}") from None

    def survey(self, questions: Iterable[Question]) -> dict[Question, Answer]:
        """As :meth:`ask`, and from now on also what agent/survey.py answers."""
        self._load_modules("job_servers", "queue_check", "survey")
        return self.ask(questions)

    def lock(self, holder: Mapping[str, str]) -> None:
        """Keep other deploys away until this session is closed, or its process is gone.

        ``holder`` says ``who`` locks it, ``since`` when, what they are ``doing``, and a ``nonce``.
        Raises :class:`Locked` with what the one who has the lock said of himself.
        """
        if self._pinger is not None:
            return
        self._load_modules(
            *("files", "credentials", "command", "bytecode", "signed", "release", "change"),
            *("job_servers", "job_proof", "last_words", "transient_unit", "trial"),
            *("program_trial", "queue_check", "queue_trial", "programs", "app", "leaving"),
            "set_schedules",
        )
        self._frames.send(
            {
                "do": "lock",
                "path": self._lock_file,
                "patience": SILENCE_TIMEOUT,
                "holder": dict(holder),
            }
        )
        answer = self._receive(LockReply, ANSWER_TIMEOUT, "it was being locked")
        if "refused" in answer:
            raise HostFailed(
                f"{self.name}: it cannot be locked, {answer['refused']}: changes need root, "
                "so is ansible_become false?"
            )
        other = answer.get("holder", LockHolder())
        if other is not None:
            who = other.get("who", "someone")
            since = f" since {other['since']}" if "since" in other else ""
            doing = f", {other['doing']}" if "doing" in other else ""
            raise Locked(f"{self.name} is locked: {who}{since}{doing}", other.get("nonce", ""))
        self._frames.advice = "; run this again, and it does what is left"  # it may be half changed
        self._pinger = Thread(target=self._ping_agent, daemon=True, name=f"ping {self.name}")
        self._pinger.start()

    def apply(self, operations: Sequence[Operation]) -> Iterator[OperationOutcome]:
        """Carry out operations in order, in one round trip; stops after the first that fails.

        A content that is a path is sent when its turn has come, and hashed on both sides.
        Whoever stops listening before the end ends the session, and with it the work: what
        the agent says next would be taken for the answer to another question.
        """
        if self._pinger is None:
            raise HostFailed(f"{self.name}: it must be locked before it is changed")
        self._frames.send({"do": "apply", "count": len(operations)})
        for operation in operations:
            self._send_operation(operation)
        left = len(operations)
        try:
            for operation in operations:
                outcome = self._await_outcome(operation)
                left = left - 1 if outcome.error is None else 0
                yield outcome
                if not left:
                    return
        finally:
            if left:
                self.close()

    def record(self, path: str, entry: Mapping[str, Any]) -> None:
        """Add a line to the history that the host keeps in ``path``."""
        self._load_modules("records")
        self._frames.send({"do": "record", "path": path, "entry": dict(entry)})
        answer = self._receive(RecordReply, ANSWER_TIMEOUT, "its history was being written")
        if refused := answer.get("refused", "it said neither yes nor no"):
            raise HostFailed(f"{self.name}: {refused}")

    def stream(self, argv: Sequence[str], seconds: float) -> Running:
        """Run a command; what it says comes in pieces, while it runs.

        It needs no lock, and what it does is the operator's business.
        """
        self._load_modules("files", "command", "shell")
        self._frames.send(
            {"do": "stream", "argv": list(argv), "seconds": seconds, "patience": SILENCE_TIMEOUT}
        )
        Thread(target=self._ping_agent, daemon=True, name=f"ping {self.name}").start()
        return Running(self._receive, seconds, argv[0])

    def close(self) -> None:
        """End the agent, and with it the lock and whatever it was doing."""
        self._frames.close()

    def _load_modules(self, *modules: str) -> None:
        for module in modules:
            header = {"do": "load", "module": f"provision.agent.{module}"}
            self._frames.send(header, agent_source(module))

    # -- operations ---------------------------------------------------------------------

    def _send_operation(self, operation: Operation) -> None:
        content = operation.content
        later = isinstance(content, Path)
        data = content if isinstance(content, bytes) else b""
        header = {"do": "step", "kind": operation.kind, "arguments": dict(operation.arguments)}
        digest = (
            _file_digest(content) if isinstance(content, Path) else hashlib.sha256(data).hexdigest()
        )
        self._frames.send({**header, "later": later, "digest": digest}, data)

    def _await_outcome(self, operation: Operation) -> OperationOutcome:
        during = f"`{operation.kind}` was being done"
        content = operation.content
        while True:
            event = self._receive(StepReply, OPERATION_TIMEOUT, during, OUTCOME_LIMIT)
            if "outcome" in event:
                outcome = event["outcome"]
                if outcome["error"] is not None:
                    outcome["output"] = outcome["output"][-OUTPUT_LIMIT:]
                return OperationOutcome(operation, **outcome)
            if not isinstance(content, Path):
                raise HostFailed(f"{self.name}: the agent asks for a file that it does not need")
            path, content = content, None  # it is sent once
            try:
                self._frames.send_file(path)
            except Unreachable:
                # An agent that broke has said why, and that says more than a broken pipe.
                self._receive(StepReply, START_TIMEOUT, during)
                raise

    # -- messages -----------------------------------------------------------------------

    def _receive(
        self, shape: type[Message], seconds: float, during: str, limit: int = REPLY_LIMIT
    ) -> Message:
        raw = self._frames.receive(limit, seconds, during)
        try:
            if crash := decode(raw, Crash).get("crash"):
                last = "\n".join(f"| {line[:LINE_LIMIT]}" for line in crash.splitlines()[-8:])
                raise HostFailed(f"{self.name}: the agent broke while {during}:\n{last}")
            return decode(raw, shape)
        except ValueError as error:
            raise HostFailed(
                f"{self.name}: malformed message from the agent while {during}: "
                f"{error}{self._frames.advice}"
            ) from None

    def _ping_agent(self) -> None:
        """A sign of life from time to time, or the agent would think that we are dead."""
        while not self._frames.closed.wait(PING_INTERVAL):
            try:
                self._frames.send({"do": "ping"})
            except ToolkitError:
                return  # whoever waits for the host is told


def agent_source(module: str) -> bytes:
    """The text of a module of the agent."""
    return (AGENT / f"{module}.py").read_bytes()


def _file_digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ToolkitError(f"{path}: {error.strerror}") from error
