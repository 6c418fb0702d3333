"""An app's release is made by root, and nothing that the app brings runs then."""

import hashlib
import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

import installer
import pytest

from provision.remote.messages import Operation, OperationOutcome
from tests.attacks import attack
from tests.provision.local import session

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the agent gives files to root")

INFO = "shop-1.0.dist-info"
SAYS = "with open({0!r}, 'a') as file: file.write(__name__ + '\\n')"
WHEEL = {
    f"{INFO}/METADATA": "Metadata-Version: 2.1\nName: shop\nVersion: 1.0\n",
    f"{INFO}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{INFO}/entry_points.txt": "[console_scripts]\nshop = shop:main\n",
    "shop-1.0.data/data/share/shop.txt": "data",
    "shop-1.0.data/scripts/shop.sh": "#!/bin/sh\n",
    "shop-1.0.data/headers/shop.h": "",
}
# Whatever a Python imports by itself, or looks up by name as it installs and compiles.
HOSTILE = ("sitecustomize", "usercustomize", "installer", "compileall", "py_compile", "shop")


def stage(folder: Path, ran: Path, **scripts: str) -> Path:
    """An app's release, made of a wheel whose every module says in a file that it was run."""
    outcome = try_to_stage(folder, ran, **scripts)
    assert outcome.error is None, outcome
    return folder / "releases" / "shop-1"


def try_to_stage(folder: Path, ran: Path, **scripts: str) -> OperationOutcome:
    says = SAYS.format(str(ran))
    files = {**WHEEL, **{f"{name}.py": f"{says}\ndef main(): ...\n" for name in HOSTILE}}
    files |= {f"shop-1.0.data/scripts/{name}": text for name, text in scripts.items()}
    files["shop.pth"] = f"import sys; exec({says!r})\n"
    files[f"{INFO}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{INFO}/RECORD"])
    folder.mkdir()
    wheel, tool = folder / "shop-1.0-py3-none-any.whl", folder / "installer-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    with zipfile.ZipFile(tool, "w") as archive:
        package = Path(installer.__file__).parent
        for path in package.rglob("*.py"):
            archive.write(path, path.relative_to(package.parent))
    tar = folder / "release.tar"
    (folder / "tasks.py").write_text(says)
    with tarfile.open(tar, "w") as archive:
        archive.add(wheel, f"wheels/{wheel.name}")
        archive.add(tool, f"installer/{tool.name}")
        archive.add(folder / "tasks.py", "app/tasks.py")
    (folder / "releases").mkdir()
    digest = hashlib.sha256(tar.read_bytes()).hexdigest()
    arguments = {"root": str(folder), "id": "shop-1", "digest": digest}
    with session(folder) as agent:
        agent.lock({"who": "ana"})
        (outcome,) = agent.apply([Operation("release", arguments, tar)])
    return outcome


@attack("code of an app", "`.pth` and modules in the app's venv, to be run by root", "mended")
def test_nothing_that_an_app_brings_runs_as_its_release_is_made(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    release = stage(tmp_path / "shop", ran)
    assert not ran.exists(), ran.read_text()
    subprocess.run([release / "venv/bin/python", "-c", "import shop"], check=True)
    assert "shop\n" in ran.read_text(), "it would have been seen"


@attack(
    "code of an app", "have root write to the host's Python by a program named `python3`", "mended"
)
def test_a_program_of_a_wheel_is_not_written_through_a_link(tmp_path: Path) -> None:
    python = Path("/usr/bin/python3").resolve()
    before = python.read_bytes()
    outcome = try_to_stage(tmp_path / "shop", tmp_path / "ran", python3="#!/bin/sh\necho mine\n")
    assert outcome.error == "a wheel brings python3, which is the venv's own"
    assert python.read_bytes() == before


def test_it_is_installed_as_by_the_python_of_its_venv(tmp_path: Path) -> None:
    release = stage(tmp_path / "shop", tmp_path / "ran")
    python = release / "venv/bin/python"
    (site,) = release.glob("venv/lib/python3*/site-packages")
    assert (site / "__pycache__").is_dir(), "it is compiled"
    assert (release / "venv/bin/shop").read_text().startswith(f"#!{python}\n")
    before = files_of(release)
    argv = [str(python), "-P", "-m", "installer", "--no-compile-bytecode", "--overwrite-existing"]
    (site / "shop.pth").unlink()
    for name in HOSTILE:
        (site / f"{name}.py").unlink()
    known = {**os.environ, "PYTHONPATH": str(next(release.glob("installer/*.whl")))}
    subprocess.run([*argv, *map(str, release.glob("wheels/*.whl"))], check=True, env=known)
    assert files_of(release) == before


def files_of(release: Path) -> dict[str, tuple[int, bytes]]:
    found = (path for path in (release / "venv").rglob("*") if path.is_file())
    return {
        str(path.relative_to(release)): (path.stat().st_mode, path.read_bytes())
        for path in found
        if "__pycache__" not in path.parts
    }
