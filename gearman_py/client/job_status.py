"""What a server knows about a job."""

from typing import Literal, NamedTuple

Outcome = Literal["complete", "failed"]


class JobStatus(NamedTuple):
    """What a server knows about a job; the worker chose ``numerator`` and ``denominator``.

    ``known``: it waits or runs.
    """

    known: bool
    running: bool
    numerator: int
    denominator: int
    clients: int | None = None
    """How many clients wait for it; None if the question was not by unique."""
    outcome: Outcome | None = None
    """How a background job has ended whose result or failure is kept. None: it has not ended, or
    the server does not know it (any longer)."""

    @property
    def fraction(self) -> float:
        """The part that is done, from 0.0; 0.0 if the worker has not reported any."""
        return self.numerator / self.denominator if self.denominator else 0.0
