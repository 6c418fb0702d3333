"""How a client was configured: its servers, limits and options; ``Retry`` for connecting."""

import random
from dataclasses import dataclass
from types import EllipsisType
from typing import Literal

from gearman_py.client.arguments import Timeout
from gearman_py.net.servers import ServerAddress
from gearman_py.protocol.codec import MAX_PACKET
from gearman_py.serializer import Serializer

LARGEST_PACKET = 2**32 - 1  # bytes: a header counts with 32 bits


@dataclass(frozen=True, slots=True)
class Retry:
    """How often all servers are tried: ``attempts`` rounds, with a pause of ``first`` seconds
    after the first round, twice as long each time, up to ``most``. Raises ValueError."""

    attempts: int = 3
    first: float = 0.1
    most: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts={self.attempts!r}: expected 1 or more")
        if min(self.first, self.most) < 0:
            raise ValueError(f"{self!r}: expected pauses of 0 seconds or more")

    def pause_after(self, attempt: int) -> float:
        """Seconds to wait after round ``attempt`` (from 1), with a jitter of 20 %."""
        length = min(self.most, self.first * 2.0 ** (attempt - 1))
        return length * random.uniform(0.8, 1.2)  # noqa: S311  not a secret


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """The arguments of Client() and AsyncClient(), which describe them; limits are in seconds.

    Raises ValueError or TypeError for a value that could not work.
    """

    servers: list[ServerAddress]
    connect_timeout: float
    submit_timeout: float
    timeout: float | None
    retry: Retry
    on_lost: Literal["raise", "resubmit"]
    prefix: str
    serializer: Serializer
    max_packet: int = MAX_PACKET

    def __post_init__(self) -> None:
        for name in ("connect_timeout", "submit_timeout"):
            if not (seconds := getattr(self, name)) > 0:
                raise ValueError(f"{name}={seconds!r}: expected more than 0 seconds")
        if self.timeout is not None and not self.timeout >= 0:
            raise ValueError(f"timeout={self.timeout!r}: expected seconds, or None for no limit")
        if not isinstance(self.retry, Retry):
            raise TypeError(f"retry={self.retry!r}: expected a Retry, such as Retry(attempts=5)")
        if self.on_lost not in ("raise", "resubmit"):
            raise ValueError(f"on_lost={self.on_lost!r}: expected raise or resubmit")
        if "\0" in self.prefix:
            raise ValueError(f"prefix={self.prefix!r} contains a NUL, which ends names on the wire")
        if not all(callable(getattr(self.serializer, name, None)) for name in ("dumps", "loads")):
            text = f"serializer={self.serializer!r}: expected an object with dumps() and loads()"
            raise TypeError(text)
        if not 1 <= self.max_packet <= LARGEST_PACKET:
            raise ValueError(
                f"max_packet={self.max_packet!r}: expected 1 to {LARGEST_PACKET} bytes"
            )

    @property
    def max_resubmits(self) -> int:
        """How often a job is resubmitted when its server is lost."""
        return self.retry.attempts if self.on_lost == "resubmit" else 0

    def resolve_timeout(self, timeout: Timeout) -> float | None:
        """``timeout`` in seconds, with ... replaced by the client's own limit."""
        return self.timeout if isinstance(timeout, EllipsisType) else timeout
