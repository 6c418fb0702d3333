"""SSH, with Fabric: the only file that imports it.

What Fabric leaves open is closed here. Host keys are verified, always (known_hosts.py). Every
wait has an end, and a dead peer is noticed. Nothing depends on ~/.ssh/config: the inventory
says all. Data goes through the channel itself: Fabric's `run` moves a character of stdin each
10 ms. Fabric is imported late, so that what needs no host starts at once.

Every failure is one message that names the host, and what to do.
"""

import errno
import logging
import shlex
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Timer
from typing import TYPE_CHECKING, Any

from provision.errors import HostFailed, InventoryError, Unreachable
from provision.inventory import Host
from provision.known_hosts import KnownHosts, fingerprint

if TYPE_CHECKING:
    import paramiko

CONNECT = 10.0  # seconds for TCP
LOGIN = 15.0  # seconds for each of banner, authentication and channel
KEEPALIVE = 5  # seconds
DEAD = 12_000  # milliseconds without an acknowledgement: with the above, told within 20 s
OFFERED = 5  # keys: sshd hangs up on who offers more than six
PIECE = 1 << 18
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

    def __init__(self, host: Host, connection: Any, channel: "paramiko.Channel") -> None:
        self._host = host
        self._connection = connection
        self._channel = channel

    def send(self, data: bytes) -> None:
        with _lost(self._host):
            self._channel.sendall(data)

    def receive(self, seconds: float) -> bytes:
        self._channel.settimeout(seconds)
        piece = self._channel.recv(PIECE)
        if not piece and self._is_lost():
            raise Unreachable(f"{self._host.name}: the connection was lost")
        return piece

    def _is_lost(self) -> bool:
        """Whether it was the connection that ended, and not the command.

        A command that ended sends its status. One that was killed sends none that paramiko
        knows, and the connection stays.
        """
        told = self._channel.status_event.wait(LOGIN) and self._channel.exit_status != -1
        return not (told or self._connection.is_connected)

    def close(self) -> None:
        self._channel.close()
        self._connection.close()


class Connection:
    """An open connection to a host, logged in as ``ansible_user``."""

    def __init__(self, host: Host, fabric: Any) -> None:
        self._host = host
        self._fabric = fabric

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._fabric.close()

    def start(self, line: str) -> Channel:
        """Start a shell command line, its stderr mixed with its stdout.

        The connection ends with the channel.
        """
        channel = self._open()
        channel.set_combine_stderr(True)
        with _lost(self._host):
            channel.exec_command(line)
        return Channel(self._host, self._fabric, channel)

    def run(
        self, command: str | Sequence[str], stdin: bytes = b"", seconds: float = 60.0
    ) -> Completed:
        """Run a command as the ordinary user, with these bytes as its stdin.

        Raises :class:`HostFailed` when it takes longer than ``seconds``, :class:`Unreachable`
        when the connection is lost.
        """
        line = command if isinstance(command, str) else shlex.join(command)
        channel = self._open()
        late = Event()

        def stop() -> None:
            late.set()
            channel.close()

        timer = Timer(seconds, stop)
        timer.start()
        try:
            with _lost(self._host), ThreadPoolExecutor(2) as threads:
                channel.exec_command(line)
                threads.submit(_feed, channel, stdin)
                stderr = threads.submit(_all, channel.recv_stderr)
                stdout = _all(channel.recv)
                done = Completed(channel.recv_exit_status(), stdout, stderr.result())
        finally:
            timer.cancel()
            channel.close()
        if late.is_set():
            raise HostFailed(f"{self._host.name}: `{line}` was not over after {seconds:g} s")
        if done.status == -1:
            raise Unreachable(f"{self._host.name}: the connection was lost during `{line}`")
        return done

    def _open(self) -> "paramiko.Channel":
        with _lost(self._host):
            channel: paramiko.Channel = self._fabric.transport.open_session(timeout=LOGIN)
            return channel


def connect(host: Host) -> Connection:
    """Connect and log in. Raises :class:`Unreachable`, which says why in one message."""
    from fabric import Config  # type: ignore[import-untyped]  # it has no types
    from fabric import Connection as FabricConnection

    known = KnownHosts(host)
    keys = _Keys(host)
    fabric = FabricConnection(
        host.address,
        user=host.user,
        port=host.port,
        config=Config(overrides={"load_ssh_configs": False}, lazy=True),
        connect_timeout=CONNECT,
        connect_kwargs={
            "transport_factory": _transport,
            "banner_timeout": LOGIN,
            "auth_timeout": LOGIN,
            "channel_timeout": LOGIN,
            "auth_strategy": keys,
        },
    )
    known.guard(fabric.client)
    try:
        with _explained(host, known, keys):
            fabric.open()
        fabric.transport.set_keepalive(KEEPALIVE)
    except BaseException:
        fabric.client.close()  # a connection that was not logged in is open all the same
        raise
    return Connection(host, fabric)


