"""Limits of how many jobs of a function are started in a period."""

import re

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
MAX_STARTS = 1_000_000  # each start is remembered for a period
MAX_UNITS = 999_999  # that a period has


class RateLimit:
    """At most ``most`` jobs are started in any ``period`` of seconds; ``started`` were in the last.

    It is exact: a start counts until it is a period old.
    """

    __slots__ = ("most", "period", "started", "text")

    def __init__(self, text: str) -> None:
        """``text``: such as 100/s or 10/30m. Raises ValueError."""
        match = re.fullmatch(r"(\d{1,7})/(\d{0,6})([smhd])", text, re.ASCII)
        most, factor, unit = match.groups() if match else ("", "", "s")
        self.most = int(most or 0)
        self.period = int(factor or 1) * SECONDS[unit]
        if not (0 < self.most <= MAX_STARTS and self.period):
            raise ValueError(f"{text!r} is not a rate; expected one such as 100/s or 10/30m")
        self.started = 0
        self.text = text

    def __str__(self) -> str:
        return self.text
