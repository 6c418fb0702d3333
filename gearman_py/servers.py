"""Where job servers are, as people write it: "host", "host:4730", "[::1]:4730", "unix:/path".

Several are parted by commas or come as a list. Nothing here looks up a name or connects.
"""

import os
from collections.abc import Iterable
from socket import gaierror
from typing import NamedTuple

DEFAULT_PORT = 4730  # IANA's for Gearman
ENVIRONMENT = "GEARMAN_SERVERS"  # as libgearman
UNIX = "unix:"


class Server(NamedTuple):
    """One job server's address; ``host`` is "unix:/path" for a Unix socket."""

    host: str
    port: int = DEFAULT_PORT

    @property
    def path(self) -> str | None:
        """The Unix socket's path; None for a TCP address."""
        return self.host.removeprefix(UNIX) if self.host.startswith(UNIX) else None

    def __str__(self) -> str:
        if self.path is not None:
            return self.host
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


Servers = str | Iterable[str]
"""Job servers as a person gives them."""


def parse_servers(servers: Servers | None = None, *, port: int = DEFAULT_PORT) -> list[Server]:
    """The servers named, each once, in order; ``port`` is for those that name none.

    None means the environment's GEARMAN_SERVERS, or localhost without it.
    Raises ValueError with a sentence about the first that is not an address.
    """
    if servers is None:
        servers = os.environ.get(ENVIRONMENT) or "localhost"
    words = servers.split(",") if isinstance(servers, str) else list(servers)
    names = [name.strip() for word in words for name in word.split(",")]
    found = dict.fromkeys(_parse(name, port) for name in names if name)
    if not found:
        raise ValueError("no job server given: expected HOST or HOST:PORT")
    return list(found)


def _parse(name: str, port: int) -> Server:
    if name.startswith(UNIX):
        return Server(name, 0)
    host, colon, tail = name, "", ""
    if name.startswith("["):
        host, bracket, rest = name[1:].partition("]")
        colon, tail = rest[:1], rest[1:]
        if not bracket or colon not in ("", ":"):
            raise ValueError(f"{name!r} is not a server: expected [ADDRESS]:PORT")
    elif name.count(":") == 1:
        host, colon, tail = name.partition(":")
    if not host:
        raise ValueError(f"{name!r} is not a server: it names no host")
    if not colon:
        return Server(host, port)
    if not (tail.isascii() and tail.isdigit() and 0 < int(tail) < 65536):
        raise ValueError(f"{name!r} is not a server: {tail!r} is not a port (1 to 65535)")
    return Server(host, int(tail))


def why_not(error: Exception, timeout: float | None = None) -> str:
    """Why a server could not be reached, or was lost, in a few words."""
    if isinstance(error, TimeoutError) and error.errno is None and timeout is not None:
        return f"no answer within {timeout:g} s"
    if isinstance(error, gaierror) or not isinstance(error, OSError) or error.errno is None:
        return getattr(error, "strerror", None) or str(error) or type(error).__name__
    return os.strerror(error.errno)  # asyncio puts the address where this should be
