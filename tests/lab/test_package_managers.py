"""A host whose packages are RPMs: real dnf and zypper install them from a repository of ours.

No tree of a distribution that has them can be had: the host is Debian's, with Debian's dnf, zypper
and rpm, and says that it is another system.
"""

import functools
import http.server
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from provision.fleet import begin, deploy
from provision.lab import network
from provision.options import Options
from roles import ROLES
from tests.lab.test_distributions import Quiet, addresses, write_inventory
from tests.lab.test_upgrade import root

HOST = "server1"
PACKAGE = "gearman-lab-tool"
PROVIDED = "lab-tool"
SPEC = f"""
Name: {PACKAGE}
Version: 1.0
Release: 1
Summary: a package to be installed
License: BSD-3-Clause
BuildArch: noarch
Provides: {PROVIDED}
%description
It is empty.
%files
"""
SYSTEMS = {
    "dnf": ("rocky", "rhel centos fedora", "/etc/yum.repos.d"),
    "zypper": ("opensuse-leap", "suse opensuse", "/etc/zypp/repos.d"),
}
"""A package manager -> the ID and ID_LIKE of a system that has it, and its folder of sources."""


@pytest.fixture(scope="module")
def host(lab: ModuleType) -> Iterator[ModuleType]:
    """A host with both package managers."""
    lab.down(print)
    lab.up(print, packages=list(SYSTEMS))
    install = f"apt-get install --yes --no-install-recommends {' '.join(SYSTEMS)}"
    # Debian's rpm notes what it installed in root's home.
    database = "mkdir -p /etc/rpm && echo '%_dbpath /var/lib/rpm' > /etc/rpm/macros"
    root(lab, HOST, f"apt-get update && {install} && {database}")
    yield lab
    lab.down(print)
    lab.up(print)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a repository with one package."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "tool.spec").write_text(SPEC)
    build = ["rpmbuild", "--quiet", "-bb", "--define", f"_topdir {folder}", f"{folder}/tool.spec"]
    subprocess.run(build, check=True)
    subprocess.run(["createrepo_c", "--quiet", folder / "RPMS"], check=True)
    handler = functools.partial(Quiet, directory=str(folder / "RPMS"))
    with http.server.ThreadingHTTPServer((str(network.ADDRESS.ip), 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://{network.ADDRESS.ip}:{server.server_port}"
        server.shutdown()


@pytest.fixture(params=SYSTEMS)
def manager(request: pytest.FixtureRequest, host: ModuleType, repository: str) -> str:
    """The package manager of the system that the host says it is; it knows the repository."""
    name, like, sources = SYSTEMS[request.param]
    source = f"[lab]\\nname=lab\\nbaseurl={repository}\\nenabled=1\\ngpgcheck=0\\n"
    root(
        host,
        HOST,
        f"rm /etc/os-release; printf 'ID={name}\\nID_LIKE=\"{like}\"\\n' > /etc/os-release"
        f" && mkdir -p {sources} && printf '{source}' > {sources}/lab.repo"
        f" && rpm --erase --allmatches {PACKAGE} || true",
    )
    return str(request.param)


def test_packages_are_installed_once_and_missed_when_they_are_gone(
    host: ModuleType, manager: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts = {HOST: addresses(host)[HOST]}
    folder = write_inventory(tmp_path / "hosts", host, hosts, gearman_packages=[PROVIDED])
    only = Options(yes=True, tags="packages")
    for _ in range(2):
        assert deploy.plan(folder, ROLES, only) == begin.CHANGES_PENDING
        assert deploy.deploy(folder, ROLES, only) == 0
        assert PACKAGE in root(host, HOST, f"rpm -q {PACKAGE}")
        capsys.readouterr()
        assert deploy.deploy(folder, ROLES, only) == 0
        assert "nothing to change" in capsys.readouterr().out
        root(host, HOST, f"rpm --erase {PACKAGE}")


def test_a_package_that_does_not_exist_is_a_failure_in_the_manager_s_words(
    host: ModuleType, manager: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts = {HOST: addresses(host)[HOST]}
    folder = write_inventory(tmp_path / "hosts", host, hosts, gearman_packages=["no-such-tool"])
    assert deploy.deploy(folder, ROLES, Options(yes=True, tags="packages")) == 3
    said = capsys.readouterr().out
    assert {"dnf": "No match for argument: no-such-tool", "zypper": "no-such-tool"}[manager] in said


def test_such_a_host_is_deployed_as_any_other(
    host: ModuleType, manager: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts = {HOST: addresses(host)[HOST]}
    folder = write_inventory(tmp_path / "hosts", host, hosts, gearman_packages=[PACKAGE])
    assert deploy.deploy(folder, ROLES, Options(yes=True)) == 0
    assert deploy.deploy(folder, ROLES, Options(yes=True)) == 0
    assert "1 ok; nothing to change" in capsys.readouterr().out