def host_keys(host: Host) -> list["paramiko.PKey"]:
    """Every key that a host shows, ed25519 first; nobody logs in, and nothing is trusted.

    Raises :class:`Unreachable`.
    """
    import paramiko

    found = []
    for kinds in KEY_TYPES:
        with _explained(host, KnownHosts(host), _Keys(host)):
            transport = _transport(socket.create_connection((host.address, host.port), CONNECT))
            try:
                transport.get_security_options().key_types = kinds
                transport.start_client(timeout=LOGIN)
                found.append(transport.get_remote_server_key())
            except paramiko.ssh_exception.IncompatiblePeer:
                continue  # it has none of this type
            finally:
                transport.close()
    return found


def _transport(sock: socket.socket, **options: Any) -> "paramiko.Transport":
    """Paramiko's, on a socket that sends at once and notices a dead peer."""
    import paramiko

    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux has it
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD)
    return paramiko.Transport(sock, **options)


class _Keys:
    """Logs in with the inventory's key, or else with the agent's and the user's own."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.offered: list[str] = []

    def authenticate(self, transport: "paramiko.Transport") -> None:
        """What paramiko calls. Raises AuthenticationException when no key was taken."""
        import paramiko

        for name, key in self._keys():
            self.offered.append(f"{name} ({fingerprint(key)})")
            try:
                transport.auth_publickey(self._host.user, key)
            except paramiko.BadAuthenticationType:
                break
            except paramiko.AuthenticationException:
                continue
            return
        raise paramiko.AuthenticationException

    def _keys(self) -> Iterator[tuple[str, "paramiko.PKey"]]:
        import paramiko

        path = self._host.key_file
        if path is not None:
            yield str(path), self._load(path)
            return
        agent = paramiko.Agent()
        found: list[tuple[str, paramiko.PKey]] = [
            (key.comment or "a key of your agent", key) for key in agent.get_keys()
        ]
        own = [Path.home() / ".ssh" / name for name in ("id_ed25519", "id_ecdsa", "id_rsa")]
        for path in own:
            try:
                found.append((str(path), paramiko.PKey.from_path(path)))
            except (OSError, ValueError, TypeError, paramiko.SSHException):
                continue  # not there, or locked: an agent is for that
        yield from found[:OFFERED]
        agent.close()

    def _load(self, path: Path) -> "paramiko.PKey":
        import paramiko
        from cryptography.exceptions import UnsupportedAlgorithm

        place = self._host.where_is("ansible_ssh_private_key_file")
        try:
            return paramiko.PKey.from_path(path)
        except OSError as error:
            problem = f"{path}: {error.strerror}"
        except (paramiko.PasswordRequiredException, TypeError):
            problem = f"{path} has a passphrase: ssh-add it, and take this line out"
        except (ValueError, UnsupportedAlgorithm, paramiko.SSHException):
            problem = f"{path} is no private key"
        raise InventoryError(f"{place}: ansible_ssh_private_key_file: {problem}")


@contextmanager
def _explained(host: Host, known: KnownHosts, keys: _Keys) -> Iterator[None]:
    """What went wrong while connecting, as one message to a person."""
    import paramiko

    place = f"{host.address}:{host.port}"
    try:
        yield
    except (Unreachable, InventoryError):
        raise
    except (socket.gaierror, UnicodeError):
        where = host.where_is("ansible_host")
        problem = f"cannot resolve {host.address!r} (ansible_host, {where})"
    except paramiko.ssh_exception.NoValidConnectionsError as error:
        problem = _no_way(host, next(iter(error.errors.values())))
    except TimeoutError:
        problem = f"{place} did not answer in {CONNECT:.0f} s: is it up, and is this its address?"
    except OSError as error:
        problem = _no_way(host, error)
    except paramiko.BadHostKeyException as error:
        problem = known.changed(error.key)
    except paramiko.AuthenticationException:
        offered = ", ".join(keys.offered) or "no key, for there is none"
        problem = (
            f"{host.user!r} was refused; offered: {offered}; "
            f"try ssh -p {host.port} {host.user}@{host.address}"
        )
    except (paramiko.SSHException, EOFError) as error:
        said = str(error) or "it hung up"
        problem = f"{place} answers, and not as an SSH server should: {said}"
    else:
        return
    raise Unreachable(f"{host.name}: {problem}")


def _no_way(host: Host, error: Any) -> str:
    place = f"{host.address}:{host.port}"
    if error.errno == errno.ECONNREFUSED:
        where = host.where_is("ansible_port")
        return f"{place} refused the connection; is sshd listening there? (ansible_port, {where})"
    if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return f"there is no way to {place} from here: is it up, and is this its address?"
    return f"{place}: {error.strerror or error}"


@contextmanager
def _lost(host: Host) -> Iterator[None]:
    import paramiko

    try:
        yield
    except (paramiko.SSHException, EOFError, OSError) as error:
        why = f": {error}" if str(error) else ""
        raise Unreachable(f"{host.name}: the connection was lost{why}") from error


def _feed(channel: "paramiko.Channel", stdin: bytes) -> None:
    try:
        for start in range(0, len(stdin), PIECE):  # in one call it would be copied 32 KB by 32 KB
            channel.sendall(stdin[start : start + PIECE])
        channel.shutdown_write()
    except OSError:
        pass  # a command need not read all it is given


def _all(receive: Callable[[int], bytes]) -> bytes:
    return b"".join(iter(lambda: receive(PIECE), b""))
