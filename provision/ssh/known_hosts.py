"""Which host keys are trusted: the inventory's known_hosts, else the user's own.

Only :func:`record_keys` adds to a file. Lines are read one by one, because one that paramiko does
not understand would spoil the file for it. A key marked @revoked in either file is refused;
@cert-authority is not supported, and such a line is passed over.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provision.atomic_write import write_atomically
from provision.errors import InventoryError, Unreachable
from provision.ssh.route import Hop

if TYPE_CHECKING:
    import paramiko


@dataclass(frozen=True)
class KnownKey:
    """A line of a known_hosts file that is about the host."""

    key: "paramiko.PKey"
    path: Path
    line: int
    revoked: bool

    @property
    def where(self) -> str:
        return f"{self.path}:{self.line}"


class KnownHosts:
    """What is known of one machine's keys."""

    def __init__(self, hop: Hop) -> None:
        self._hop = hop
        self._name = hop.known_as
        self.file = hop.folder / "known_hosts"
        found: list[KnownKey] = []
        self._revoked: list[KnownKey] = []  # of all files, as OpenSSH has it
        for path in (self.file, Path.home() / ".ssh" / "known_hosts"):
            keys = list(self._read_keys(path))
            self._revoked += [each for each in keys if each.revoked]
            found = found or [each for each in keys if not each.revoked]
        bad = {each.key for each in self._revoked}
        trusted = [each for each in found if each.key not in bad]
        # Paramiko asks the host for the type of the first.
        self._trusted = sorted(trusted, key=lambda each: each.key.get_name() != "ssh-ed25519")

    def standing(self, key: "paramiko.PKey") -> str:
        """How a key stands: known, new, changed (another of its type is trusted) or revoked."""
        if key in [each.key for each in self._revoked]:
            return "revoked"
        if key in [each.key for each in self._trusted]:
            return "known"
        types = {each.key.get_name() for each in self._trusted}
        return "changed" if key.get_name() in types else "new"

    @property
    def lines(self) -> set[int]:
        """The lines of the inventory's file that make it trusted."""
        return {each.line for each in self._trusted if each.path == self.file}

    def refuse_others(self, client: "paramiko.SSHClient") -> None:
        """Make ``client`` refuse every key but those."""
        client.set_missing_host_key_policy(_Refuse(self))  # type: ignore[arg-type]  # it asks for no more
        for each in self._trusted:
            client.get_host_keys().add(self._name, each.key.get_name(), each.key)

    def explain_unknown(self, key: "paramiko.PKey") -> str:
        """The message about a host of which no key is trusted."""
        for each in self._revoked:
            if each.key == key:
                return f"its host key {fingerprint(key)} is revoked ({each.where})"
        kind = key.get_name().removeprefix("ssh-")
        return (
            f"its host key is not known: {kind} {fingerprint(key)}\n"
            f"if `ssh-keygen -lf /etc/ssh/ssh_host_{kind}_key.pub` says the same there:\n"
            f"  {self._trust_command()}"
        )

    def explain_change(self, key: "paramiko.PKey") -> str:
        """The message about a host whose key is not the trusted one."""
        same = [each for each in self._trusted if each.key.get_name() == key.get_name()]
        old = (same or self._trusted)[0]
        return (
            f"its host key has changed: it shows {fingerprint(key)}, and {old.where} has "
            f"{fingerprint(old.key)}\n"
            f"if it was reinstalled: {self._trust_command()} --replace {self._hop.name}\n"
            "if not, someone may be in between: do not deploy, and look at the host's console"
        )

    def _trust_command(self) -> str:
        limit = "" if self._hop.jump else f" --limit {self._hop.name}"
        return f"./invoke trust --hosts {self._hop.inventory}{limit}"

    def _read_keys(self, path: Path) -> Iterator[KnownKey]:
        import paramiko

        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return
        except OSError as error:
            raise InventoryError(f"{path}: it cannot be read: {error.strerror}") from None
        for number, line in enumerate(lines, 1):
            marker, _, rest = line.partition(" ") if line.startswith("@") else ("", "", line)
            names = (rest.split(maxsplit=1) or [""])[0].split(",")
            revoked = marker == "@revoked"
            if not (self._is_matched(names) if revoked else not marker and self._is_among(names)):
                continue  # the keys of others are not even parsed: there may be many
            try:
                entry = paramiko.hostkeys.HostKeyEntry.from_line(rest, number)
            except (paramiko.SSHException, paramiko.hostkeys.InvalidHostKey):
                entry = None
            if entry is not None and entry.key is not None:
                yield KnownKey(entry.key, path, number, revoked)
            elif revoked:
                raise InventoryError(
                    f"{path}:{number}: the key that this line revokes cannot be read, and "
                    f"{self._hop.name} may have it: correct the line, or delete it"
                )

    def _is_among(self, names: Iterable[str]) -> bool:
        import paramiko

        return any(
            name == self._name
            or (name.startswith("|1|") and paramiko.HostKeys.hash_host(self._name, name) == name)
            for name in names
        )

    def _is_matched(self, patterns: Sequence[str]) -> bool:
        """Whether patterns (sshd(8)) are about it: one matches, and none that begins with "!"."""
        own = [each for each in patterns if not each.startswith("!")]
        others = [each[1:] for each in patterns if each.startswith("!")]
        return self._matches_one(own) and not self._matches_one(others)

    def _matches_one(self, patterns: Sequence[str]) -> bool:
        return self._is_among(patterns) or any(
            re.fullmatch(
                re.escape(each).replace(r"\*", ".*").replace(r"\?", "."), self._name.lower()
            )
            for each in map(str.lower, patterns)
        )


