"""Bytecode that a release takes over from one that is on the host already."""

import hashlib
import importlib.util
import json
import marshal
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.remote.messages import Operation
from provision.remote.session import Session
from tests.provision.local import session
from tests.provision.small_wheels import make_wheel

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="the agent gives files to root"),
]

SAME = "def place():\n    return __file__\nWORD = 'source'\n"
# As far as it is needed here; the real one takes three times as long.
INSTALLER = """
import sys, sysconfig, zipfile
assert "--no-compile-bytecode" in sys.argv
for wheel in (each for each in sys.argv if each.endswith(".whl")):
    zipfile.ZipFile(wheel).extractall(sysconfig.get_path("purelib"))
"""
HEADER_SIZE = 16


class Host:
    """A host that releases are staged on; each has the module ``same``, and one that differs."""

    def __init__(self, agent: Session, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "opt" / "gearman"
        self._agent = agent
        self._staged = 0

    def stage(self, root: Path) -> Path:
        """Stage a release; its folder."""
        self._staged += 1
        parts = self.folder / f"parts-{self._staged}"
        make_wheel(parts / "wheels", "same", "1.0", SAME)
        make_wheel(parts / "wheels", "other", "1.0", f"NUMBER = {self._staged}\n")
        (parts / "installer").mkdir()
        with zipfile.ZipFile(parts / "installer" / "installer-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr("installer/__init__.py", "")
            wheel.writestr("installer/__main__.py", INSTALLER)
        tar = parts / "release.tar"
        with tarfile.open(tar, "w") as archive:
            for path in parts.glob("*/*.whl"):
                archive.add(path, path.relative_to(parts))
        (root / "releases").mkdir(parents=True, exist_ok=True)
        id = f"1.0-{self._staged}"
        digest = hashlib.sha256(tar.read_bytes()).hexdigest()
        arguments = {"root": str(root), "id": id, "digest": digest}
        (outcome,) = self._agent.apply([Operation("release", arguments, tar)])
        assert outcome.error is None, outcome
        return root / "releases" / id


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with session(tmp_path) as agent:
        agent.lock({"who": "ana"})
        yield Host(agent, tmp_path)


def code_of(release: Path, name: str) -> Path:
    (source,) = release.glob(f"venv/lib/python3*/site-packages/{name}.py")
    return Path(importlib.util.cache_from_source(str(source)))


def word_of(release: Path) -> str:
    """What the module ``same`` says there, to who may not compile it; its place has to be right."""
    script = "import other, same; print(same.WORD); print(same.place.__code__.co_filename)"
    python = release / "venv" / "bin" / "python"
    done = subprocess.run([python, "-B", "-c", script], capture_output=True, text=True, check=True)
    word, place = done.stdout.split()
    assert place.startswith(f"{release}/")
    return word


def change_code(release: Path) -> str:
    """Give ``same`` another code than its source has; the digest of that."""
    path = code_of(release, "same")
    code = marshal.dumps(compile(SAME.replace("source", "code"), "same", "exec"))
    path.write_bytes(path.read_bytes()[:HEADER_SIZE] + code)
    assert word_of(release) == "code"
    return hashlib.sha256(code).hexdigest()


def change_code_and_note(release: Path) -> None:
    noted = json.loads((release / ".bytecode").read_text())
    noted[hashlib.sha256(SAME.encode()).hexdigest()][0] = change_code(release)
    (release / ".bytecode").write_text(json.dumps(noted))


def test_what_was_compiled_is_taken_over_for_the_same_source(host: Host) -> None:
    change_code_and_note(host.stage(host.root))
    second = host.stage(host.root)
    assert word_of(second) == "code"
    assert code_of(second, "other").exists()
    for path in (code_of(second, "same"), code_of(second, "same").parent):
        assert path.stat().st_mode & 0o044 == 0o044, "services read it"

    change_code_and_note(second)
    shutil.rmtree(host.root / "releases" / "1.0-1")
    assert word_of(host.stage(host.root)) == "code", "and from one that took it over"


@pytest.mark.parametrize("damage", ["code", "note", "not complete", "no code"])
def test_what_is_not_as_it_was_compiled_is_compiled_again(host: Host, damage: str) -> None:
    first = host.stage(host.root)
    if damage == "code":
        change_code(first)
    else:
        change_code_and_note(first)
    if damage == "note":
        (first / ".bytecode").write_text("{")
    if damage == "not complete":
        (first / ".complete").unlink()
    if damage == "no code":
        code_of(first, "same").unlink()
    second = host.stage(host.root)
    assert word_of(second) == "source"
    assert code_of(second, "same").exists()


def test_an_app_takes_code_of_gearman_py_and_gives_none(host: Host) -> None:
    app, other = (host.root / "apps" / name for name in ("shop", "other"))
    change_code_and_note(host.stage(host.root))
    first = host.stage(app)
    assert word_of(first) == "code"
    shutil.rmtree(host.root / "releases")
    for root, word in ((other, "source"), (app, "code"), (host.root, "source")):
        assert word_of(host.stage(root)) == word, root
