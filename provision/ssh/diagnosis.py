"""What goes wrong on the way to a host, as one message to a person: what, where, what to do."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from provision.errors import InventoryError, Unreachable
from provision.ssh.keys import Keys, SecondFactor
from provision.ssh.known_hosts import KnownHosts
from provision.ssh.route import Hop
from provision.ssh.stream import SSHStream
from provision.ssh.timeouts import CONNECT_TIMEOUT, LOGIN_TIMEOUT


@contextmanager
def explaining_failures(
    hop: Hop, known: KnownHosts, keys: Keys, gateway: Hop | None = None
) -> Iterator[None]:
    """Raises :class:`Unreachable` for what fails while connecting to ``hop``."""
    import paramiko

    place = f"{hop.address}:{hop.port}"
    try:
        yield
    except (Unreachable, InventoryError):
        raise
    except (socket.gaierror, UnicodeError):
        problem = f"cannot resolve {hop.address!r} ({hop.places['address']})"
    except TimeoutError:
        problem = (
            f"{place} did not answer in {CONNECT_TIMEOUT:.0f} s: is it up, and is this its address?"
        )
    except OSError as error:
        problem = _no_way(hop, error)
    except paramiko.BadHostKeyException as error:
        problem = known.explain_change(error.key)
    except SecondFactor as error:
        problem = (
            f"{hop.user!r} is let in with the key and with {error} as well: a key alone has to "
            "do (AuthenticationMethods in its sshd_config)"
        )
    except paramiko.AuthenticationException as error:
        problem = _explain_refusal(hop, keys, error)
    except paramiko.ChannelException as error:
        problem = _not_forwarded(hop, gateway, error.code)
    except (paramiko.SSHException, EOFError) as error:
        problem = _no_ssh(hop, gateway, str(error))
    else:
        return
    raise Unreachable(f"{hop}: {problem}")


@contextmanager
def explaining_loss(name: str, line: SSHStream) -> Iterator[None]:
    """Raises :class:`Unreachable` when ``line``, to host ``name``, ends meanwhile."""
    import paramiko

    try:
        yield
    except (paramiko.SSHException, EOFError, OSError) as error:
        why = line.problem or str(error)
        raise Unreachable(f"{name}: the connection was lost{why and f': {why}'}") from error


def _no_way(hop: Hop, error: Any) -> str:
    place = f"{hop.address}:{hop.port}"
    if error.errno == errno.ECONNREFUSED:
        return f"{place} refused the connection; is sshd listening there? ({hop.places['port']})"
    if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return f"no route to {place} from here: is it up, and is this its address?"
    return f"{place}: {error.strerror or error}"


def _explain_refusal(hop: Hop, keys: Keys, error: Any) -> str:
    offered = ", ".join(keys.offered) or "no key, for there is none"
    wants = ", ".join(getattr(error, "allowed_types", ()))
    only = f"; it takes only {wants}" if wants else ""
    locked = "".join(f"; {path} has a passphrase: ssh-add it" for path in keys.locked)
    said = f"; it said: {keys.said.splitlines()[-1]}" if keys.said else ""
    return (
        f"{hop.user!r} was refused{said}; offered: {offered}{locked}{only}; "
        f"try ssh -p {hop.port} {hop.user}@{hop.address}"
    )


def _not_forwarded(hop: Hop, gateway: Hop | None, code: int) -> str:
    import paramiko

    place = f"{hop.address}:{hop.port}"
    if code == paramiko.common.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED:
        return (
            f"{gateway} does not forward to {place}: look at AllowTcpForwarding and PermitOpen "
            "in its sshd_config, and at `restrict` before the key there"
        )
    return (
        f"{gateway} finds no way to {place}: is it up, is sshd listening there, and is this its "
        f"address? ({hop.places['address']})"
    )


def _no_ssh(hop: Hop, gateway: Hop | None, said: str) -> str:
    place = f"{hop.address}:{hop.port}"
    if gateway is not None and said == "SSH session not active":
        return f"the connection to {gateway} was lost"
    if gateway is not None and said == "Timeout opening channel.":
        return f"{gateway} got no answer from {place} in {LOGIN_TIMEOUT:.0f} s: is it up?"
    if said == "No existing session":  # what paramiko says when its time is up
        said = f"no keys were exchanged in {LOGIN_TIMEOUT:.0f} s"
    return f"{place} answers, and not as an SSH server should: {said or 'it hung up'}"
