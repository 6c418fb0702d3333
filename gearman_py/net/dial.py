"""Connecting to a job server over TCP or a Unix socket."""

import socket

from gearman_py.net import keepalive
from gearman_py.net.servers import ServerAddress


def connect(server: ServerAddress, timeout: float | None) -> socket.socket:
    """A connected socket, within ``timeout`` seconds. Raises OSError (TimeoutError is one)."""
    if server.path is None:
        connection = socket.create_connection((server.host, server.port), timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keepalive.watch(connection)
        if server.tls is not None:
            from gearman_py.net.tunnel import open_tunnel  # few need it, and importing ssl is slow

            return open_tunnel(connection, server.tls, server.host)
        return connection
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        connection.connect(server.path)
    except BaseException:  # ^C too
        connection.close()
        raise
    return connection
