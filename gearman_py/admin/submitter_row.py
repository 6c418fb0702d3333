"""Parses what a server says about who submits jobs."""

from typing import NamedTuple

from gearman_py.admin.numbers import parse_count, parse_seconds


class SubmitterRow(NamedTuple):
    """Who submits jobs of a function: its ``submissions`` by all of its connections.

    ``connections`` are open; if none is, the last one was closed ``seconds`` ago. ``client_id`` is
    "-" if it has none.
    """

    address: str
    client_id: str
    connections: int
    submissions: int
    seconds: float
    server: str = ""

    @classmethod
    def from_line(cls, line: str) -> "SubmitterRow":
        """Parse a line of ``submitters``."""
        address, *pairs = line.split("\t")
        values = dict(pair.split("=", 1) for pair in pairs)
        return cls(
            address,
            values["client_id"],
            parse_count(values["connections"]),
            parse_count(values["submissions"]),
            parse_seconds(values["seconds"]),
        )


def join_submitters(one: SubmitterRow, other: SubmitterRow) -> SubmitterRow:
    """A submitter at two servers."""
    connections = one.connections + other.connections
    return SubmitterRow(
        one.address,
        one.client_id,
        connections,
        one.submissions + other.submissions,
        0.0 if connections else min(one.seconds, other.seconds),
    )
