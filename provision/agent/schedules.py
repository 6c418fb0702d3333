"""The schedules of this host's job server, which is asked at its admin socket. It only reads."""

from __future__ import annotations

from urllib.parse import unquote

from provision.agent.text_answer import connect_admin, ends_listing, read_answer

ADMIN_TIMEOUT = 10.0  # seconds for each part of an answer
ANSWER_LIMIT = 1 << 27  # bytes: 10,000 schedules
SHOWN = ("function", "cron", "zone", "unique", "workload", "priority", "missed", "overlap", "owner")


def list_schedules(admin: str) -> dict[str, dict[str, str]] | None:
    """What each schedule of the server at its socket ``admin`` is; None when it does not run."""
    try:
        said = ask_admin(admin, b"schedules\n")
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    rows = (line.split("\t") for line in said.decode(errors="replace").splitlines())
    return {unquote(name): _read_facts(pairs) for name, *pairs in rows if pairs}


def _read_facts(pairs: list[str]) -> dict[str, str]:
    facts = dict(pair.partition("=")[::2] for pair in pairs)
    return {key: unquote(facts.get(key, "")) for key in SHOWN}


def ask_admin(admin: str, line: bytes) -> bytes:
    """What a server answers to a text command: one line, or lines up to a dot.

    Raises OSError; ValueError if its answer is not whole.
    """
    with connect_admin(admin, ADMIN_TIMEOUT) as connection:
        connection.sendall(line)
        return read_answer(connection, _is_whole, ANSWER_LIMIT)


def _is_whole(said: bytes) -> bool:
    # The row of a schedule has tabs, whatever its name begins with.
    if said.startswith((b"OK", b"ERR")) and said.endswith(b"\n") and b"\t" not in said:
        return said.count(b"\n") == 1
    return ends_listing(said)
