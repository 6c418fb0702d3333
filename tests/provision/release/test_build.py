"""A release is made of its tree alone, built once, and holds all that a host needs."""

import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from gearman_py import __version__
from packages.accelerator import find_compiler
from provision.errors import HostFailed, ToolkitError
from provision.release.build import Artifact, build_release, built_release, named_release
from provision.release.manifest import must_fit, read_manifest
from provision.release.target import target_of
from tests.attacks import attack

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).resolve().parents[3]
FACTS: dict[str, Any] = {
    "python": [3, 11, 2],
    "machine": "x86_64",
    "libc": "glibc 2.36",
    "os": {"PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)"},
}
TARGET = target_of(FACTS)
INPUTS = (
    "LICENSE",
    "docs/alerts.md",
    "pyproject.toml",
    "requirements.lock",
    "gearman_py",
    "packages",
)


def tree(folder: Path) -> Path:
    """A copy of what releases are made of, sharing the wheels this checkout fetched."""
    folder.mkdir()
    for name in INPUTS:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(source, folder / name)
    (PROJECT / ".cache" / "wheels").mkdir(parents=True, exist_ok=True)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "wheels").symlink_to(PROJECT / ".cache" / "wheels")
    return folder


def test_same_tree_makes_same_release_and_another_tree_another(tmp_path: Path) -> None:
    one, other = tree(tmp_path / "one"), tree(tmp_path / "other")
    first = build_release(TARGET, one)
    assert build_release(TARGET, other).digest == first.digest

    module = other / "gearman_py" / "__init__.py"
    module.write_text(module.read_text().replace(f'"{__version__}"', '"0.0.1"'))
    assert built_release(TARGET, other) is None
    assert build_release(TARGET, other).id.startswith("0.0.1-")


