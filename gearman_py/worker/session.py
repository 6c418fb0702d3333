"""A worker's side of one connection, without I/O.

The worker asks for a job; the server gives one or says that there is none; then the worker
sleeps until the server wakes it. Bytes to be written gather in here until ``take``.

Rule: a function is taken back (CANT_DO) for one purpose only, to give its running job to
another worker: that is what a server does on it, and then refuses this one's result.
"""

import logging
from collections.abc import Iterable, Mapping
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from gearman_py.protocol.codec import MAX_PACKET, RESPONSE, Decoder, request
from gearman_py.protocol.packets import FAULT, OVERSIZED, Packet

_log = logging.getLogger("gearman_py.worker")

# A job comes with its handle, which its submission did not have: room for that, so that what
# a server of the same limit has taken is taken here too.
_HANDLE_ROOM = 1024


class ResultTooLarge(ValueError):
    """What a function returned or sent makes a packet over the worker's ``max_packet``."""


class State(Enum):
    """Whose move it is."""

    IDLE = "idle"  # ours: grab or sleep
    GRABBING = "grabbing"  # the server's: a job or none
    WORKING = "working"  # ours: answer the job
    ASLEEP = "asleep"  # the server's: it wakes us when there is a job


class Assignment(NamedTuple):
    """A job as the server gives it."""

    handle: str
    function: str
    unique: str
    workload: bytes
    reducer: str = ""
    too_large: bool = False
    """The packet was over the limit, and the workload is not here."""

    @classmethod
    def read(cls, arguments: list[bytes]) -> "Assignment":
        """From the arguments of any JOB_ASSIGN."""
        names = [name.decode(errors="surrogateescape") for name in arguments[:-1]]
        names += [""] * (4 - len(names))
        handle, function, unique, reducer = names
        return cls(handle, function, unique, arguments[-1], reducer)

    @classmethod
    def oversized(cls, arguments: list[bytes]) -> "Assignment":
        """From those of a JOB_ASSIGN whose workload was skipped."""
        return cls.read([*arguments[:-1], b""])._replace(too_large=True)


class Answer(NamedTuple):
    """How a job ends: WORK_COMPLETE, WORK_EXCEPTION or WORK_FAIL with what comes after the
    handle, or CANT_DO: it goes back to the queue."""

    packet: Packet
    arguments: tuple[bytes, ...] = ()


GIVE_BACK = Answer(Packet.CANT_DO)


