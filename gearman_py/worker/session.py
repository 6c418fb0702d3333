"""A worker's side of one connection, without I/O.

The worker asks for a job; the server gives one or says that there is none; then the worker
sleeps until the server wakes it. Bytes to be written gather in here until ``take``.

Rule: nothing here takes a function back (CANT_DO, RESET_ABILITIES): the server would give
a running job of it to another worker, and refuse the result of this one.
"""

import logging
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from gearman_py.protocol.codec import RESPONSE, Decoder, request
from gearman_py.protocol.packets import FAULT, Packet

_log = logging.getLogger("gearman_py.worker")


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


class Session:
    """One connection's worker; it registers ``functions`` at once."""

    def __init__(self, functions: Iterable[str], client_id: str) -> None:
        self.state = State.IDLE
        self.registered = False  # a server's first answer shows that it knows our functions
        self.assignment: Assignment | None = None
        self.fault: str | None = None
        self._decoder = Decoder(RESPONSE)
        self._out = [request(Packet.SET_CLIENT_ID, client_id.encode())]
        self._out += [request(Packet.CAN_DO, function.encode()) for function in functions]

    def take(self) -> bytes:
        """The bytes to be written, once."""
        out = b"".join(self._out)
        self._out.clear()
        return out

    def grab(self) -> None:
        """Ask for a job."""
        self._out.append(request(Packet.GRAB_JOB_UNIQ))
        self.state = State.GRABBING

    def sleep(self) -> None:
        """Ask to be woken when there is a job."""
        self._out.append(request(Packet.PRE_SLEEP))
        self.state = State.ASLEEP

    def send(self, packet: Packet, *arguments: bytes) -> None:
        """Say something of the job in hand."""
        if self.assignment is not None:
            self._out.append(request(packet, _bytes(self.assignment.handle), *arguments))

    def finish(self, packet: Packet, *arguments: bytes) -> None:
        """Answer the job in hand: WORK_COMPLETE, WORK_FAIL or WORK_EXCEPTION, one of them."""
        self.send(packet, *arguments)
        self.assignment = None
        self.state = State.IDLE

    def receive(self, data: bytes) -> None:
        """Take what was read. After a ``fault`` the connection is of no more use."""
        for packet, arguments in self._decoder.feed(data):
            if packet in (Packet.JOB_ASSIGN_UNIQ, Packet.JOB_ASSIGN):
                self._assign(arguments)
            elif packet == Packet.NO_JOB and self.state is State.GRABBING:
                self.registered = True
                self.state = State.IDLE
            elif packet == Packet.NOOP and self.state is State.ASLEEP:
                self.state = State.IDLE
            elif packet == Packet.ERROR:
                # Most often JOB_NOT_FOUND: the job was cancelled, or given to another.
                _log.debug("the server refused an answer: %s", b" ".join(arguments))
            elif packet == FAULT:
                self.fault = b" ".join(arguments).decode(errors="backslashreplace")

    def _assign(self, arguments: list[bytes]) -> None:
        names = [_text(argument) for argument in arguments[:-1]]
        unique = names[2] if len(names) > 2 else ""
        self.assignment = Assignment(names[0], names[1], unique, arguments[-1])
        self.registered = True
        self.state = State.WORKING


# Names go back as they came, whatever bytes they hold.
def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