def test_a_release_has_the_accelerator_if_it_can_be_built_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another compiler makes another release, of the same source; without one it is pure."""
    folder, compiler = tree(tmp_path / "tree"), shlex.join(find_compiler())
    made = build_release(TARGET, folder)
    pure = build_release(TARGET, folder, pure=True)
    monkeypatch.setenv("CC", "absent-cc")
    assert build_release(TARGET, folder) == pure
    other = tree(tmp_path / "other")
    monkeypatch.setenv("CC", f"{compiler} -fno-inline")
    otherwise = build_release(TARGET, other)
    assert built_release(TARGET, other) == otherwise
    monkeypatch.setenv("GEARMAN_PURE", "1")
    assert build_release(TARGET, other).id == pure.id
    assert len({made.id, pure.id, otherwise.id}) == 3
    assert made.source == pure.source == otherwise.source
    wheels = {id: wheel_of(each) for id, each in (("made", made), ("pure", pure))}
    assert wheels["made"].endswith("-cp311-abi3-manylinux_2_17_x86_64.whl")
    assert wheels["pure"].endswith("-py3-none-any.whl")
    code = other / "gearman_py" / "_speedups.c"
    code.write_text(code.read_text() + "/* changed */\n")
    assert build_release(TARGET, other).source != made.source


def wheel_of(artifact: Artifact) -> str:
    """The name of gearman_py's, which a release's manifest agrees with."""
    told = json.loads(read_manifest(artifact))
    (wheel,) = (each for each in told["wheels"] if each.startswith("gearman_py-"))
    assert told["accelerated"] == ("-abi3-" in wheel)
    assert told["source"] == artifact.source
    return str(wheel)


def test_a_compiler_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "false")
    with pytest.raises(ToolkitError, match=r"accelerator cannot be built for .*GEARMAN_PURE=1"):
        build_release(TARGET, tree(tmp_path / "tree"))


def test_runs_from_one_checkout_build_a_release_once(tmp_path: Path) -> None:
    folder = tree(tmp_path / "tree")
    (folder / ".cache" / "wheels").unlink()
    names = "from sys import argv; from tests.provision.release.test_build import *"
    build = f"{names}; print(build_release(TARGET, Path(argv[1])))"
    command = [sys.executable, "-c", build, str(folder)]
    runs = [
        subprocess.Popen(command, cwd=PROJECT, stdout=PIPE, stderr=PIPE, text=True)
        for _ in range(3)
    ]
    built = [run.communicate() for run in runs]
    assert len(set(built)) == 1, built
    assert [run.returncode for run in runs] == [0, 0, 0]
    releases = folder / ".cache" / "releases"
    assert len(list(releases.glob("*.tar"))) == 1
    assert [path for path in releases.iterdir() if path.is_dir()] == []


def test_what_was_built_is_not_built_again(tmp_path: Path) -> None:
    folder = tree(tmp_path / "tree")
    first = build_release(TARGET, folder)
    (folder / ".cache" / "wheels").unlink()  # nothing left to build from
    assert build_release(TARGET, folder) == first
    assert built_release(TARGET, folder) == first


@attack(
    "colleague",
    "a release that was changed in the operator's `.cache` after it was built",
    "mended",
)
def test_everything_in_a_release_is_listed_by_hash(tmp_path: Path) -> None:
    built = build_release(TARGET, tree(tmp_path / "tree"))
    assert built.path is not None
    assert built.digest == hashlib.sha256(built.path.read_bytes()).hexdigest()
    assert built.id == f"{__version__}-{built.digest[:12]}"
    with tarfile.open(built.path) as archive:
        for member in archive:
            file = tmp_path / "out" / member.name
            file.parent.mkdir(parents=True, exist_ok=True)
            content = archive.extractfile(member)
            assert content, "there are files alone"
            file.write_bytes(content.read())
    manifest = json.loads((tmp_path / "out" / "MANIFEST.json").read_text())
    found = {path.name: path.read_bytes() for path in (tmp_path / "out" / "wheels").iterdir()}
    assert manifest["wheels"] == {
        name: hashlib.sha256(content).hexdigest() for name, content in found.items()
    }
    of_page = {"jinja2", "markupsafe", "starlette", "anyio", "idna", "uvicorn", "click", "h11"}
    assert {name.split("-")[0] for name in found} == {
        *("gearman_py", "pillow", "uvloop", "cronsim", "typing_extensions"),
        *of_page,
    }
    (installer,) = (tmp_path / "out" / "installer").iterdir()
    assert installer.name.startswith("installer-")
    sbom = json.loads((tmp_path / "out" / "sbom.cdx.json").read_text())
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.5")
    assert sbom["metadata"]["component"]["name"] == "gearman_py"
    digests = [*manifest["wheels"].values(), hashlib.sha256(installer.read_bytes()).hexdigest()]
    listed = {each["hashes"][0]["content"]: each for each in sbom["components"]}
    assert listed.keys() == set(digests)
    assert all(each["licenses"] and each["purl"].count("@") == 1 for each in listed.values())
    assert named_release(built.id, tmp_path / "tree") == built
    built.path.write_bytes(b"another")
    with pytest.raises(ToolkitError, match=f"{built.id}.tar was changed after it was built"):
        _ = named_release(built.id, tmp_path / "tree").sent_digest


def test_what_the_lock_says_of_other_pythons_is_for_this_machine_and_not_for_hosts(
    tmp_path: Path,
) -> None:
    folder = tree(tmp_path / "tree")
    lock = folder / "requirements.lock"
    marked = re.sub(r"(?m)^(cronsim==\S+)", r"\1 ; python_full_version < '3'", lock.read_text())
    lock.write_text(marked)
    built = build_release(TARGET, folder)
    assert built.path is not None
    with tarfile.open(built.path) as archive:
        assert [name for name in archive.getnames() if name.startswith("wheels/cronsim-")]


def test_a_dependency_that_is_not_locked_is_named(tmp_path: Path) -> None:
    folder = tree(tmp_path / "tree")
    lock = folder / "requirements.lock"
    lock.write_text(lock.read_text().replace("uvloop==", "yvloop=="))
    with pytest.raises(ToolkitError, match=r"requirements\.lock: uvloop not locked; run"):
        build_release(TARGET, folder)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"python": [3, 9, 2]}, r"Python 3\.9\.2 \(Debian .*\) is too old: 3\.11 or newer"),
        ({"libc": "musl 1.2"}, r"C library is musl 1\.2 .*: wheels need glibc 2\.17"),
        ({"libc": None}, r"C library is not glibc \(Debian .*: wheels need glibc 2\.17"),
        ({"machine": "pdp11"}, r"its machine is pdp11 \(Debian .*: wheels are made for x86_64, "),
        ({"libc": "glibc 2.12"}, r"C library is glibc 2\.12 .*: wheels need glibc 2\.17"),
    ],
)
def test_a_host_that_no_wheel_fits_is_refused(facts: dict[str, Any], message: str) -> None:
    with pytest.raises(HostFailed, match=message):
        target_of(FACTS | facts)


def test_a_release_for_hosts_of_another_kind_is_refused(tmp_path: Path) -> None:
    built = build_release(TARGET, tree(tmp_path / "tree"))
    must_fit(built, target_of(FACTS | {"libc": "glibc 2.41"}))
    for other in ({"python": [3, 13, 5]}, {"machine": "aarch64"}, {"libc": "glibc 2.31"}):
        with pytest.raises(HostFailed, match=rf"{built.id} is for Python 3\.11 on x86_64 with"):
            must_fit(built, target_of(FACTS | other))


def test_a_host_takes_wheels_made_for_its_libc_and_for_older_ones() -> None:
    assert TARGET.platforms[0] == "manylinux_2_36_x86_64"
    assert TARGET.platforms[-2:] == ["manylinux_2_17_x86_64", "manylinux2014_x86_64"]
