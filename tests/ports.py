"""Ports for servers of the tests that cannot choose one themselves."""

import os
import socket
from random import Random

# Below what the kernel gives to connections (net.ipv4.ip_local_port_range), so that none of
# them takes a port between two starts of a server.
_RANGE = range(15_000, 32_000)
_order = Random(os.getpid()).sample(_RANGE, len(_RANGE))  # noqa: S311  # spreads processes
_held: list[socket.socket] = []


def reserve_port() -> int:
    """A port that no other test is given while this process lives, and that is free now."""
    while True:
        port = _order.pop()
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0gearman_py-test-port-{port}")  # ends with the process
            with socket.create_server(("127.0.0.1", port)):
                pass
        except OSError:
            name.close()
            continue
        _held.append(name)
        return port
