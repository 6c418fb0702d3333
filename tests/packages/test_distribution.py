"""The sdist and the wheel: what is in them, that they can be made again, and what they need."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from packages.build import build_distributions, build_packages
from packages.release import PYROMA
from tests.packages.versions import EPOCH, our_distributions
from tests.ports import reserve_port

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


class Distributions(NamedTuple):
    sdist: Path
    wheel: Path

    @property
    def tree(self) -> Path:
        """The sdist, unpacked."""
        return self.sdist.with_name(self.sdist.name.removesuffix(".tar.gz"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    folder = tmp_path_factory.mktemp("distributions") / "own"  # a test changes the unpacked tree
    made = our_distributions(tmp_path_factory)
    shutil.copytree(made[0].parent, folder)
    return Distributions(*(folder / each.name for each in made))


@pytest.fixture(scope="module")
def client_python(built: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment into which the wheel was installed, and nothing else."""
    folder = tmp_path_factory.mktemp("client")
    run(sys.executable, "-m", "venv", str(folder))
    python = folder / "bin" / "python"
    run(str(python), "-m", "pip", "install", "--no-index", "--quiet", str(built.wheel))
    return python


def run(*command: str, **options: Any) -> str:
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command, capture_output=True, text=True, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_unpacked_sdist_makes_the_same_sdist_and_wheel_again(
    built: Distributions, tmp_path: Path
) -> None:
    for path in built.tree.rglob("*"):
        os.utime(path, (1, 2**30))
        if path.is_file():
            path.chmod(path.stat().st_mode & 0o700)  # as a strict umask has it
    again = build_distributions(built.tree, tmp_path, EPOCH)
    assert [digest(path) for path in again] == [digest(path) for path in built]


def test_what_is_not_committed_is_not_packaged(built: Distributions, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    with tarfile.open(built.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / built.tree.name).rename(checkout)
    author = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    run("git", "init", "--quiet", cwd=checkout)
    run("git", "add", "--all", cwd=checkout)
    run("git", *author, "commit", "--quiet", "-m", "All", cwd=checkout)
    said: list[str] = []
    first = build_packages(tmp_path / "first", said.append, checkout, formats=("deb", "rpm"))
    assert "not committed" not in "".join(said)
    (checkout / "gearman_py" / "stray.py").touch()
    second = build_packages(tmp_path / "second", said.append, checkout, formats=("deb", "rpm"))
    assert [digest(path) for path in second] == [digest(path) for path in first]
    assert "what is not committed is left out" in "".join(said)


def test_the_wheel_holds_the_job_system_and_its_licence_alone(built: Distributions) -> None:
    names = zipfile.ZipFile(built.wheel).namelist()
    version = built.wheel.name.split("-")[1]
    tops = {name.split("/")[0] for name in names}
    assert tops == {
        "gearman_py",
        *(f"gearman_py-{version}.{kind}" for kind in ("dist-info", "data")),
    }
    assert f"gearman_py-{version}.dist-info/licenses/LICENSE" in names
    assert "gearman_py/py.typed" in names
    assert not [name for name in names if name.endswith((".pyc", ".j2", ".yml"))]


def test_the_indexes_own_checks_find_nothing(built: Distributions) -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", *map(str, built))
    run(sys.executable, "-m", "pyroma", *PYROMA, str(built.sdist))


def test_a_client_needs_python_alone(client_python: Path, shared_gearmand: Any) -> None:
    listing = run(str(client_python), "-m", "pip", "list", "--format", "freeze")
    names = {line.split("=")[0] for line in listing.splitlines()}
    assert names - {"pip", "setuptools"} == {"gearman_py"}
    code = f"""
from gearman_py import Client
with Client("{shared_gearmand.address}") as client:
    client.do_background("packaged", "x")
"""
    run(str(client_python), "-I", "-c", code)
    status = run(
        *(str(client_python.with_name("gearadmin")), "-h", shared_gearmand.address, "--status")
    )
    assert "packaged\t1\t0\t0" in status


def test_the_first_job_of_the_readme_runs_in_that_environment(client_python: Path) -> None:
    page = (ROOT / "README.md").read_text()
    first_job = page.split("```sh\n")[2].split("```")[0]
    assert first_job.startswith("gearmand ")
    port = str(reserve_port())
    here = {
        "PATH": f"{client_python.parent}:/usr/bin:/bin",
        "GEARMAND_PORT": port,
        "GEARMAN_SERVERS": f"127.0.0.1:{port}",
    }
    ended = "trap 'kill $(jobs -p) $(gearadmin --getpid)' EXIT"
    said = run("bash", "-ec", f"{ended}\n{first_job}", env=here, timeout=60)
    assert "!dlroW olleH" in said
    assert "reverse\t0\t0\t1\n" in said


def test_the_sdist_passes_its_own_tests(built: Distributions) -> None:
    """A share of them: `-m "not lab and not interop"` runs the others in the same way."""
    command = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/protocol")
    said = run(*command, "--hypothesis-profile", "fast", cwd=built.tree)
    assert " passed" in said
    where = run(
        sys.executable, "-c", "import gearman_py; print(gearman_py.__file__)", cwd=built.tree
    )
    assert Path(where).is_relative_to(built.tree), "its own sources were tested"
