"""A fleet of two kinds of machine: an x86-64 host, and an arm64 host that is emulated.

Its base tree takes minutes to build, once on a machine, so SUITES=all alone has it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from gearman_py import Client
from provision.fleet import deploy
from provision.options import Options
from provision.resources.sample_jobs import SAMPLES
from roles import ROLES
from tests.lab.operator_commands import ROOT
from tests.lab.test_distributions import ALL, addresses, run_in, upgraded, write_inventory
from tests.lab.test_upgrade import root, tree

MACHINES = {"server1": "x86_64", "worker1": "aarch64"}
LIBRARIES = "PIL._imaging, uvloop.loop"  # that are built for a machine


@pytest.fixture(scope="module")
def both(lab: ModuleType) -> Iterator[ModuleType]:
    lab.down(print)
    lab.up(print, 1, {"worker1": "arm64"})
    yield lab
    lab.down(print)
    lab.up(print)


@pytest.fixture(scope="module")
def fleet(both: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The inventory of both: each is job server, worker and client, as deployed."""
    hosts = {host: addresses(both)[host] for host in MACHINES}
    folder = tmp_path_factory.mktemp("fleet") / "hosts"
    functions = {"gearman_functions": ["reverse", "resize", "wc"]}
    write_inventory(folder, both, hosts, **functions)
    assert deploy.deploy(folder, ROLES, Options(yes=True)) == 0
    return folder


def assert_served(lab: ModuleType) -> None:
    """By the worker of each machine, at the job server of each."""
    for server in MACHINES:
        with Client(f"{addresses(lab)[server]}:4730", timeout=60) as client:
            for worker in MACHINES:
                for function, sample in SAMPLES.items():
                    answer = client.do(f"{function}@{worker}", sample.workload())
                    assert sample.judge(answer) is None, (server, worker, function)


if ALL:

    def test_each_host_gets_the_release_for_its_machine(
        fleet: Path, both: ModuleType, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for host, machine in MACHINES.items():
            manifest = json.loads(root(both, host, "cat /opt/gearman/current/MANIFEST.json"))
            assert manifest["target"]["machine"] == machine
            assert any(name.endswith(f"_{machine}.whl") for name in manifest["wheels"])
            load = f"import platform, {LIBRARIES}; print(platform.machine())"
            python = "/opt/gearman/current/venv/bin/python3"
            assert root(both, host, f"{python} -c '{load}'").strip() == machine
        assert_served(both)
        assert deploy.deploy(fleet, ROLES, Options(yes=True)) == 0
        assert "2 ok; nothing to change" in capsys.readouterr().out

    def test_they_are_upgraded_and_go_back_together(
        fleet: Path, both: ModuleType, tmp_path: Path
    ) -> None:
        done = upgraded(tree(tmp_path / "tree"), fleet, "--yes", "--settle", "0.5")
        assert done.returncode == 0, done.stdout
        assert "2 upgraded" in done.stdout
        assert_served(both)
        done = run_in(ROOT, "rollback", fleet, "--yes")
        assert done.returncode == 0, done.stdout
        assert "2 went back" in done.stdout
        assert_served(both)
        done = run_in(ROOT, "smoke", fleet)
        assert done.returncode == 0, done.stdout
