"""Arguments of ssh, as `ansible_ssh_common_args` and its like give them.

What says where a host is and how to log in is read: -J and ProxyJump, -p and Port, -l and User, -i
and IdentityFile, -F, and a ProxyCommand that is another way to write a jump host. What would lead
elsewhere is refused, and all else is passed over: it tunes OpenSSH, which does not connect here.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from getopt import GetoptError, gnu_getopt

HOP = re.compile(r"(?:(?P<user>.+)@)?(?P<address>\[[^][]+\]|[^][:@]+)(?::(?P<port>\d{1,5}))?")
FLAGS = "1246AaCfGgKkMNnqsTtVvXxYyB:b:c:D:E:e:F:I:i:J:L:l:m:O:o:P:p:Q:R:S:W:w:"
READ = {"-J": "proxyjump", "-p": "port", "-l": "user", "-i": "identityfile", "-F": "config"}
ELSEWHERE = ("hostname", "hostkeyalias", "canonicalizehostname")
FORWARDERS = ("nc", "netcat", "ncat")
NOTHING = ("none", "/dev/null")


@dataclass(frozen=True)
class SSHArguments:
    """What they say; None and "": nothing.

    ``jump``: hosts to go through, each [user@]host[:port]. ``jump_key``: to log in to those with.
    ``passed_over``: options without effect here.
    """

    jump: tuple[str, ...] | None = None
    jump_key: str = ""
    port: str = ""
    user: str = ""
    key: str = ""
    config: str = ""
    passed_over: tuple[str, ...] = ()


def parse_ssh_arguments(text: str) -> SSHArguments:
    """Raises ValueError, which says what is wrong.

    >>> parse_ssh_arguments("-o ProxyJump=ana@gate:2222,inner").jump
    ('ana@gate:2222', 'inner')
    """
    options, rest = _split(shlex.split(text))
    if rest:
        raise ValueError(f"{rest[0]!r} is not an option of ssh")
    said: dict[str, str] = {}
    passed_over = []
    for name, value in options:
        if (key := name.lower()) in ELSEWHERE:
            raise ValueError(f"{name} is not supported: say ansible_host")
        if key in (*READ.values(), "proxycommand"):
            said.setdefault(key, value)  # as ssh has it, the first counts
        elif name not in passed_over:
            passed_over.append(name)
    jump, key = _find_jump(said)
    config = said.get("config", "")
    return SSHArguments(
        jump=jump,
        jump_key=key,
        port=said.get("port", ""),
        user=said.get("user", ""),
        key=said.get("identityfile", ""),
        config="" if config in NOTHING else config,
        passed_over=tuple(passed_over),
    )


def _split(words: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Options by ssh_config's names (others as flags), and the words behind them."""
    try:
        found, rest = gnu_getopt(words, FLAGS)
    except GetoptError as error:
        raise ValueError(f"{error.msg} (ssh)") from None
    return list(_named(found)), rest


def _named(found: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for flag, value in found:
        if flag == "-o":
            name, _, text = value.strip().replace("=", " ", 1).partition(" ")
            yield name, text.strip().strip('"')
        else:
            yield READ.get(flag, flag), value


def _find_jump(said: dict[str, str]) -> tuple[tuple[str, ...] | None, str]:
    """The jump hosts, and the key for them."""
    if "proxyjump" in said:
        written = said["proxyjump"]
        return (() if written.lower() == "none" else _checked(written.split(","))), ""
    if "proxycommand" in said:
        command = said["proxycommand"]
        return ((), "") if command.lower() == "none" else _parse_proxy_command(command)
    return None, ""


def _checked(hops: list[str]) -> tuple[str, ...]:
    for hop in hops:
        if not HOP.fullmatch(hop):
            raise ValueError(f"{hop!r} is not a jump host: write [user@]host[:port]")
    return tuple(hops)


def _parse_proxy_command(command: str) -> tuple[tuple[str, ...], str]:
    """`ssh -W %h:%p gate` and the older `ssh gate nc %h %p` are jump hosts; no other is read."""
    problem = ValueError(
        f"ProxyCommand {command!r}: only a jump host is supported, `ssh -W %h:%p HOST` or -J HOST"
    )
    program, *words = shlex.split(command) or [""]
    if program.rpartition("/")[2] == "exec" and words:
        program, *words = words
    if program.rpartition("/")[2] != "ssh":
        raise problem
    through = _before_command(words)
    options, rest = _split(words[:through])
    said = {name.lower() if len(name) > 2 else name: value for name, value in reversed(options)}
    behind = words[through:]
    forwards = "-W" in said or (
        behind and behind[0].rpartition("/")[2] in FORWARDERS and "%h" in " ".join(behind)
    )
    elsewhere = said.get("proxycommand", "none").lower() != "none" or "config" in said
    if len(rest) != 1 or not forwards or elsewhere:
        raise problem
    hop = HOP.fullmatch(rest[0])
    if hop is None:
        raise problem
    user, port = hop["user"] or said.get("user"), hop["port"] or said.get("port")
    written = (f"{user}@" if user else "") + hop["address"] + (f":{port}" if port else "")
    before = said.get("proxyjump", "")
    return _checked([*filter(None, before.split(",")), written]), said.get("identityfile", "")


def _before_command(words: list[str]) -> int:
    """How many words are options and the host: behind those stands what is run there."""
    for number, word in enumerate(words):
        if word.rpartition("/")[2] in FORWARDERS:
            return number
    return len(words)
