"""A client's side of one connection, without I/O.

``submit``, ``ask_status`` and ``ping`` queue bytes; ``take`` hands them out to be written;
``receive`` takes what was read and changes the jobs and questions that it answers.

Rules: the server answers submits in order, and ERROR answers the oldest: order is all there is.
Two submits with one unique share a handle, and then every WORK packet comes twice: the
jobs of a handle take turns.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from gearman_py.client.job import ClientJob, JobStatus
from gearman_py.errors import (
    ArgumentTooLarge,
    ConnectionLost,
    GearmanError,
    JobException,
    JobFailed,
    ProtocolError,
    QueueFull,
    ResultTooLarge,
    SubmitError,
)
from gearman_py.protocol.codec import HEADER, MAX_PACKET, RESPONSE, Decoder, request
from gearman_py.protocol.packets import FAULT, OVERSIZED, Packet

_SUBMIT = {
    ("low", False): Packet.SUBMIT_JOB_LOW,
    ("normal", False): Packet.SUBMIT_JOB,
    ("high", False): Packet.SUBMIT_JOB_HIGH,
    ("low", True): Packet.SUBMIT_JOB_LOW_BG,
    ("normal", True): Packet.SUBMIT_JOB_BG,
    ("high", True): Packet.SUBMIT_JOB_HIGH_BG,
}
_REDUCE = {False: Packet.SUBMIT_REDUCE_JOB, True: Packet.SUBMIT_REDUCE_JOB_BACKGROUND}


class Question:
    """Something asked of a server that is not a job; ``answer`` is None until it comes."""

    def __init__(self, packet: Packet, key: bytes) -> None:
        self.packet = packet  # what answers it
        self.key = key  # the first argument of the answer
        self.answer: list[bytes] | None = None
        self.error: GearmanError | None = None
        self.on_done: Callable[[], object] | None = None  # a front end's way to learn of it

    def done(self) -> bool:
        """Whether it is answered, or never will be."""
        return self.answer is not None or self.error is not None

    def outcome(self) -> list[bytes]:
        """The arguments of the answer; raises the error that came in its place."""
        if self.error is not None:
            raise self.error
        return self.answer or []

    def settle(self, answer: list[bytes] | None, error: GearmanError | None = None) -> None:
        """The session has its answer, or the reason why there is none."""
        self.answer, self.error = answer, error
        if self.on_done is not None:
            self.on_done()


class Session:
    """What is awaited on one connection to ``server``, and what is to be written to it.

    A packet of more than ``max_packet`` bytes, sent or taken, fails its job and no other.
    """

    def __init__(self, server: str, max_packet: int = MAX_PACKET) -> None:
        self.server = server
        self.error: GearmanError | None = None
        self.created_size = 0  # bytes of the latest JOB_CREATED; those to come have as many
        self._max_packet = max_packet
        self._decoder = Decoder(RESPONSE, max_packet=max_packet, skips_oversized=True)
        self._out = [request(Packet.OPTION_REQ, b"exceptions")]
        self._submitted: deque[ClientJob] = deque()
        self._jobs: dict[bytes, deque[ClientJob | None]] = {}  # by handle
        self._questions: list[Question] = []

    @property
    def in_flight(self) -> int:
        """The jobs that the server has yet to answer."""
        return len(self._submitted) + len(self._jobs)

    def submit(self, job: ClientJob) -> None:
        """Queue a job for the server."""
        job.server = self.server
        size = len(job.workload)
        if size <= self._max_packet:  # else its packet might be one that no header can count
            packet = _submission(job)
            size = len(packet) - HEADER.size
        if size > self._max_packet:
            text = f"its {size} bytes are over max_packet={self._max_packet}"
            job._fail(ArgumentTooLarge("ARGUMENT_TOO_LARGE", text))
            return
        self._out.append(packet)
        self._submitted.append(job)

    def ask_status(self, handle: str) -> Question:
        """Ask how far a job is; the answer is for ``read_status``."""
        self._out.append(request(Packet.GET_STATUS, handle.encode()))
        return self._ask(Question(Packet.STATUS_RES, handle.encode()))

    def ask_status_unique(self, unique: str) -> Question:
        """Ask how far the job of this unique is; the answer is for ``read_status``."""
        key = unique.encode(errors="surrogateescape")
        self._out.append(request(Packet.GET_STATUS_UNIQUE, key))
        return self._ask(Question(Packet.STATUS_RES_UNIQUE, key))

    def ping(self, data: bytes) -> Question:
        """Ask for an echo."""
        self._out.append(request(Packet.ECHO_REQ, data))
        return self._ask(Question(Packet.ECHO_RES, data))

    def _ask(self, question: Question) -> Question:
        self._questions.append(question)
        return question

    def forget(self, job: ClientJob) -> None:
        """Nobody waits for this job any more; what comes for it is dropped."""
        jobs = self._jobs.get(job.handle.encode(errors="surrogateescape"), deque())
        if job in jobs:
            jobs[jobs.index(job)] = None  # its place stays: it has its turn of what comes

    def take(self) -> bytes:
        """The bytes to be written, once."""
        out = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        return out

    def receive(self, data: bytes) -> None:
        """Take what was read. After a fault ``error`` is set: close the connection."""
        for packet, arguments in self._decoder.feed(data):
            if packet == FAULT:
                self.lose(ProtocolError(f"{self.server} {_fault(*arguments)}"))
                return
            handler = _HANDLERS.get(packet)
            if handler is not None:  # what else a server may send is not for clients
                handler(self, *arguments)

    def lose(self, why: GearmanError | str) -> None:
        """The connection has ended: so has all that is awaited on it."""
        if self.error is not None:
            return
        self.error = ConnectionLost(self.server, why) if isinstance(why, str) else why
        for job in (*self._submitted, *(job for jobs in self._jobs.values() for job in jobs)):
            if isinstance(why, str) and job is not None:
                job._lose(ConnectionLost(self.server, why, handle=job.handle))
            elif isinstance(why, GearmanError) and job is not None:
                job._lose(why)
        for question in self._questions:
            question.settle(None, self.error)
        self._submitted.clear()
        self._jobs.clear()
        self._questions.clear()

    # Handlers, by packet.

    def _created(self, handle: bytes) -> None:
        if not self._submitted:
            return
        job = self._submitted.popleft()
        self.created_size = HEADER.size + len(handle)
        if not job.background:
            self._jobs.setdefault(handle, deque()).append(job)
        job._created(_text(handle))

    def _error(self, code: bytes, text: bytes) -> None:
        if code == b"UNKNOWN_OPTION":
            return  # a server without the option sends WORK_FAIL where others send exceptions
        if self._submitted:
            self._submitted.popleft()._fail(_refusal(_text(code), _text(text)))
        elif self._questions:  # Perl's server does not know every question
            refused = f"{self.server} refused to answer: {_text(text).strip()} ({_text(code)})"
            self._questions.pop(0).settle(None, ProtocolError(refused))

    def _turn(self, handle: bytes) -> ClientJob | None:
        jobs = self._jobs.get(handle)
        if not jobs:
            return None
        jobs.rotate(-1)
        return jobs[-1]

    def _end(self, handle: bytes) -> ClientJob | None:
        jobs = self._jobs.get(handle)
        if not jobs:
            return None
        job = jobs.popleft()
        if not jobs:
            del self._jobs[handle]
        return job

    def _data(self, handle: bytes, data: bytes) -> None:
        if job := self._turn(handle):
            job._add_data(data)

    def _warning(self, handle: bytes, data: bytes) -> None:
        if job := self._turn(handle):
            job._add_warning(data)

    def _status(self, handle: bytes, numerator: bytes, denominator: bytes) -> None:
        if job := self._turn(handle):
            job._set_status(_number(numerator), _number(denominator))

    def _complete(self, handle: bytes, answer: bytes) -> None:
        if job := self._end(handle):
            job._complete(answer)

    def _fail(self, handle: bytes) -> None:
        # The C server appends a NUL where it turns an exception into WORK_FAIL (gearmand#166).
        if job := self._end(handle.rstrip(b"\0")):
            job._fail(JobFailed(job))

    def _exception(self, handle: bytes, data: bytes) -> None:
        if job := self._end(handle):
            job._fail(JobException(job, data))

    def _oversized(self, handle: bytes, *rest: bytes) -> None:
        if job := self._end(handle):
            job._fail(ResultTooLarge(job, f"{_text(rest[-1])}, max_packet"))

    def _answer(self, packet: Packet, *arguments: bytes) -> None:
        for place, question in enumerate(self._questions):
            if question.packet == packet and question.key == arguments[0]:
                del self._questions[place]
                question.settle(list(arguments))
                return

    def _status_answer(self, *arguments: bytes) -> None:
        self._answer(Packet.STATUS_RES, *arguments)

    def _status_unique_answer(self, *arguments: bytes) -> None:
        self._answer(Packet.STATUS_RES_UNIQUE, *arguments)

    def _echo_answer(self, data: bytes) -> None:
        self._answer(Packet.ECHO_RES, data)


_HANDLERS: dict[int, Any] = {
    Packet.JOB_CREATED: Session._created,
    Packet.ERROR: Session._error,
    Packet.WORK_DATA: Session._data,
    Packet.WORK_WARNING: Session._warning,
    Packet.WORK_STATUS: Session._status,
    Packet.WORK_COMPLETE: Session._complete,
    Packet.WORK_FAIL: Session._fail,
    Packet.WORK_EXCEPTION: Session._exception,
    Packet.STATUS_RES: Session._status_answer,
    Packet.STATUS_RES_UNIQUE: Session._status_unique_answer,
    Packet.ECHO_RES: Session._echo_answer,
    OVERSIZED: Session._oversized,
}


def read_status(arguments: list[bytes]) -> JobStatus:
    """The meaning of a STATUS_RES or STATUS_RES_UNIQUE."""
    _, known, running, numerator, denominator, *clients = arguments
    facts = (known == b"1", running == b"1", _number(numerator), _number(denominator))
    return JobStatus(*facts, *map(_number, clients))


def _submission(job: ClientJob) -> bytes:
    function, unique = _bytes(job.prefix + job.function), _bytes(job.unique)
    if job.at is not None:
        epoch = b"%d" % job.at
        return request(Packet.SUBMIT_JOB_EPOCH, function, unique, epoch, job.workload)
    if job.reducer is not None:
        reducer = _bytes(job.prefix + job.reducer)
        packet = _REDUCE[job.background]
        return request(packet, function, unique, reducer, b"", job.workload)
    return request(_SUBMIT[job.priority, job.background], function, unique, job.workload)


def _fault(code: bytes, sentence: bytes) -> str:
    """What a server has done to be left."""
    text = sentence.decode(errors="backslashreplace")
    if code == b"ARGUMENT_TOO_LARGE":
        return f"sent what is too large: {text}, max_packet"
    return f"does not speak Gearman: {_text(code)} {text}"


def _refusal(code: str, text: str) -> SubmitError:
    text = text.strip()  # Perl's server ends its sentences with a newline
    if (code == "QUEUE_ERROR" and "full" in text) or code == "JOB_QUEUE_FULL":
        return QueueFull(code, text)
    return (ArgumentTooLarge if code == "ARGUMENT_TOO_LARGE" else SubmitError)(code, text)


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _number(data: bytes) -> int:
    """A count in ASCII digits; servers pass on what workers wrote, so it may be anything."""
    return int(data) if data.isdigit() else 0
