"""pygearman's own tests, from its distribution as it is on PyPI, against gearman_py.compat.

All of them run but those that docs/coming-from.md lists, with the reason.
"""

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SUITE = HERE / "pygearman-0.2.6.tar.gz"  # its licences (Apache-2.0, MIT) are in it
CONFTEST = """\
from tests.compat import standin
standin.install()
LEFT_OUT = {left_out}
collect_ignore = ["tests/" + name for name in LEFT_OUT if "::" not in name]


def pytest_collection_modifyitems(items):
    items[:] = [item for item in items if not standin.listed(item.nodeid, LEFT_OUT)]
"""


def left_out() -> list[str]:
    """What the page lists: files, classes and tests."""
    page = (ROOT / "docs/coming-from.md").read_text()
    listed = page.partition("## pygearman's own tests")[2].partition("\n## ")[0]
    return re.findall(r"`(test_\w+\.py[\w:]*)`", listed)


def test_pygearmans_own_tests_pass(tmp_path: Path) -> None:
    with tarfile.open(SUITE) as files:
        files.extractall(tmp_path, filter="data")
    suite = tmp_path / "pygearman-0.2.6"
    (suite / "gearman").rename(suite / "pygearman")  # that what is tested is ours
    (suite / "conftest.py").write_text(CONFTEST.format(left_out=left_out()))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--timeout=20", "tests"],
        cwd=suite,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "38 passed" in done.stdout, done.stdout
