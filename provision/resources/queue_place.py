"""Where a unit's file says that its job server keeps background jobs."""

import re
import shlex
from urllib.parse import parse_qsl, urlsplit

MEMORY = "memory"
EXEC_START = re.compile(r"^ExecStart=(.* -q .*)$", re.MULTILINE)
OF_PLACE = ("host", "hostaddr", "port", "dbname")  # of what PostgreSQL's client is told

Place = tuple[str, ...]
"""A kind of queue, and which database of that kind: not as whom it logs in there, and how."""


def queue_place(text: str) -> Place:
    """Of a unit's file, empty if there is none."""
    found = EXEC_START.search(text)
    if not found:
        return (MEMORY,)
    words = shlex.split(found[1])
    kind = _option(words, "-q")
    if kind == "postgres":
        known = _connection_settings(_option(words, "--postgres").replace("%%", "%"))
        return kind, *(known.get(name, "") for name in OF_PLACE)
    if kind == "redis":
        return kind, _option(words, "--redis-server"), _option(words, "--redis-port") or "6379"
    return (kind,)


def _option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1] if name in words else ""


def _connection_settings(text: str) -> dict[str, str]:
    """https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING."""
    if "://" not in text:
        return dict(each.split("=", 1) for each in shlex.split(text) if "=" in each)
    url = urlsplit(text)
    hosts = [each.rpartition(":") for each in url.netloc.rpartition("@")[2].split(",")]
    named = {
        "host": ",".join(host or port for host, _, port in hosts),
        "port": ",".join(port if host else "" for host, _, port in hosts),
        "dbname": url.path.lstrip("/"),
    }
    return {**named, **dict(parse_qsl(url.query))}
