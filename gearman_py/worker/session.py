"""A worker's side of one connection, without I/O.

The worker asks for a job; the server gives one or says that there is none; then the worker
sleeps until the server wakes it. Bytes to be written are kept until ``take_output()``.

A function is unregistered (CANT_DO) only to give its running job to another worker: the server
then does so, and refuses this worker's result. A server with the option "retries" (see
docs/protocol.md) counts the attempts of background jobs, and takes back those that are to be tried
again later; others refuse the option.
"""

import logging
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import NamedTuple

from gearman_py.errors import DataTooLarge
from gearman_py.protocol.codec import MAX_PACKET, RESPONSE, Decoder, request
from gearman_py.protocol.packets import FAULT, OVERSIZED, Packet

_log = logging.getLogger("gearman_py.worker")

# A job arrives with its handle, which its submission did not have: this is room for it, so that
# a job that a server with the same limit has accepted is accepted here too.
_HANDLE_ROOM = 1024


class State(Enum):
    """Whose turn it is."""

    IDLE = "idle"  # the worker's: grab or sleep
    GRABBING = "grabbing"  # the server's: a job or none
    WORKING = "working"  # the worker's: answer the job
    ASLEEP = "asleep"  # the server's: it wakes the worker when there is a job


# For what is done for each job: looking up a member of an Enum takes 0.2 us in Python 3.11.
_IDLE, _GRABBING, _WORKING = State.IDLE, State.GRABBING, State.WORKING
_RETRY, _CANT_DO = Packet.WORK_RETRY, Packet.CANT_DO


class Assignment(NamedTuple):
    """A job as it came from the server.

    ``attempt`` counts from 1 if the server counts and takes the job back for later; 0: it does not.
    """

    handle: str
    function: str
    unique: str
    workload: bytes
    reducer: str = ""
    too_large: bool = False
    """The packet was over the limit, and the workload was skipped."""
    attempt: int = 0

    @classmethod
    def from_arguments(cls, arguments: list[bytes], attempt: int = 0) -> "Assignment":
        """From the arguments of any JOB_ASSIGN."""
        handle, function = _decode_name(arguments[0]), _decode_name(arguments[1])
        unique = _decode_name(arguments[2]) if len(arguments) > 3 else ""
        reducer = _decode_name(arguments[3]) if len(arguments) > 4 else ""
        return cls(handle, function, unique, arguments[-1], reducer, False, attempt)

    @classmethod
    def from_oversized(cls, arguments: list[bytes]) -> "Assignment":
        """From those of a JOB_ASSIGN whose workload was skipped."""
        return cls.from_arguments([*arguments[:-1], b""])._replace(too_large=True)


class Answer(NamedTuple):
    """How a job ends: WORK_COMPLETE, WORK_EXCEPTION or WORK_FAIL with the arguments after the
    handle, or WORK_RETRY or CANT_DO: it goes back to the queue, with WORK_RETRY for later."""

    packet: Packet
    arguments: tuple[bytes, ...] = ()

    @property
    def is_for_others(self) -> bool:
        """Whether the job is given back to run at once, by another worker if there is one."""
        now = self.packet is _RETRY and self.arguments[:1] == (NO_DELAY,)
        return now or self.packet is _CANT_DO


NO_DELAY = b""  # of WORK_RETRY; the server reads it as 0, which is also the delay of a retry
GIVE_BACK = Answer(Packet.CANT_DO)
GIVEN_BACK = frozenset({Packet.CANT_DO, Packet.WORK_RETRY})


