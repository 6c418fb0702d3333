"""The tests of this folder run against real hosts: the lab, as it runs already or brought up."""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from provision.lab import base
from provision.lab import lab as the_lab
from provision.lab import programs as local
from provision.lab.number import SUFFIX, VARIABLE

HERE = Path(__file__).parent
LAB_PREFIX = re.compile(r"\b198\.18\.\d+\b")
# The first test may wait for base trees to be built.
SECONDS = 1800 if os.environ.get("SUITES") == "all" else 600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.lab)
            item.add_marker(pytest.mark.timeout(SECONDS))


def pytest_make_parametrize_id(val: object) -> str | None:
    """A test is called the same in each lab, as tests that run side by side must be.

    This is asked for all tests, and other folders' may name the first lab's addresses.
    """
    if isinstance(val, str) and LAB_PREFIX.search(val):
        return LAB_PREFIX.sub("NETWORK", val)
    return None


@pytest.fixture(scope="session")
def lab() -> Iterator[ModuleType]:
    """``provision.lab`` with its three hosts up; down again at the end if it was down before.

    Where tests run side by side, each process has a lab of its own: see tests/conftest.py.
    """
    if os.geteuid() != 0:
        pytest.skip("the lab boots real machines, which takes root")
    if packages := local.missing(the_lab.PROGRAMS):
        pytest.skip(f"the lab needs Debian packages: apt-get install {' '.join(packages)}")
    base.CACHE.mkdir(parents=True, exist_ok=True)
    with (base.CACHE / f"tests{SUFFIX}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pytest.fail(f"another process runs tests in this lab; {VARIABLE}=2 is another lab")
        was_up = any(row.state == "up" for row in the_lab.status())
        the_lab.up(print)
        yield the_lab
        if not was_up:
            the_lab.down(print)


@pytest.fixture
def keyless_folder(lab: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An inventory without hosts that trusts the lab's keys, and no keys of whoever runs this."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.delenv("GEARMAN_SUDO_PASSWORD", raising=False)
    folder = tmp_path / "inventory"
    folder.mkdir()
    for path in (lab.KEY, lab.KNOWN_HOSTS):
        shutil.copy2(path, folder)
    return folder
