"""A client's side of one connection, without I/O.

``submit_job``, ``ask_status`` and ``ask_echo`` queue bytes; ``take_output`` returns them for
writing; ``receive_data`` takes what was read and updates the jobs and questions it answers.

The server answers submissions in order, and ERROR answers the oldest one: nothing but the order
tells which. Two submissions with the same unique share a handle, and every WORK packet then comes
twice: the jobs of a handle take turns.
"""

from collections import deque
from typing import Any

from gearman_py.client.job import ClientJob
from gearman_py.client.question import Question, parse_count
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
from gearman_py.protocol.codec import HEADER_SIZE, MAX_PACKET, RESPONSE, Decoder, request
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


class ClientSession:
    """The jobs and questions pending on one connection to ``server``, and its unsent bytes.

    A packet of more than ``max_packet`` bytes, sent or received, fails only its own job.
    ``resubmits``: the server may give jobs back, as there are others to submit them to.
    """

    def __init__(
        self, server: str, max_packet: int = MAX_PACKET, *, resubmits: bool = False
    ) -> None:
        self.server = server
        self.error: GearmanError | None = None
        self.created_size = 0  # bytes of the latest JOB_CREATED; the next has as many
        self._max_packet = max_packet
        self._decoder = Decoder(RESPONSE, max_packet=max_packet, skips_oversized=True)
        self._out = [request(Packet.OPTION_REQ, b"exceptions")]
        self._options = deque([b"exceptions"])  # whose answers are to come
        self._keeps_results: bool | None = None  # None: it was not asked
        if resubmits:
            self._out.append(request(Packet.OPTION_REQ, b"resubmits"))
            self._options.append(b"resubmits")
        self._submitted: deque[ClientJob] = deque()
        self._jobs: dict[bytes, list[ClientJob | None]] = {}  # by handle
        self._questions: list[Question] = []

    @property
    def in_flight(self) -> int:
        """The number of jobs that have not ended."""
        return len(self._submitted) + len(self._jobs)

    def submit_job(self, job: ClientJob) -> None:
        """Queue a job for the server."""
        job.server = self.server
        size = len(job.workload)
        if size <= self._max_packet:  # a header could not count a larger one
            packet = _submit_packet(job)
            size = len(packet) - HEADER_SIZE
        if size > self._max_packet:
            text = f"its {size} bytes exceed max_packet={self._max_packet}"
            job._set_failed(ArgumentTooLarge("ARGUMENT_TOO_LARGE", text))
            return
        self._out.append(packet)
        self._submitted.append(job)

    def ask_results(self) -> Question:
        """Ask whether the server can be asked for results; the answer has b"1" if so."""
        self._request_results()
        question = Question(Packet.OPTION_RES, b"results")
        if self._keeps_results is not None:
            question.set_answer([b"results", b"%d" % self._keeps_results])
            return question
        return self._add_question(question)

    def _request_results(self) -> None:
        if self._keeps_results is None and b"results" not in self._options:
            self._out.append(request(Packet.OPTION_REQ, b"results"))
            self._options.append(b"results")

    def find_awaited(self, handle: str) -> ClientJob | None:
        """The job in the background whose result is awaited on this connection already."""
        jobs = self._jobs.get(handle.encode(errors="surrogateescape"), ())
        return next((job for job in jobs if job is not None and job.is_awaited), None)

    def ask_status(self, handle: str) -> Question:
        """Ask for the status of a job; ``read_status`` parses the answer."""
        self._request_results()  # else one that has ended would be unknown
        self._out.append(request(Packet.GET_STATUS, handle.encode()))
        return self._add_question(Question(Packet.STATUS_RES, handle.encode()))

    def ask_status_unique(self, unique: str) -> Question:
        """Ask for the status of the job with this unique; ``read_status`` parses the answer."""
        key = unique.encode(errors="surrogateescape")
        self._out.append(request(Packet.GET_STATUS_UNIQUE, key))
        return self._add_question(Question(Packet.STATUS_RES_UNIQUE, key))

    def ask_echo(self, data: bytes) -> Question:
        """Ask for an echo."""
        self._out.append(request(Packet.ECHO_REQ, data))
        return self._add_question(Question(Packet.ECHO_RES, data))

    def _add_question(self, question: Question) -> Question:
        self._questions.append(question)
        return question

    def forget_job(self, job: ClientJob) -> None:
        """Ignore everything that still arrives for this job."""
        jobs = self._jobs.get(_encode_text(job.handle), [])
        if job in jobs:
            jobs[jobs.index(job)] = None  # it keeps its turn

    def take_output(self) -> bytes:
        """Return the bytes to write, and forget them."""
        out = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        return out

    def receive_data(self, data: bytes) -> None:
        """Process bytes that were read. If ``error`` is set afterwards, close the connection."""
        for packet, arguments in self._decoder.feed(data):
            if packet == FAULT:
                self.lose_connection(ProtocolError(f"{self.server} {_describe_fault(*arguments)}"))
                return
            handler = _HANDLERS.get(packet)
            if handler is not None:  # clients ignore other packets
                handler(self, *arguments)

    def lose_connection(self, why: GearmanError | str) -> None:
        """The connection has ended: end all jobs and questions on it."""
        if self.error is not None:
            return
        self.error = ConnectionLost(self.server, why) if isinstance(why, str) else why
        for job in (*self._submitted, *(job for jobs in self._jobs.values() for job in jobs)):
            if isinstance(why, str) and job is not None:
                job._handle_loss(ConnectionLost(self.server, why, handle=job.handle))
            elif isinstance(why, GearmanError) and job is not None:
                job._handle_loss(why)
        for question in self._questions:
            question.set_answer(None, self.error)
        self._submitted.clear()
        self._jobs.clear()
        self._questions.clear()

    # Handlers, by packet.

    def _on_created(self, handle: bytes) -> None:
        if not self._submitted:
            return
        job = self._submitted.popleft()
        self.created_size = HEADER_SIZE + len(handle)
        if job.background:
            pass
        elif handle in self._jobs:
            self._jobs[handle].append(job)
        else:
            self._jobs[handle] = [job]
        job._set_created(_decode_text(handle))

    def _on_found(self, handle: bytes, ended: bytes, function: bytes) -> None:
        if self._submitted:
            job = self._submitted[0]
            job.function = _decode_text(function)
            job.has_ended = ended == b"1"
        self._on_created(handle)

    def _on_option(self, name: bytes, accepted: bytes = b"1") -> None:
        if self._options and self._options.popleft() == b"results":
            self._keeps_results = accepted == b"1"
            self._answer_question(Packet.OPTION_RES, b"results", accepted)

    def _on_error(self, code: bytes, text: bytes) -> None:
        if code.upper() == b"UNKNOWN_OPTION":  # Perl's server writes codes small
            # Such a server sends WORK_FAIL instead of exceptions, or can be asked for no results.
            self._on_option(b"", b"0")
            return
        if self._submitted:
            error = _submit_error(_decode_text(code), _decode_text(text))
            self._submitted.popleft()._handle_refusal(error)
        elif self._questions:  # Perl's server does not know all of them
            reason = f"{_decode_text(text).strip()} ({_decode_text(code)})"
            refused = f"{self.server} refused to answer: {reason}"
            self._questions.pop(0).set_answer(None, ProtocolError(refused))

    def _next_in_turn(self, handle: bytes) -> ClientJob | None:
        jobs = self._jobs.get(handle)
        if not jobs:
            return None
        job = jobs.pop(0)
        jobs.append(job)
        return job

    def _end_job(self, handle: bytes) -> ClientJob | None:
        jobs = self._jobs.get(handle)
        if not jobs:
            return None
        if len(jobs) == 1:
            del self._jobs[handle]
        return jobs.pop(0)

    def _on_data(self, handle: bytes, data: bytes) -> None:
        if job := self._next_in_turn(handle):
            job._add_data(data)

    def _on_warning(self, handle: bytes, data: bytes) -> None:
        if job := self._next_in_turn(handle):
            job._add_warning(data)

    def _on_status(self, handle: bytes, numerator: bytes, denominator: bytes) -> None:
        if job := self._next_in_turn(handle):
            job._set_status(parse_count(numerator), parse_count(denominator))

    def _on_complete(self, handle: bytes, answer: bytes) -> None:
        if job := self._end_job(handle):
            job._set_complete(answer)

    def _on_fail(self, handle: bytes) -> None:
        # The C server appends a NUL where it turns an exception into WORK_FAIL (gearmand#166).
        if job := self._end_job(handle.rstrip(b"\0")):
            job._set_failed(JobFailed(job))

    def _on_exception(self, handle: bytes, data: bytes) -> None:
        if job := self._end_job(handle):
            job._set_failed(JobException(job, data))

    def _on_retry(self, handle: bytes, delay: bytes, reason: bytes) -> None:
        """The server gives a job back, or with an empty handle all that it has not accepted."""
        text = _decode_text(reason)
        returned = list(self._submitted)
        if not handle:
            self._submitted.clear()
            self.lose_connection(text)
        elif job := self._end_job(handle):
            returned = [job]
        else:
            return
        for each in returned:
            each._handle_return(SubmitError("QUEUE_ERROR", text))

    def _on_oversized(self, handle: bytes, *rest: bytes) -> None:
        if job := self._end_job(handle):
            job._set_failed(ResultTooLarge(job, f"{_decode_text(rest[-1])}, max_packet"))

    def _answer_question(self, packet: Packet, *arguments: bytes) -> None:
        for place, question in enumerate(self._questions):
            if question.packet == packet and question.key == arguments[0]:
                del self._questions[place]
                question.set_answer(list(arguments))
                return

    def _on_status_answer(self, *arguments: bytes) -> None:
        self._answer_question(Packet.STATUS_RES, *arguments)

    def _on_status_unique_answer(self, *arguments: bytes) -> None:
        self._answer_question(Packet.STATUS_RES_UNIQUE, *arguments)

    def _on_echo(self, data: bytes) -> None:
        self._answer_question(Packet.ECHO_RES, data)


