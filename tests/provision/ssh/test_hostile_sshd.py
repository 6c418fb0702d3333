"""An sshd that drips, stalls or never answers: its host is given up in time."""

import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import paramiko
import pytest
from paramiko.common import cMSG_CHANNEL_WINDOW_ADJUST

from provision.errors import Unreachable
from provision.inventory import load as inventory
from provision.inventory.host import Host
from provision.remote.session import Session
from provision.ssh import connection, stream
from tests.attacks import attack
from tests.waiting import await_true

LIMIT = 1.0  # seconds, in place of all timeouts of the toolkit

Serve = Callable[[socket.socket, paramiko.PKey], None]


class Obliging(paramiko.ServerInterface):
    """It lets everybody in, and does nothing of what it is asked."""

    command = b""

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.common.AUTH_SUCCESSFUL

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.common.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self.command = command
        return True


def let_in(line: socket.socket, key: paramiko.PKey, server: Obliging) -> paramiko.Channel:
    transport = paramiko.Transport(line, default_window_size=32_768)
    transport.add_server_key(key)
    transport.start_server(server=server)
    channel = transport.accept(10)
    assert channel is not None
    return channel


def drip_banner(line: socket.socket, key: paramiko.PKey) -> None:
    while True:
        line.sendall(b"x")
        time.sleep(LIMIT / 10)


def send_banner_without_end(line: socket.socket, key: paramiko.PKey) -> None:
    while True:
        line.sendall(b"x" * 65_536)


def never_begin_the_command(line: socket.socket, key: paramiko.PKey) -> None:
    class Silent(Obliging):
        def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
            while True:  # so that it is not taken for dead
                time.sleep(LIMIT / 10)
                channel.get_transport().send_ignore()

    channel = let_in(line, key, Silent())
    channel.get_transport().join()


def take_byte_by_byte(line: socket.socket, key: paramiko.PKey) -> None:
    server = Obliging()
    channel = let_in(line, key, server)
    while not server.command:
        time.sleep(0.01)
    found = re.search(rb"([0-9a-f]{16}) ready", server.command)
    assert found
    channel.sendall(found[1] + b" ready 3.11\n")
    while True:
        time.sleep(LIMIT / 10)
        more = paramiko.Message()
        more.add_byte(cMSG_CHANNEL_WINDOW_ADJUST)
        more.add_int(channel.remote_chanid)
        more.add_int(1)
        channel.get_transport()._send_user_message(more)  # type: ignore[attr-defined]  # no stub


def send_without_regard(line: socket.socket, key: paramiko.PKey) -> None:
    channel = let_in(line, key, Obliging())
    while True:
        channel.out_window_size = 1 << 30  # whatever its peer has given
        channel.sendall(b"x" * 32_000)


@contextmanager
def serving(serve: Serve, folder: Path) -> Iterator[Host]:
    """A host whose sshd is ``serve``, which has a thread of its own for each connection."""
    key = paramiko.ECDSAKey.generate()
    own = folder / "id"
    paramiko.ECDSAKey.generate().write_private_key_file(str(own))

    def handle(line: socket.socket) -> None:
        with line, suppress(OSError, EOFError, paramiko.SSHException):
            serve(line, key)

    def accept() -> None:
        with suppress(OSError):
            while True:
                Thread(target=handle, args=(listening.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        (folder / "known_hosts").write_text(
            f"[127.0.0.1]:{port} {key.get_name()} {key.get_base64()}\n"
        )
        settings = f"ansible_host: 127.0.0.1, ansible_port: {port}"
        settings += f", ansible_ssh_private_key_file: {own}, ansible_user: deploy"
        (folder / "hosts.yml").write_text(f"worker: {{hosts: {{w1: {{{settings}}}}}}}\n")
        Thread(target=accept, daemon=True).start()
        yield inventory.load(folder).hosts[0]
        listening.shutdown(socket.SHUT_RDWR)


@attack("compromised host", "an sshd that drips, stalls, or never answers a command", "mended")
@pytest.mark.parametrize(
    ("serve", "problem"),
    [
        (drip_banner, "not as an SSH server should: no keys were exchanged in 1 s"),
        (send_banner_without_end, "not as an SSH server should: no keys were exchanged in 1 s"),
        (never_begin_the_command, "the connection was lost: no command was begun in 1 s"),
        (take_byte_by_byte, r"the connection was lost: it did not take \d+ bytes in 1 s"),
    ],
)
def test_a_host_is_given_up_in_time(
    serve: Serve, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("connection.LOGIN_TIMEOUT", "connection.SEND_TIMEOUT", "diagnosis.LOGIN_TIMEOUT"):
        monkeypatch.setattr(f"provision.ssh.{name}", LIMIT)
    with (
        serving(serve, tmp_path) as host,
        pytest.raises(Unreachable, match=problem),
        connection.connect(host) as found,
    ):
        Session("w1", found.start)


@attack("compromised host", "take nothing of what is sent, though it says something", "mended")
def test_a_peer_that_takes_nothing_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "KEEPALIVE_INTERVAL", 0.2)
    monkeypatch.setattr(stream, "KEEPALIVE_TIMEOUT", 0.1)
    ours, theirs = socket.socketpair()
    line = stream.SSHStream(ours)
    line.settimeout(0.1)
    with ours, theirs, pytest.raises(EOFError):
        while True:
            theirs.send(b"x")
            line.recv(1)
            with suppress(TimeoutError):
                line.send(b"x" * 65_536)
    assert line.problem.startswith("it took nothing for")


@attack("compromised host", "an sshd that fills memory while its host is not read from", "mended")
def test_a_host_that_sends_more_than_is_read_is_given_up(tmp_path: Path) -> None:
    with serving(send_without_regard, tmp_path) as host, connection.connect(host) as found:
        with pytest.raises(Unreachable):  # as early as the start, when the host is quick
            channel = found.start("agent")
            await_true(lambda: not found.is_alive)
            while channel.receive(10):
                pass
        assert not found.is_alive
