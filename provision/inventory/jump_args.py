"""Jump hosts, as ``ansible_ssh_common_args`` names them."""

import re
import shlex

ARGUMENTS = "ansible_ssh_common_args"
HOP = re.compile(r"(?:(?P<user>.+)@)?(?P<address>\[[^][]+\]|[^][:@]+)(?::(?P<port>\d{1,5}))?")
OPTION = re.compile(r"-o\s*ProxyJump(?:\s*=\s*|\s+)(\S+)|-J\s*(\S+)", re.IGNORECASE)


def parse_jumps(arguments: str) -> tuple[str, ...]:
    """The jump hosts that ``ansible_ssh_common_args`` names; raises ValueError for anything else.

    >>> jumps("-o ProxyJump=ana@gate:2222,inner")
    ('ana@gate:2222', 'inner')
    """
    match = OPTION.fullmatch(" ".join(shlex.split(arguments)))
    if match is None:
        raise ValueError("only `-J HOST,...` and `-o ProxyJump=HOST,...` are supported")
    written = match[1] or match[2]
    hops = () if written.lower() == "none" else tuple(written.split(","))
    for hop in hops:
        if not HOP.fullmatch(hop):
            raise ValueError(f"{hop!r} is not a jump host: write [user@]host[:port]")
    return hops
