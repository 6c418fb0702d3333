"""What changes the schedules of this host's job server, at its admin socket."""

from __future__ import annotations

from urllib.parse import quote, unquote

from provision.agent.change import OPERATIONS
from provision.agent.files import Content, Failure
from provision.agent.link import FrameLink
from provision.agent.schedules import ask_admin


def set_schedule(
    link: FrameLink, content: Content, admin: str, name: str, facts: list[str]
) -> None:
    words = [quote(word, safe="=") for word in (name, *facts)]
    _command(admin, f"schedule set {' '.join(words)}\n", b"OK")


def delete_schedule(link: FrameLink, content: Content, admin: str, name: str) -> None:
    _command(admin, f"schedule delete {quote(name, safe='')}\n", b"ERR UNKNOWN_SCHEDULE")


def _command(admin: str, line: str, bearable: bytes) -> None:
    try:
        said = ask_admin(admin, line.encode())
    except (OSError, ValueError) as error:
        raise Failure(f"its job server cannot be asked at {admin}: {error}") from None
    if not said.startswith((b"OK", bearable)):
        why = unquote(said.decode(errors="replace").strip().replace("+", " "))
        raise Failure(f"its job server refuses the schedule: {why}")


OPERATIONS.update({"set_schedule": set_schedule, "delete_schedule": delete_schedule})