class WorkerSession:
    """The worker on one connection; it registers ``functions`` at once.

    ``limits`` are time limits of functions, in seconds, for the server to enforce
    (CAN_DO_TIMEOUT counts milliseconds; the minimum of C gearmand is a second).
    ``reducers``: ask for the name of the reducer too (GRAB_JOB_ALL, unknown to old servers).
    A job whose packet is over ``max_packet`` bytes is an assignment that is ``too_large``.
    """

    def __init__(
        self,
        functions: Iterable[str],
        client_id: str,
        *,
        limits: Mapping[str, float] | None = None,
        reducers: bool = False,
        max_packet: int = MAX_PACKET,
    ) -> None:
        self.state = State.IDLE
        self.registered = False  # a server's first answer shows that it knows our functions
        self.assignment: Assignment | None = None
        self.fault: str | None = None
        self._skipped: Assignment | None = None  # too large; its bytes are still coming
        self._decoder = Decoder(
            RESPONSE, max_packet=max_packet + _HANDLE_ROOM, skips_oversized=True
        )
        self._limits = limits or {}
        self.refusal = ""  # what the server has refused, to be logged
        self._grabs = [Packet.GRAB_JOB_UNIQ, Packet.GRAB_JOB]
        self._set_grab_packet(Packet.GRAB_JOB_ALL if reducers else self._grabs.pop(0))
        self._data = b""  # for a server that does not know WORK_DATA
        self._announced: list[bytes] = [b"", b""]  # the last JOB_ATTEMPT: handle and attempt
        self._awaits_option = True
        self._out = [request(Packet.OPTION_REQ, b"retries")]
        self._out.append(request(Packet.SET_CLIENT_ID, client_id.encode()))
        self._out += [self._can_do(function) for function in functions]

    def take_output(self) -> bytes:
        """Return the bytes to write, and forget them."""
        out = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        return out

    def is_grabbing(self) -> bool:
        """Whether the server has yet to say if it has a job."""
        return self.state is _GRABBING

    def grab_job(self) -> None:
        """Ask for a job."""
        self._out.append(self._grab_request)
        self.state = _GRABBING

    def _set_grab_packet(self, packet: Packet) -> None:
        self._grab_packet, self._grab_request = packet, request(packet)
        # Whether the server is one like Perl's Gearman::Server, which knows neither data nor
        # warnings, and for which neither an exception nor CANT_DO ends a job.
        self._lacks_updates = packet is Packet.GRAB_JOB

    def pre_sleep(self) -> None:
        """Ask to be woken when there is a job."""
        self._out.append(request(Packet.PRE_SLEEP))
        self.state = State.ASLEEP

    def wake_up(self) -> None:
        """Act as if the server had sent a wake-up, which may have been lost."""
        self.state = State.IDLE

    def send_update(self, handle: str, packet: Packet, *arguments: bytes) -> None:
        """Send an update of the running job; one of a job that has ended is dropped."""
        if self.assignment is None or self.assignment.handle != handle:
            return
        if not self._lacks_updates or packet not in (Packet.WORK_DATA, Packet.WORK_WARNING):
            self._out.append(request(packet, _encode_name(handle), *arguments))
        elif packet is Packet.WORK_DATA:
            self._data += arguments[0]

    def finish_job(self, answer: Answer) -> None:
        """Answer the running job."""
        assignment = self.assignment
        if assignment is not None and self._lacks_updates:
            self._finish_without_updates(assignment.handle, answer)
        elif assignment is not None and answer.packet is _CANT_DO:
            self._out.append(request(Packet.CANT_DO, _encode_name(assignment.function)))
            self._out.append(self._can_do(assignment.function))
        elif assignment is not None:
            self.send_update(assignment.handle, answer.packet, *answer.arguments)
        self.assignment = None
        self.state = _IDLE

    def _finish_without_updates(self, handle: str, answer: Answer) -> None:
        data, self._data = self._data, b""
        if answer.packet is Packet.WORK_COMPLETE:
            self.send_update(handle, answer.packet, data + answer.arguments[0])
            return
        if answer.packet is Packet.WORK_EXCEPTION:
            self.send_update(handle, answer.packet, *answer.arguments)
        elif answer.packet is Packet.CANT_DO:
            _log.warning("%s: failed, as its server cannot take a job back", handle)
        self.send_update(handle, Packet.WORK_FAIL)

    def receive_data(self, data: bytes) -> None:
        """Process bytes that were read. After a ``fault``, close the connection."""
        for packet, arguments in self._decoder.feed(data):
            if packet in _ASSIGNMENTS:
                attempt = self._find_attempt(arguments[0])
                self._start_job(Assignment.from_arguments(arguments, attempt))
            elif packet == OVERSIZED:
                self._skipped = Assignment.from_oversized(arguments)
            elif packet == Packet.NO_JOB and self.state is State.GRABBING:
                self.registered = True
                self.state = State.IDLE
            elif packet == Packet.NOOP and self.state is State.ASLEEP:
                self.state = State.IDLE
            elif packet == Packet.JOB_ATTEMPT:
                self._announced = arguments
            elif self._awaits_option and self._answers_option(packet, arguments):
                self._awaits_option = False
            elif packet == Packet.ERROR and not self.registered:
                self._handle_refusal(arguments)
            elif packet == Packet.ERROR:
                # Most often JOB_NOT_FOUND: the job was cancelled, or given to another.
                _log.debug("the server refused an answer: %s", b" ".join(arguments))
            elif packet == FAULT:
                self.fault = b" ".join(arguments).decode(errors="backslashreplace")

        # C gearmand closes the connection if a job is answered before it has sent all of it.
        if self._skipped is not None and not self._decoder.partial:
            self._start_job(self._skipped)
            self._skipped = None

    def _answers_option(self, packet: int, arguments: list[bytes]) -> bool:
        """Whether the server accepts or refuses the option, which was the first request."""
        if packet == Packet.ERROR:
            return arguments[0].lower() in _UNKNOWN_COMMAND | {b"unknown_option"}
        return packet == Packet.OPTION_RES

    def _handle_refusal(self, said: list[bytes]) -> None:
        """It refuses a function; or the way to ask for jobs: then ask as older servers do."""
        text = b": ".join(said).decode(errors="backslashreplace").strip()
        if said[0].lower() not in _UNKNOWN_COMMAND or self.state is not State.GRABBING:
            self.refusal = f"refused the registration of this worker: {text}"
        elif not self._grabs:
            self.fault = text
        else:
            unknown = self._grab_packet
            self._set_grab_packet(self._grabs.pop(0))
            used = self._grab_packet.name
            self.refusal = f"does not know {unknown.name} ({text}); {used} is used"
            self.grab_job()

    def _find_attempt(self, handle: bytes) -> int:
        announced, attempt = self._announced
        return int(attempt) if handle == announced and attempt.isdigit() else 0

    def _start_job(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.registered = True
        self.state = _WORKING

    def _can_do(self, function: str) -> bytes:
        if (limit := self._limits.get(function)) is None:
            return request(Packet.CAN_DO, _encode_name(function))
        return request(
            Packet.CAN_DO_TIMEOUT, _encode_name(function), b"%d" % max(1, round(limit * 1000))
        )


MAX_REFUSALS = 1000  # that are remembered, in order to log them once
_UNKNOWN_COMMAND = frozenset({b"server_error", b"unknown_command", b"invalid_command"})
_logged_refusals: dict[tuple[str, str], object] = {}
_ASSIGNMENTS = frozenset({Packet.JOB_ASSIGN_UNIQ, Packet.JOB_ASSIGN, Packet.JOB_ASSIGN_ALL})


def log_refusal_once(server: str, refused: str) -> None:
    """Log what a server has refused, once and not for each connection, of any thread."""
    if len(_logged_refusals) >= MAX_REFUSALS:
        _logged_refusals.clear()
    this = object()
    if _logged_refusals.setdefault((server, refused), this) is this:
        _log.warning("%s %s", server, refused)


def must_fit(limit: int, handle: str, data: bytes) -> None:
    """Raises DataTooLarge if a packet of these is over ``limit`` bytes."""
    if (size := len(_encode_name(handle)) + 1 + len(data)) > limit:
        text = f"a packet of {size} bytes is over the limit of {limit} (max_packet)"
        raise DataTooLarge(text)


# Names are sent back as they came, whatever bytes they contain.
def _decode_name(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _encode_name(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
