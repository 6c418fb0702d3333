"""SSH, with Fabric: the only file that imports it.

What Fabric leaves open is closed here. Host keys are verified, always, on every jump host too
(known_hosts.py). Every wait has an end, and a dead peer is noticed. Nothing depends on
~/.ssh/config unless the inventory names it (route.py). Data goes through the channel itself:
Fabric's `run` moves a character of stdin each 10 ms. Fabric is imported late, so that what needs
no host starts at once.

Every failure is one message that names the host, and what to do.
"""

import logging
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from threading import Event, Lock, Semaphore, Timer
from typing import TYPE_CHECKING, Any

from provision.errors import HostFailed, Unreachable
from provision.inventory.host import Host
from provision.ssh.diagnosis import explaining_failures, explaining_loss
from provision.ssh.jump_hosts import Gateway, Gateways
from provision.ssh.keys import Keys
from provision.ssh.known_hosts import KnownHosts
from provision.ssh.route import Hop, Route, find_route
from provision.ssh.stream import SSHStream, dial_hop, keep_alive
from provision.ssh.timeouts import LOGIN_TIMEOUT, SEND_TIMEOUT

if TYPE_CHECKING:
    import paramiko

# Logins at once at one machine, or through it: sshd drops some when ten are pending.
LOGINS_AT_ONCE = 8
CHUNK_SIZE = 1 << 18
OUTPUT_LIMIT = 1 << 26  # bytes of what a command says on each of its outputs
KEY_TYPES = (
    ("ssh-ed25519",),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    ("rsa-sha2-512", "rsa-sha2-256"),
)

logging.getLogger("paramiko").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Completed:
    """How a command on a host ended."""

    status: int
    stdout: bytes
    stderr: bytes


class Channel:
    """A command on a host, and the connection it has to itself."""

    def __init__(self, name: str, link: "_LoggedIn", channel: "paramiko.Channel") -> None:
        self._name = name
        self._link = link
        self._channel = channel

    def send(self, data: bytes) -> None:
        line, slow = self._link.line, f"it did not take {len(data)} bytes in {SEND_TIMEOUT:.0f} s"
        with explaining_loss(self._name, line), line.limit(SEND_TIMEOUT, slow):
            self._channel.sendall(data)

    def receive(self, seconds: float) -> bytes:
        self._channel.settimeout(seconds)
        piece = self._channel.recv(CHUNK_SIZE)
        if not piece and self._is_lost():
            raise Unreachable(f"{self._name}: the connection was lost")
        return piece

    def _is_lost(self) -> bool:
        """Whether it was the connection that ended, and not the command.

        A command that ended sends its status. One that was killed sends none that paramiko
        knows, and the connection stays.
        """
        told = self._channel.status_event.wait(LOGIN_TIMEOUT) and self._channel.exit_status != -1
        return not (told or self._link.is_alive)

    def close(self) -> None:
        _hang_up(self._channel)
        self._link.close()


class SSHConnection:
    """An open connection to a host, logged in as ``user``."""

    def __init__(self, name: str, user: str, link: "_LoggedIn") -> None:
        self.user = user
        self._name = name
        self._link = link

    def __enter__(self) -> "SSHConnection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._link.close()

    def start(self, line: str) -> Channel:
        """Start a shell command line, its stderr mixed with its stdout.

        The connection ends with the channel.
        """
        channel = self._open_channel()
        channel.set_combine_stderr(True)
        link, late = self._link, f"no command was begun in {LOGIN_TIMEOUT:.0f} s"
        with explaining_loss(self._name, link.line), link.line.limit(LOGIN_TIMEOUT, late):
            channel.exec_command(line)
        return Channel(self._name, link, channel)

    def run(
        self, command: str | Sequence[str], stdin: bytes = b"", seconds: float = 60.0
    ) -> Completed:
        """Run a command as the ordinary user, with these bytes as its stdin.

        Raises :class:`HostFailed` when it takes longer than ``seconds``, or says more than
        OUTPUT_LIMIT; :class:`Unreachable` when the connection is lost.
        """
        line = command if isinstance(command, str) else shlex.join(command)
        channel = self._open_channel()
        late, endless = Event(), Event()

        def stop(why: Event) -> None:
            why.set()
            _hang_up(channel)

        timer = Timer(seconds, stop, [late])
        too_much = partial(stop, endless)
        timer.start()
        try:
            with explaining_loss(self._name, self._link.line), ThreadPoolExecutor(2) as threads:
                channel.exec_command(line)
                threads.submit(_feed_stdin, channel, stdin)
                stderr = threads.submit(_read_all, channel.recv_stderr, too_much)
                stdout = _read_all(channel.recv, too_much)
                done = Completed(channel.recv_exit_status(), stdout, stderr.result())
        finally:
            timer.cancel()
            _hang_up(channel)
        if late.is_set():
            raise HostFailed(f"{self._name}: `{line}` did not end within {seconds:g} s")
        if endless.is_set():
            raise HostFailed(f"{self._name}: `{line}` said more than {OUTPUT_LIMIT >> 20} MiB")
        if done.status == -1:
            raise Unreachable(f"{self._name}: the connection was lost during `{line}`")
        return done

    @property
    def is_alive(self) -> bool:
        return self._link.is_alive

    def open_forward(self, address: str, port: int) -> "paramiko.Channel":
        """A channel to a place that the host can reach.

        Raises :class:`Unreachable`, also when its sshd does not forward, or nothing listens.
        """
        import paramiko

        place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        try:
            with explaining_loss(self._name, self._link.line):
                return self._link.transport.open_channel(
                    "direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=LOGIN_TIMEOUT
                )
        except paramiko.ChannelException as error:
            raise Unreachable(f"{self._name}: {place}: {error.text}") from error

    def _open_channel(self) -> "paramiko.Channel":
        with explaining_loss(self._name, self._link.line):
            return self._link.transport.open_session(timeout=LOGIN_TIMEOUT)


