"""Questions of a client that are not jobs, and what is read from their answers."""

from collections.abc import Callable

from gearman_py.client.job_status import JobStatus, Outcome
from gearman_py.errors import GearmanError
from gearman_py.protocol.packets import Packet

_OUTCOMES: dict[bytes, Outcome] = {b"2": "complete", b"3": "failed"}


class Question:
    """A question to a server that is not a job; ``answer`` is None until it arrives."""

    def __init__(self, packet: Packet, key: bytes) -> None:
        self.packet = packet  # the type of the answer
        self.key = key  # the first argument of the answer
        self.answer: list[bytes] | None = None
        self.error: GearmanError | None = None
        self.on_done: Callable[[], object] | None = None  # for the front end

    def done(self) -> bool:
        """Whether it was answered or never will be."""
        return self.answer is not None or self.error is not None

    def result(self) -> list[bytes]:
        """The arguments of the answer. Raises the error that came instead."""
        if self.error is not None:
            raise self.error
        return self.answer or []

    def set_answer(self, answer: list[bytes] | None, error: GearmanError | None = None) -> None:
        """Record the answer, or why there is none."""
        self.answer, self.error = answer, error
        if self.on_done is not None:
            self.on_done()


def read_status(arguments: list[bytes]) -> JobStatus:
    """Parse the arguments of a STATUS_RES or STATUS_RES_UNIQUE."""
    _, known, running, numerator, denominator, *clients = arguments
    facts = (known == b"1", running == b"1", parse_count(numerator), parse_count(denominator))
    count = parse_count(clients[0]) if clients else None
    return JobStatus(*facts, count, _OUTCOMES.get(known))


def parse_count(data: bytes) -> int:
    """A count in ASCII digits; 0 for anything else a worker may have written."""
    return int(data) if data.isdigit() else 0
