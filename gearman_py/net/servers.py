"""Addresses of job servers: "host", "host:4730", "[::1]:4730", "unix:/path"; "gearmans://host" for
TLS.

Several are separated by commas or given as a list. Nothing here resolves names or connects.
"""

import os
from collections.abc import Iterable
from socket import gaierror
from typing import NamedTuple

from gearman_py.net.environment import read_variable
from gearman_py.net.tls import TLS, why_refused

DEFAULT_PORT = 4730  # IANA's for Gearman
ENVIRONMENT = "GEARMAN_SERVERS"  # as libgearman
UNIX = "unix:"
TLS_SCHEME, PLAIN_SCHEME = "gearmans://", "gearman://"


class ServerAddress(NamedTuple):
    """The address of a job server; ``host`` is "unix:/path" for a Unix socket.

    ``tls``: the files for TLS; None means a plain connection.
    """

    host: str
    port: int = DEFAULT_PORT
    tls: TLS | None = None

    @property
    def path(self) -> str | None:
        """The path of the Unix socket; None for a TCP address."""
        return self.host.removeprefix(UNIX) if self.host.startswith(UNIX) else None

    def __str__(self) -> str:
        if self.path is not None:
            return self.host
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


Servers = str | Iterable[str | ServerAddress]
"""Job servers as users write them."""


def parse_servers(
    servers: Servers | None = None, *, port: int = DEFAULT_PORT, tls: TLS | None = None
) -> list[ServerAddress]:
    """The servers, each once, in the order given; ``port`` is the default port.

    None means GEARMAN_SERVERS from the environment, else from /etc/gearman/environment, else
    localhost. ``tls`` applies to all of
    them except Unix sockets; "gearmans://host" always means TLS, by default with the files that
    the environment names. Raises ValueError for an invalid address, or TLSError.
    """
    if servers is None:
        servers = read_variable(ENVIRONMENT) or "localhost"
    words = servers.split(",") if isinstance(servers, str) else list(servers)
    known = [word for word in words if isinstance(word, ServerAddress)]
    names = [name.strip() for word in words if isinstance(word, str) for name in word.split(",")]
    found = dict.fromkeys([*known, *(_parse_address(name, port, tls) for name in names if name)])
    if not found:
        raise ValueError("no job server given: expected HOST or HOST:PORT")
    for files in {server.tls for server in found if server.tls is not None}:
        files.client_context()  # report problems now, not at the first job
    return list(found)


def _parse_address(name: str, port: int, tls: TLS | None) -> ServerAddress:
    if name.startswith(UNIX):
        return ServerAddress(name, 0)
    if name.startswith(TLS_SCHEME):
        return _parse_address(name.removeprefix(TLS_SCHEME), port, tls or TLS.of_client())
    name = name.removeprefix(PLAIN_SCHEME)
    host, colon, tail = name, "", ""
    if name.startswith("["):
        host, bracket, rest = name[1:].partition("]")
        colon, tail = rest[:1], rest[1:]
        if not bracket or colon not in ("", ":"):
            raise ValueError(f"{name!r} is not a server: expected [ADDRESS]:PORT")
    elif name.count(":") == 1:
        host, colon, tail = name.partition(":")
    if not host:
        raise ValueError(f"{name!r} is not a server: the host is missing")
    if not colon:
        return ServerAddress(host, port, tls)
    if not (tail.isascii() and tail.isdigit() and 0 < int(tail) < 65536):
        raise ValueError(f"{name!r} is not a server: {tail!r} is not a port (1 to 65535)")
    return ServerAddress(host, int(tail), tls)


def why_not(error: Exception, timeout: float | None = None) -> str:
    """Why a server could not be reached or was lost, in a few words."""
    if isinstance(error, TimeoutError) and error.errno is None and timeout is not None:
        return f"no answer within {timeout:g} s"
    if type(error).__module__ == "ssl":  # not imported here: it is slow
        return why_refused(error)
    if isinstance(error, gaierror) or not isinstance(error, OSError) or error.errno is None:
        return getattr(error, "strerror", None) or str(error) or type(error).__name__
    return os.strerror(error.errno)  # asyncio replaces it by the address


def describe_failure(server: ServerAddress, error: Exception, timeout: float) -> str:
    """The server and why it failed, as :func:`why_not`; errors of ours name the server already."""
    why = why_not(error, timeout)
    return why if str(server) in why else f"{server}: {why}"