def _import_fabric() -> None:
    """By one thread: of many, each beginning with another module, some find only half of it."""
    with _importing:
        import fabric  # type: ignore[import-untyped]  # noqa: F401  # untyped; imports paramiko


_importing = Lock()


def connect(host: Host) -> SSHConnection:
    """Connect and log in. Raises :class:`Unreachable`, which says why in one message."""
    _import_fabric()
    way = find_route(host)
    return SSHConnection(host.name, way[-1].user, _log_in(way))


def host_keys(way: Route) -> list["paramiko.PKey"]:
    """Every key that the machine at the end shows, ed25519 first; without logging in.

    It is trusted no more than before; the jump hosts on the way have to be. Raises
    :class:`Unreachable`.
    """
    _import_fabric()
    import paramiko

    found = []
    with _approaching(way) as to:
        for kinds in KEY_TYPES:
            transport = paramiko.Transport(to.dial())  # type: ignore[arg-type]  # it is used as one
            try:
                transport.get_security_options().key_types = kinds
                transport.start_client(timeout=LOGIN_TIMEOUT)
                found.append(transport.get_remote_server_key())
            except paramiko.ssh_exception.IncompatiblePeer:
                continue  # it has none of this type
            finally:
                transport.close()
    return found


class _LoggedIn:
    """A connection that is logged in, and the gateway that it goes through."""

    def __init__(self, fabric: Any, line: SSHStream, gateway: "Gateway[_LoggedIn] | None") -> None:
        self._fabric = fabric
        self.line = line
        self._gateway = gateway
        self._closing = Lock()

    @property
    def transport(self) -> "paramiko.Transport":
        found: paramiko.Transport = self._fabric.transport
        return found

    @property
    def is_alive(self) -> bool:
        return self.transport.is_active()

    def close(self) -> None:
        """Close it, and then the gateway if no other connection uses it."""
        with self._closing:
            self._fabric.close()
            if self._gateway is not None:
                _gateways.leave_gateway(self._gateway)
                self._gateway = None


@dataclass(frozen=True)
class _Approach:
    """All that is needed to begin a connection to a machine."""

    hop: Hop
    gateway: "Gateway[_LoggedIn] | None"
    known: KnownHosts
    keys: Keys

    def dial(self) -> SSHStream:
        """A line to it. Raises what failed, or :class:`Unreachable` when that is the gateway."""
        if self.gateway is None:
            return dial_hop(self.hop, None)
        try:
            link = self.gateway.link
        except Unreachable as error:
            raise Unreachable(f"{self.hop}: {error}") from error
        return dial_hop(self.hop, link.transport)


@contextmanager
def _approaching(way: Route) -> Iterator[_Approach]:
    """Meanwhile its gateway is open, few do so at once, and what fails is explained."""
    *before, hop = way
    gateway = _gateways.enter_gateway(tuple(before)) if before else None
    to = _Approach(hop, gateway, KnownHosts(hop), Keys(hop))
    over = before[-1] if before else None
    try:
        if gateway is not None:
            gateway.wait_open()  # and not on the ramp, which it needs for itself
        with _ramps[way[0].known_as], explaining_failures(hop, to.known, to.keys, over):
            yield to
    finally:
        if gateway is not None:
            _gateways.leave_gateway(gateway)


def _log_in(way: Route) -> _LoggedIn:
    from fabric import Config
    from fabric import Connection as FabricConnection

    with _approaching(way) as to:
        line = to.dial()
        fabric = FabricConnection(
            to.hop.address,
            user=to.hop.user,
            port=to.hop.port,
            config=Config(overrides={"load_ssh_configs": False}, lazy=True),
            connect_kwargs={
                "sock": line,
                "timeout": LOGIN_TIMEOUT,
                "banner_timeout": LOGIN_TIMEOUT,
                "auth_timeout": LOGIN_TIMEOUT,
                "channel_timeout": LOGIN_TIMEOUT,
                "auth_strategy": to.keys,
            },
        )
        to.known.refuse_others(fabric.client)
        try:
            fabric.open()
            keep_alive(fabric.transport, line)
        except BaseException:
            fabric.client.close()  # a connection that was not logged in is open nevertheless
            raise
        if to.gateway is not None:
            _gateways.hold_again(to.gateway)
        return _LoggedIn(fabric, line, to.gateway)


_gateways = Gateways(_log_in)
_ramps: defaultdict[str, Semaphore] = defaultdict(lambda: Semaphore(LOGINS_AT_ONCE))


def _feed_stdin(channel: "paramiko.Channel", stdin: bytes) -> None:
    try:
        for start in range(
            0, len(stdin), CHUNK_SIZE
        ):  # in one call it would be copied 32 KB by 32 KB
            channel.sendall(stdin[start : start + CHUNK_SIZE])
        channel.shutdown_write()
    except OSError:
        pass  # a command need not read all it is given


def _hang_up(channel: "paramiko.Channel") -> None:
    with suppress(EOFError, OSError):  # the connection is gone already
        channel.close()


def _read_all(receive: Callable[[int], bytes], too_much: Callable[[], None]) -> bytes:
    """All that comes; past OUTPUT_LIMIT, ``too_much`` has it end and nothing more is kept."""
    pieces, size = list[bytes](), 0
    while piece := receive(CHUNK_SIZE):
        size += len(piece)
        if size > OUTPUT_LIMIT:
            too_much()
        else:
            pieces.append(piece)
    return b"".join(pieces)
