"""The way to a host: the jump hosts to go through, in order, and then the host.

The inventory says it. With its variable `gearman_ssh_config`, an OpenSSH configuration adds
HostName, Port, User, IdentityFile, IdentitiesOnly and ProxyJump, for hosts and jump hosts alike;
what the inventory says wins, as with Ansible. Only `Host` blocks are read: what would silently lead
elsewhere (Include, Match, ProxyCommand, HostKeyAlias) is refused. Keys are trusted as
known_hosts.py says, whatever is written there.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from getpass import getuser
from pathlib import Path
from typing import Any

from provision.errors import InventoryError
from provision.inventory.host import Host
from provision.inventory.ssh_args import HOP

MAX_JUMP_HOSTS = 8  # jump hosts
CONFIG = "gearman_ssh_config"
ELSEWHERE = ("proxycommand", "hostkeyalias")


@dataclass(frozen=True)
class Hop:
    """A machine to log in to: a jump host, or at the end of the way the host itself."""

    name: str  # the host's, or the jump host's as it was written
    address: str
    port: int
    user: str
    keys: tuple[Path, ...]  # files to log in with
    only: bool  # with those keys, and with none of the agent's or the user's own
    folder: Path  # of the inventory: known_hosts is there
    inventory: Path  # as --hosts named it
    jump: bool
    # file:line of what was said of address, port and keys
    places: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        return f"jump host {self.name}" if self.jump else self.name

    @property
    def known_as(self) -> str:
        """Its name in known_hosts."""
        return self.address if self.port == 22 else f"[{self.address}]:{self.port}"


Route = tuple[Hop, ...]


def find_route(host: Host) -> Route:
    """The way to a host. Raises :class:`InventoryError`."""
    return _RouteBuilder(host).build_route()


class _RouteBuilder:
    """Finds the way to one host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._file = host.ssh_config
        self._config = _read_config(self._file, host.where_is(CONFIG)) if self._file else None

    def build_route(self) -> Route:
        host, said = self._host, self._options_for(self._host.address)
        target = Hop(
            name=host.name,
            address=said.get("hostname", host.address),
            port=host.port if host.is_set("ansible_port") else self._port_of(said),
            user=host.user if host.is_set("ansible_user") else said.get("user", host.user),
            keys=(host.key_file,) if host.key_file else self._key_files(said),
            only=host.key_file is not None or self._is_only(said),
            folder=host.folder,
            inventory=host.inventory,
            jump=False,
            places={
                "address": self._where_said("ansible_host", "hostname", said),
                "port": self._where_said("ansible_port", "port", said),
                "keys": self._where_said("ansible_ssh_private_key_file", "identityfile", said),
            },
        )
        written = self._jump_hosts_of(said) if host.jump is None else host.jump
        hops = self._find_hops(written)
        if len(hops) > MAX_JUMP_HOSTS:
            raise InventoryError(
                f"{self._where_said(host.arguments, 'proxyjump', said)}: {host.name}: more than "
                f"{MAX_JUMP_HOSTS} jump hosts: do they lead in a circle?"
            )
        # As ssh has it: under `Host *`, a jump host is not reached through itself.
        place = (target.address, target.port)
        return (*(hop for hop in hops if (hop.address, hop.port) != place), target)

    def _find_hops(self, written: tuple[str, ...], depth: int = 0) -> Route:
        if not written or depth > MAX_JUMP_HOSTS:
            return ()
        hops = tuple(map(self._parse_hop, written))
        # The first one's own way, which ssh looks up too.
        first = HOP.fullmatch(written[0])
        before = self._jump_hosts_of(self._options_for(first["address"])) if first else ()
        if before and before != written:
            hops = (*self._find_hops(before, depth + 1), *hops)
        return hops

    def _parse_hop(self, written: str) -> Hop:
        match = HOP.fullmatch(written)
        if match is None:
            raise InventoryError(f"{self._file}: ProxyJump {written}: write [user@]host[:port],...")
        bare = match["address"].strip("[]")
        said = self._options_for(bare)
        own = self._key_files(said)
        key = self._host.jump_key or self._host.key_file
        arguments = self._host.arguments
        return Hop(
            name=bare,
            address=said.get("hostname", bare),
            port=int(match["port"] or 0) or self._port_of(said),
            user=match["user"] or said.get("user") or getuser(),
            keys=(key,) if self._host.jump_key and key else own or ((key,) if key else ()),
            only=self._is_only(said),
            folder=self._host.folder,
            inventory=self._host.inventory,
            jump=True,
            places=dict.fromkeys(
                ("address", "port"), self._where_said(arguments, "proxyjump", said)
            )
            | {"keys": f"{self._file}, IdentityFile" if own else self._host.where_is(arguments)},
        )

    # -- what the configuration says --------------------------------------------------------

    def _options_for(self, name: str) -> Any:
        if self._config is None:
            return {}
        said = self._config.lookup(name)
        for option in ELSEWHERE:
            if said.get(option):
                raise InventoryError(
                    f"{self._file}: {option} for {name!r} is not supported"
                    + ("; ProxyJump is" if option == "proxycommand" else "")
                )
        return said

    def _port_of(self, said: Any) -> int:
        written = str(said.get("port", 22))
        if not (written.isdecimal() and 0 < int(written) < 65536):
            raise InventoryError(f"{self._file}: Port {written} is not a port")
        return int(written)

    def _jump_hosts_of(self, said: Any) -> tuple[str, ...]:
        written = said.get("proxyjump") or "none"
        return () if written.lower() == "none" else tuple(written.split(","))

    def _key_files(self, said: Any) -> tuple[Path, ...]:
        """The files that are there: as ssh has it, the others are passed over."""
        paths = (Path(path).expanduser() for path in said.get("identityfile", ()))
        return tuple(path for path in paths if path.exists())

    def _is_only(self, said: Any) -> bool:
        return bool(said.get("identitiesonly", "no").lower() == "yes")

    def _where_said(self, variable: str, option: str, said: Any) -> str:
        if not self._host.is_set(variable) and option in said and self._file:
            return f"{self._file}, {option}"
        return f"{variable}, {self._host.where_is(variable)}"


def _read_config(path: Path, where: str) -> Any:
    import paramiko

    try:
        text = path.read_text()
        for number, line in enumerate(text.splitlines(), 1):
            word = re.match(r"\s*(include|match)\b", line, re.IGNORECASE)
            if word:
                raise InventoryError(
                    f"{path}:{number}: {word[1]} is not supported ({CONFIG}, {where}): name a "
                    "file without it, or say in the inventory what it says"
                )
        return paramiko.SSHConfig.from_text(text)
    except OSError as error:
        problem = error.strerror
    except (UnicodeDecodeError, paramiko.ConfigParseError) as error:
        problem = str(error)
    raise InventoryError(f"{where}: {CONFIG}: {path}: {problem}")
