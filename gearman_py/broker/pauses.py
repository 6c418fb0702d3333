"""Who paused a function or the server, and when: what operators ask next."""

from typing import NamedTuple


class Pause(NamedTuple):
    """``since``: seconds since 1970; 0: it is not known. ``by``: a user of the admin socket, or the
    address of a connection."""

    since: float = 0.0
    by: str = ""
