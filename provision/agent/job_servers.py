"""How job servers are asked about this host's workers, over Gearman's admin protocol.

It only connects and asks.
"""

from __future__ import annotations

import socket
from typing import Any

from provision.agent.text_answer import read_answer

TLS = "gearmans://"
CERTIFICATES = "/etc/gearman/tls"
SERVER_TIMEOUT = 3.0  # seconds to connect, and for each part of an answer


def workers_here(server: str, functions: list[str]) -> int:
    """How many workers of this host serve all of these functions at ``server``, HOST:PORT.

    Raises OSError when it cannot be asked, ValueError when the answer is not one.
    """
    own, rows = listed_workers(server)
    return sum(address == own and names.issuperset(functions) for (address, _), names in rows)


def listed_workers(server: str) -> tuple[str, list[tuple[tuple[str, str], set[str]]]]:
    """This host's address at ``server``, HOST:PORT, and of each connection who serves what there.

    A worker is told by its address and client ID. It may have several connections.
    Raises OSError when it cannot be asked, ValueError when the answer is not one.
    """
    with connected(server) as connection:
        own = connection.getsockname()[0].replace("::ffff:", "")
        connection.sendall(b"workers\n")
        said = read_answer(connection)
    lines = said.decode(errors="backslashreplace").replace("::ffff:", "").splitlines()
    rows = (line.partition(" :") for line in lines)
    found = ((head.split(), set(names.split())) for head, _, names in rows)
    return own, [((head[1], " ".join(head[2:])), names) for head, names in found if len(head) > 1]


def connected(server: str) -> Any:
    """A connection to a job server, by TLS with this host's own certificate if it says so."""
    host, _, port = server[len(TLS) if server.startswith(TLS) else 0 :].rpartition(":")
    connection = socket.create_connection((host.strip("[]"), int(port)), SERVER_TIMEOUT)
    return wrap_tls(connection, host.strip("[]")) if server.startswith(TLS) else connection


def wrap_tls(connection: socket.socket, name: str) -> socket.socket:
    """The same by TLS, as this host's own certificate allows it."""
    import ssl

    context = ssl.create_default_context(cafile=f"{CERTIFICATES}/ca.pem")
    context.load_cert_chain(f"{CERTIFICATES}/host.pem", f"{CERTIFICATES}/host.key")
    return context.wrap_socket(connection, server_hostname=name)
