"""What the text of a unit file says of the processes that it is for."""

import hashlib
import re
from collections.abc import Iterator
from functools import cache

OWN_PROCESS = frozenset(
    {
        *("Type", "ExecStart", "ExecReload", "Environment", "Restart", "RestartSec"),
        *("WatchdogSec", "KillMode", "TimeoutStopSec", "OOMPolicy"),
    }
)
"""What a unit file says of the process that it is for, and of no other."""
CONFIG = re.compile(r"(?<=^Environment=GEARMAN_CONFIG=).*$", re.MULTILINE)
TLS_LINES = re.compile(
    r"^(?:# Of the CA .*\n)?"
    r"Environment=(?:GEARMAND_CA_CERTIFICATE|GEARMAN_CLIENT_PEM|GEARMAN_CLIENT_KEY)=.*\n",
    re.MULTILINE,
)

DASHBOARD = re.compile(r"(?<=/venv/bin/gearman-web ).*$", re.MULTILINE)
OF_SERVERS = re.compile(r" --(?:name|admin-socket|tls-certificate|tls-key) \S+")
"""A dashboard's options about job servers, and those of its own page's certificate."""


@cache
def process_limits(text: str) -> tuple[str, ...]:
    """Its lines that hold whatever the process is: account, limits, hardening, secrets."""
    section = text.partition("[Service]\n")[2].partition("\n[")[0]
    lines = (line for line in section.splitlines() if not line.startswith("#"))
    return tuple(line for line in lines if line and line.partition("=")[0] not in OWN_PROCESS)


def find_openings(text: str) -> Iterator[str]:
    """What a unit may do beyond the usual, each with its setting if it has one."""
    lines = process_limits(text)
    if "NoNewPrivileges=yes" in lines and "MemoryDenyWriteExecute=yes" not in lines:
        yield "may make memory executable (jit)"
    for line in lines:
        if line.startswith("SupplementaryGroups="):
            yield f"may do what group {line.partition('=')[2]} may"
        if line.startswith("ReadWritePaths="):
            yield f"may write to {line.partition('=')[2].replace(' ', ', ')} (writes)"


def with_servers_of(text: str, now: str) -> str:
    """A unit file that names the job servers of another, and speaks TLS to them as that does."""
    before, after = (find_variable(each, "GEARMAN_SERVERS") for each in (text, now))
    if not before or not after:
        return text
    served = re.compile(rf"(?<=GEARMAN_SERVERS=){re.escape(before)}$", re.MULTILINE)
    named = re.compile(rf"(?<= --servers ){re.escape(before)}(?= )")
    tls = "".join(TLS_LINES.findall(now))
    lines = f"{after}\n{tls}".strip()
    changed = served.sub(lambda _: lines, TLS_LINES.sub("", text))
    changed = named.sub(lambda _: after, changed)
    changed = DASHBOARD.sub(lambda found: _with_options_of(found[0], now), changed)
    changed = CONFIG.sub("", changed)
    if changed == CONFIG.sub("", text):
        return text
    digest = hashlib.sha256(changed.encode()).hexdigest()[:12]
    return CONFIG.sub(digest, changed)


def _with_options_of(options: str, now: str) -> str:
    """A dashboard's options, with those about job servers as another unit file has them."""
    found = DASHBOARD.search(now)
    told = OF_SERVERS.findall(found[0]) if found else []
    return "".join([OF_SERVERS.sub("", options), *told])


def find_variable(text: str, name: str) -> str:
    """The value of a variable of one word that it sets, or ""."""
    found = re.search(rf"^Environment={name}=(\S+)$", text, re.MULTILINE)
    return found[1] if found else ""