class _Refuse:
    """Paramiko's policy for a host of which no key is trusted."""

    def __init__(self, known: KnownHosts) -> None:
        self._known = known

    def missing_host_key(self, client: Any, name: str, key: "paramiko.PKey") -> None:
        raise Unreachable(f"{self._known._hop}: {self._known.explain_unknown(key)}")


def fingerprint(key: "paramiko.PKey") -> str:
    """As `ssh-keygen -l` shows it."""
    digest = hashlib.sha256(key.asbytes()).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


# -- writing it -----------------------------------------------------------------------------


@dataclass(frozen=True)
class SeenKey:
    """A key that a machine shows, and how it stands: known, new, changed or revoked."""

    hop: Hop
    key: "paramiko.PKey"
    standing: str


def record_keys(path: Path, wanted: Iterable[SeenKey], replaced: set[str]) -> None:
    """Add keys, in order; of machines that are replaced, the old lines go. Whole or not at all."""
    wanted = list(wanted)
    gone: set[int] = set()
    for each in wanted:
        if each.hop.known_as in replaced:
            gone |= KnownHosts(each.hop).lines
    try:
        lines = path.read_text().splitlines() if path.exists() else []
        lines = [line for number, line in enumerate(lines, 1) if number not in gone]
        for each in wanted:
            line = f"{each.hop.known_as} {each.key.get_name()} {each.key.get_base64()}"
            if line not in lines:
                # Before the first that belongs after it: comments stay where they are.
                after = (at for at, other in enumerate(lines) if _sort_key(other) > _sort_key(line))
                lines.insert(next(after, len(lines)), line)
        write_atomically(path, "".join(f"{line}\n" for line in lines).encode())
    except OSError as error:
        raise InventoryError(f"{path}: it cannot be written: {error.strerror}") from None


def _sort_key(line: str) -> tuple[str, bool, str]:
    """By host, ed25519 first; a comment, or a line that is not a key, belongs to none."""
    name, _, rest = line.partition(" ")
    if not rest or name.startswith(("#", "@")):
        return ("", False, "")
    return (name, not rest.startswith("ssh-ed25519 "), rest)
