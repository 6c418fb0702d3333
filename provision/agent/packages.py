"""Which packages of its distribution a host has. It only reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from provision.agent.system import run_query


def find_packages(names: Sequence[str]) -> dict[str, str]:
    """The installed ones of the ``names`` -> version, whether dpkg or rpm installed them."""
    found: dict[str, str] = {}
    for look in (_known_to_rpm, _known_to_dpkg):
        try:
            found.update(look(names))
        except FileNotFoundError:  # a system that has the other kind
            continue
    return found


def _known_to_dpkg(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    form = "${Package}\t${db:Status-Abbrev}\t${Version}\n"
    # It ends with 1 when one of them is not known; what it says of the others holds.
    said = run_query(["dpkg-query", "-W", "-f", form, "--", *names], (0, 1))
    for line in said.splitlines():
        name, state, version = line.split("\t")
        if state[1] == "i":
            yield name, version


def _known_to_rpm(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Also by what a package provides: dnf and zypper install by that too."""
    form = "%{VERSION}-%{RELEASE}\t\n"
    for name in names:  # each alone: what it says does not tell which name it is about
        said = run_query(["rpm", "-q", "--whatprovides", "--qf", form, "--", name], (0, 1))
        version, installed, _ = said.partition("\t")
        if installed:
            yield name, version
