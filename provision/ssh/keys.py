"""Logging in, by key alone: with the files that were named, or the agent's keys and the user's own.

Never more than five are offered, because sshd hangs up on who offers more than six, and all that
were are named when none is taken. A file with a passphrase is used through the agent, if that has
its key; else the passphrase is asked for, once for all hosts.
"""

import base64
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from provision.errors import InventoryError
from provision.ssh.known_hosts import fingerprint
from provision.ssh.prompt import ask_password
from provision.ssh.route import Hop

if TYPE_CHECKING:
    import paramiko

MAX_KEYS_OFFERED = 5
OWN = ("id_ed25519", "id_ecdsa", "id_rsa")
MAGIC = b"openssh-key-v1\0"

_unlocked: dict[Path, "paramiko.PKey | str"] = {}
_unlocking = Lock()


class SecondFactor(Exception):
    """The key was taken, and the machine wants something else as well."""


class Keys:
    """Logs in to one machine."""

    def __init__(self, hop: Hop) -> None:
        self._hop = hop
        self.offered: list[str] = []
        self.said = ""  # by the machine, to who was not let in
        self.locked: list[str] = []  # own keys that have a passphrase

    def authenticate(self, transport: "paramiko.Transport") -> None:
        """What paramiko calls.

        Raises AuthenticationException when no key was taken, :class:`SecondFactor`, and
        :class:`InventoryError` when a named file is not a key.
        """
        import paramiko

        agent = paramiko.Agent()
        try:
            seen: set[paramiko.PKey] = set()
            for name, key in self._offered_keys(agent):
                if key in seen:
                    continue
                if len(seen) == MAX_KEYS_OFFERED:
                    break
                seen.add(key)
                self.offered.append(f"{name} ({fingerprint(key)})")
                try:
                    more = transport.auth_publickey(self._hop.user, key)
                except paramiko.BadAuthenticationType:
                    break
                except paramiko.AuthenticationException:
                    continue
                if more:
                    raise SecondFactor(", ".join(more))
                return
            # Not get_banner(), which is empty when the machine has hung up.
            banner: Any = transport.auth_handler and transport.auth_handler.banner
            self.said = banner.decode(errors="replace").strip() if banner else ""
        finally:
            agent.close()
        raise paramiko.AuthenticationException

    def _offered_keys(self, agent: "paramiko.Agent") -> Iterator[tuple[str, "paramiko.PKey"]]:
        import paramiko

        for path in self._hop.keys:
            yield str(path), self._load_key(path, agent)
        if self._hop.only:
            return
        for key in agent.get_keys():
            yield key.comment or "a key of your agent", key
        for path in (Path.home() / ".ssh" / name for name in OWN):
            try:
                yield str(path), paramiko.PKey.from_path(path)
            except (paramiko.PasswordRequiredException, TypeError):
                self.locked.append(str(path))  # an agent is for that
            except (OSError, ValueError, paramiko.SSHException):
                continue  # not there, or of no use

    def _load_key(self, path: Path, agent: "paramiko.Agent") -> "paramiko.PKey":
        import paramiko
        from cryptography.exceptions import UnsupportedAlgorithm

        try:
            return paramiko.PKey.from_path(path)
        except OSError as error:
            problem = f"{path}: {error.strerror}"
        except (paramiko.PasswordRequiredException, TypeError):
            return self._find_in_agent(agent, path) or self._unlocked_key(path)
        except (ValueError, UnsupportedAlgorithm, paramiko.SSHException):
            problem = f"{path} is not a private key"
        raise self._key_error(problem)

    def _find_in_agent(self, agent: "paramiko.Agent", path: Path) -> "paramiko.PKey | None":
        public = _public_half(path)
        return next((key for key in agent.get_keys() if key.asbytes() == public), None)

    def _unlocked_key(self, path: Path) -> "paramiko.PKey":

        with _unlocking:
            if path not in _unlocked:
                _unlocked[path] = _ask_and_unlock(path)
        found = _unlocked[path]
        if isinstance(found, str):
            raise self._key_error(found)
        return found

    def _key_error(self, problem: str) -> InventoryError:
        variable, _, where = self._hop.places["keys"].rpartition(", ")
        return InventoryError(f"{where}: {variable}: {problem}")


def _ask_and_unlock(path: Path) -> "paramiko.PKey | str":
    """The key, or why there is none."""
    import paramiko

    passphrase = ask_password(f"passphrase of {path}: ")
    if passphrase is None:
        return f"{path} has a passphrase: ssh-add it first"
    try:
        return paramiko.PKey.from_path(
            path,
            passphrase.reveal().encode(),  # type: ignore[arg-type]  # a str would not do
        )
    except (ValueError, paramiko.SSHException):
        return f"that is not the passphrase of {path}"


def _public_half(path: Path) -> bytes | None:
    """The public half of a private key's file, which is not locked with the rest of it."""
    import paramiko

    try:
        lines = path.read_text().splitlines()
        content = base64.b64decode("".join(line for line in lines if not line.startswith("-")))
    except (OSError, ValueError):
        return None
    if not content.startswith(MAGIC):
        return None
    message = paramiko.Message(content[len(MAGIC) :])
    for _ in ("cipher", "key derivation", "its options"):
        message.get_string()
    message.get_int()
    return message.get_string()