class Session:
    """One connection's worker; it registers ``functions`` at once.

    ``limits`` are the time limits, in seconds, that the server is to hold functions to
    (CAN_DO_TIMEOUT counts milliseconds; C gearmand takes no less than a second).
    ``reducers``: ask for the name of the reducer too (GRAB_JOB_ALL, not known to old servers).
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
        self.refused = ""  # what of ours the server has refused, as a sentence about it, once
        self._grabs = [Packet.GRAB_JOB_UNIQ, Packet.GRAB_JOB]
        self._grab = Packet.GRAB_JOB_ALL if reducers else self._grabs.pop(0)
        self._data = b""  # for a server that does not know WORK_DATA
        self._out = [request(Packet.SET_CLIENT_ID, client_id.encode())]
        self._out += [self._can_do(function) for function in functions]

    def take(self) -> bytes:
        """The bytes to be written, once."""
        out = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        return out

    def grabbing(self) -> bool:
        """Whether the server is to say if it has a job."""
        return self.state is State.GRABBING

    def grab(self) -> None:
        """Ask for a job."""
        self._out.append(_GRABS[self._grab])
        self.state = State.GRABBING

    @property
    def _old(self) -> bool:
        """Whether the server is one as Perl's Gearman::Server, which knows no data and no
        warnings; takes an exception for no end of a job, and CANT_DO for no word about it."""
        return self._grab is Packet.GRAB_JOB

    def sleep(self) -> None:
        """Ask to be woken when there is a job."""
        self._out.append(request(Packet.PRE_SLEEP))
        self.state = State.ASLEEP

    def wake(self) -> None:
        """Be awake, as if the server had said so: its word may have been lost."""
        self.state = State.IDLE

    def send(self, handle: str, packet: Packet, *arguments: bytes) -> None:
        """Say something of the job in hand; of one that has ended there is nothing to say."""
        if self.assignment is None or self.assignment.handle != handle:
            return
        if not self._old or packet not in (Packet.WORK_DATA, Packet.WORK_WARNING):
            self._out.append(request(packet, _bytes(handle), *arguments))
        elif packet is Packet.WORK_DATA:
            self._data += arguments[0]

    def finish(self, answer: Answer) -> None:
        """Answer the job in hand."""
        assignment = self.assignment
        if assignment is not None and self._old:
            self._finish_old(assignment.handle, answer)
        elif assignment is not None and answer.packet is Packet.CANT_DO:
            self._out.append(request(Packet.CANT_DO, _bytes(assignment.function)))
            self._out.append(self._can_do(assignment.function))
        elif assignment is not None:
            self.send(assignment.handle, answer.packet, *answer.arguments)
        self.assignment = None
        self.state = State.IDLE

    def _finish_old(self, handle: str, answer: Answer) -> None:
        data, self._data = self._data, b""
        if answer.packet is Packet.WORK_COMPLETE:
            self.send(handle, answer.packet, data + answer.arguments[0])
            return
        if answer.packet is Packet.WORK_EXCEPTION:
            self.send(handle, answer.packet, *answer.arguments)
        self.send(handle, Packet.WORK_FAIL)

    def receive(self, data: bytes) -> None:
        """Take what was read. After a ``fault`` the connection is of no more use."""
        for packet, arguments in self._decoder.feed(data):
            if packet in _ASSIGN:
                self._assigned(Assignment.read(arguments))
            elif packet == OVERSIZED:
                self._skipped = Assignment.oversized(arguments)
            elif packet == Packet.NO_JOB and self.state is State.GRABBING:
                self.registered = True
                self.state = State.IDLE
            elif packet == Packet.NOOP and self.state is State.ASLEEP:
                self.state = State.IDLE
            elif packet == Packet.ERROR and not self.registered:
                self._refused(arguments)
            elif packet == Packet.ERROR:
                # Most often JOB_NOT_FOUND: the job was cancelled, or given to another.
                _log.debug("the server refused an answer: %s", b" ".join(arguments))
            elif packet == FAULT:
                self.fault = b" ".join(arguments).decode(errors="backslashreplace")

        # C gearmand hangs up on who answers a job that it has not sent to its end.
        if self._skipped is not None and not self._decoder.partial:
            self._assigned(self._skipped)
            self._skipped = None

    def _refused(self, said: list[bytes]) -> None:
        """It refuses a function; or how we ask for jobs: then ask as older servers know it."""
        text = b": ".join(said).decode(errors="backslashreplace").strip()
        if said[0].lower() not in _UNKNOWN or self.state is not State.GRABBING:
            self.refused = f"refused what it was told of this worker: {text}"
        elif not self._grabs:
            self.fault = text
        else:
            self.refused = f"does not know all of the protocol ({text}): doing without"
            self._grab = self._grabs.pop(0)
            self.grab()

    def _assigned(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.registered = True
        self.state = State.WORKING

    def _can_do(self, function: str) -> bytes:
        if (limit := self._limits.get(function)) is None:
            return request(Packet.CAN_DO, _bytes(function))
        return request(Packet.CAN_DO_TIMEOUT, _bytes(function), b"%d" % max(1, round(limit * 1000)))


_GRABS = {
    packet: request(packet)
    for packet in (Packet.GRAB_JOB, Packet.GRAB_JOB_UNIQ, Packet.GRAB_JOB_ALL)
}
_UNKNOWN = frozenset({b"server_error", b"unknown_command", b"invalid_command"})
_ASSIGN = frozenset({Packet.JOB_ASSIGN_UNIQ, Packet.JOB_ASSIGN, Packet.JOB_ASSIGN_ALL})


@lru_cache(maxsize=1000)
def say_once(server: str, refused: str) -> None:
    """Log what a server has refused; not again for each connection."""
    _log.warning("%s %s", server, refused)


def must_fit(limit: int, handle: str, data: bytes) -> None:
    """Raises ResultTooLarge when a packet of them is over ``limit`` bytes."""
    if (size := len(_bytes(handle)) + 1 + len(data)) > limit:
        text = f"a packet of {size} bytes is over the limit of {limit} (max_packet)"
        raise ResultTooLarge(text)


# Names go back as they came, whatever bytes they hold.
def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
