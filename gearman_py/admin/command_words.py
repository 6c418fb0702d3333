"""Administrative commands as lines of the text protocol, without I/O."""

from base64 import b64decode
from datetime import datetime
from urllib.parse import quote

from gearman_py.protocol.codec import MAX_LINE

MAX_SECONDS = 10**12
MAX_COMMAND = MAX_LINE - 2  # bytes; the server closes the connection after a longer line


def encode_command(command: str) -> bytes:
    """The line of a command. Raises ValueError if it is longer than a job server reads."""
    line = command.encode()
    if len(line) > MAX_COMMAND:
        raise ValueError(
            f"{command[:20]} ...: the command takes {len(line)} bytes, more than {MAX_COMMAND}"
        )
    return line + b"\r\n"


def check_word(name: str) -> str:
    """``name`` as a word of a command. Raises ValueError if it cannot be one."""
    if not name or any(c.isspace() or not c.isprintable() for c in name):
        raise ValueError(
            f"{name!r} cannot be sent: the text protocol separates words by spaces, and has no "
            "empty ones"
        )
    return name


def encode_name(name: str) -> str:
    """``name`` as a word of a command that takes any name. Raises ValueError if it is empty."""
    if not name:
        raise ValueError("expected a name, which is not empty")
    return quote(name, safe="", errors="surrogateescape")


def as_seconds(at: datetime | float) -> str:
    """A time as a word of a command: seconds since 1970. Raises ValueError before that."""
    seconds = at.timestamp() if isinstance(at, datetime) else at
    if not 0 < seconds < MAX_SECONDS:
        raise ValueError(f"{at!s}: expected a time after 1970 and before the year 33000")
    return f"{seconds:.3f}"


def jobs_command(command: str, **filters: str | int) -> str:
    """A command for the jobs that match the filters which are not empty."""
    texts = {key: str(value) for key, value in filters.items() if value}
    words = [
        f"{key}={quote(text, safe='', errors='surrogateescape')}" for key, text in texts.items()
    ]
    return " ".join([command, *words])


def max_queue_command(
    function: str, limit: int | None, high: int | None, normal: int | None, low: int | None
) -> str:
    """The command that limits the queue of a function. Raises ValueError."""
    limits = [limit if own is None else own for own in (high, normal, low)]
    if any(one is not None and one < 1 for one in limits):
        raise ValueError(f"limits {limits}: expected 1 or more, or None for no limit")
    return f"maxqueue {check_word(function)} {' '.join(str(one or 0) for one in limits)}"


def limit_command(
    function: str, running: int | None, rate: str | None, per_key: int | None, separator: str
) -> str:
    """The command that limits which jobs of a function run. Raises ValueError.

    It is one, so that no job is given out between the end of a limit and the next one.
    """
    for what, most in (("running", running), ("per_key", per_key)):
        if most is not None and most < 0:
            raise ValueError(f"{what}={most}: expected 1 or more, or 0 for no limit")
    keyed = f"{per_key} separator={quote(separator, safe='')}" if per_key else per_key
    limits = {"running": running, "rate": rate and check_word(str(rate)), "per-key": keyed}
    words = [f"{what}={limit}" for what, limit in limits.items() if limit is not None]
    if not words:
        raise ValueError("no limit; expected running, rate or per_key")
    return " ".join(["limit", encode_name(function), *words])


def schedule_facts(
    name: str, workload: bytes, overlap: str, missed: str, priority: str, **texts: str
) -> str:
    """The words that describe a schedule. Raises ValueError."""
    for what, value, known in (
        ("overlap", overlap, ("allow", "skip")),
        ("missed", missed, ("once", "all", "none")),
        ("priority", priority, ("high", "normal", "low")),
    ):
        if value not in known:
            raise ValueError(f"{what}={value!r}: expected {', '.join(known[:-1])} or {known[-1]}")
    facts: dict[str, str | bytes] = {"overlap": overlap, "missed": missed, "priority": priority}
    facts |= texts | {"workload": workload}
    words = [encode_name(name)]
    words += [f"{key}={quote(text, safe='')}" for key, text in facts.items() if text]
    return " ".join(words)


def read_result_part(line: str) -> tuple[int, bytes]:
    """The size of a result, and a part of it, from an answer to ``result``."""
    pairs = dict(pair.split("=", 1) for pair in line.split("\t")[1:])
    return int(pairs["bytes"]), b64decode(pairs["result"])