_HANDLERS: dict[int, Any] = {
    Packet.JOB_CREATED: ClientSession._on_created,
    Packet.ERROR: ClientSession._on_error,
    Packet.JOB_FOUND: ClientSession._on_found,
    Packet.OPTION_RES: ClientSession._on_option,
    Packet.WORK_DATA: ClientSession._on_data,
    Packet.WORK_WARNING: ClientSession._on_warning,
    Packet.WORK_STATUS: ClientSession._on_status,
    Packet.WORK_COMPLETE: ClientSession._on_complete,
    Packet.WORK_FAIL: ClientSession._on_fail,
    Packet.WORK_EXCEPTION: ClientSession._on_exception,
    Packet.WORK_RETRY: ClientSession._on_retry,
    Packet.STATUS_RES: ClientSession._on_status_answer,
    Packet.STATUS_RES_UNIQUE: ClientSession._on_status_unique_answer,
    Packet.ECHO_RES: ClientSession._on_echo,
    OVERSIZED: ClientSession._on_oversized,
}


def _submit_packet(job: ClientJob) -> bytes:
    if job.is_awaited:
        return request(Packet.GET_RESULT, _encode_text(job.handle))
    function = _encode_text(job.prefix + job.function)
    unique = _encode_text(job.unique) if job.unique else b""
    if job.at is not None:
        epoch = b"%d" % job.at
        return request(Packet.SUBMIT_JOB_EPOCH, function, unique, epoch, job.workload)
    if job.reducer is not None:
        reducer = _encode_text(job.prefix + job.reducer)
        packet = _REDUCE[job.background]
        return request(packet, function, unique, reducer, b"", job.workload)
    return request(_SUBMIT[job.priority, job.background], function, unique, job.workload)


def _describe_fault(code: bytes, sentence: bytes) -> str:
    """Why the client leaves a server."""
    text = sentence.decode(errors="backslashreplace")
    if code == b"ARGUMENT_TOO_LARGE":
        return f"sent a packet that is too large: {text}, max_packet"
    return f"does not speak Gearman: {_decode_text(code)} {text}"


def _submit_error(code: str, text: str) -> SubmitError:
    text = text.strip()  # Perl's server ends its sentences with a newline
    if (code == "QUEUE_ERROR" and "full" in text) or code == "JOB_QUEUE_FULL":
        return QueueFull(code, text)
    return (ArgumentTooLarge if code == "ARGUMENT_TOO_LARGE" else SubmitError)(code, text)


def _decode_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _encode_text(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
