"""What distributions differ in, as far as people are told about it: packages and firewalls.

A host says what it is in os-release(5): its ID, and in ID_LIKE what it was made from, the
nearest first.
"""

import re
from collections.abc import Mapping

MANAGERS = "apt-get", "dnf", "zypper"  # with which a deploy installs packages
INSTALL = {
    "debian": "apt-get install",
    "ubuntu": "apt-get install",
    "fedora": "dnf install",
    "rhel": "dnf install",
    "alpine": "apk add",
    "suse": "zypper install",
    "arch": "pacman -S",
}
"""A distribution, or its ancestor -> the command that installs a package there."""


def os_release(text: str) -> dict[str, str]:
    """What a file /etc/os-release says."""
    pairs = re.findall(r"^([A-Z_]+)=(.*?)\r?$", text, re.MULTILINE)
    return {name: value.strip("\"'") for name, value in pairs}


def install_command(os: Mapping[str, str], *packages: str) -> str | None:
    """The command that installs packages on such a system; None when we do not know it."""
    for name in (os.get("ID", ""), *os.get("ID_LIKE", "").split()):
        if command := INSTALL.get(name):
            return " ".join([command, *packages])
    return None


def system_name(os: Mapping[str, str]) -> str:
    """What people call such a system."""
    return os.get("PRETTY_NAME") or os.get("ID") or "an unknown system"


def opening_advice(port: str | int) -> str:
    """How a host's own firewall lets others in at a TCP port."""
    return (
        f"let TCP {port} in (with firewalld: firewall-cmd --permanent --add-port={port}/tcp && "
        f"firewall-cmd --reload; with ufw: ufw allow {port}/tcp)"
    )
