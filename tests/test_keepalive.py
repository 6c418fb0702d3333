"""Whether a peer is gone, where the kernel does not tell."""

import socket

from gearman_py.net import keepalive


class Emulated(socket.socket):
    """A socket as QEMU's user mode has it: of TCP_INFO it tells four bytes."""

    def getsockopt(self, *arguments: int) -> int | bytes:  # type: ignore[override]  # of three
        return super().getsockopt(*arguments)[:4] if len(arguments) == 3 else 0


def test_a_peer_of_which_nothing_is_told_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, Emulated() as connection:
        connection.connect(listening.getsockname())
        assert not keepalive.peer_gone(connection)
