"""How numbers, times and names are shown."""

import time
from urllib.parse import quote

from gearman_py.admin.answers import FunctionStats
from gearman_py.config import format_size
from gearman_py.printable import printable
from gearman_py.protocol.text import unescape_name

UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def format_number(value: float) -> str:
    """A whole number, with commas."""
    return f"{value:,.0f}"


def format_count(count: int, noun: str) -> str:
    """1 job, 2 jobs."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def format_rate(value: float) -> str:
    """Something that happens so often in a second."""
    if value == 0:
        return "0"
    if value < 0.1:
        return "<0.1"
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def format_share(value: float) -> str:
    """A share from 0 to 1, in percent: 100 % only if it is all, 0 % only if it is none."""
    percent = 100 * value
    if 0 < percent < 0.1:
        return "<0.1 %"
    if 99.9 < percent < 100:
        return ">99.9 %"
    return f"{percent:.1f} %" if 0 < percent < 10 else f"{percent:.0f} %"


def format_seconds(seconds: float | None) -> str:
    """A duration for people: 12 ms, 1.2 s, 59 s, 12 min, 3 h 5 min, 2 d 4 h."""
    if seconds is None:
        return "–"  # noqa: RUF001  a dash for "none"
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def format_moment(seconds: float, pattern: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A time in the time zone of this machine."""
    return time.strftime(pattern, time.localtime(seconds))


def format_name(name: str) -> str:
    """A name from a peer, harmless, and seen if it is blank."""
    return printable(name, keep="") if name.strip() or not name else repr(name)


def format_client_id(client_id: str) -> str:
    """A client id, harmless and without the labels of a deployed worker; "" if it has none."""
    return "" if client_id == "-" else format_name(client_id.partition(",")[0])


def raw_name(name: str) -> str:
    """A name as clients gave it, of one in a listing; commands have a NUL for the empty one.

    What has no name stays so: all functions.
    """
    raw = unescape_name(name.encode(errors="surrogateescape"))
    return raw.decode(errors="surrogateescape") or ("\0" if name else "")


def format_limits(stats: FunctionStats) -> str:
    """The limits of a function; "" if it has none."""
    limits = []
    if stats.max_running:
        limits.append(f"{stats.max_running:,} running")
    if stats.max_started:
        limits.append(f"{stats.max_started:,} started in {format_seconds(stats.period_seconds)}")
    if stats.max_per_key:
        limits.append(f"{stats.max_per_key:,} per key (up to {stats.key_separator!r})")
    return f"at most {', '.join(limits)}" if limits else ""


def format_period_rate(stats: FunctionStats) -> str:
    """How many jobs may be started in a period, as it is set: 100/s, 10/30m; "" for any number."""
    if not stats.max_started:
        return ""
    period = round(stats.period_seconds)
    unit, seconds = next(each for each in UNITS if period % each[1] == 0)
    number = period // seconds
    return f"{stats.max_started}/{number if number > 1 else ''}{unit}"


def path_of(name: str) -> str:
    """A name as a segment of a path."""
    return quote(name, safe="", errors="surrogateescape")


FILTERS = {
    "number": format_number,
    "count": format_count,
    "rate": format_rate,
    "share": format_share,
    "seconds": format_seconds,
    "size": format_size,
    "moment": format_moment,
    "segment": path_of,
    "harmless": format_name,
    "client": format_client_id,
    "limits": format_limits,
}
