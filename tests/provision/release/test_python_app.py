"""The Python half of an app's release: which wheels it has, and what is refused before any host
is asked."""

import json
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gearman_py import Client
from gearman_py.testing import server
from provision.agent.system import describe_system
from provision.errors import HostFailed, ToolkitError
from provision.release.app import build_app
from provision.release.app_check import check_app
from provision.release.app_source import App
from provision.release.build import build_release
from provision.release.target import Target, target_of
from provision.remote.messages import Operation
from tests.provision.local import session
from tests.provision.small_wheels import MODULE, locked_line, make_project, make_wheel
from tests.waiting import LIMIT

pytestmark = pytest.mark.slow


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place that pip finds wheels in."""
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    (tmp_path / "index").mkdir()
    return tmp_path / "index"


@pytest.fixture(scope="module")
def target() -> Target:
    """This machine, as an agent tells of it. Its own release is built, or was before."""
    found = target_of(describe_system())
    build_release(found)
    return found


@pytest.fixture(scope="module")
def older(target: Target) -> Target:
    """A host like this machine with an older C library."""
    found = Target(target.python, target.machine, (2, 28))
    build_release(found)
    return found


@pytest.fixture
def app(tmp_path: Path, index: Path) -> App:
    """A project that needs one wheel, by a lock in its folder."""
    make_project(tmp_path / "shop")
    wheel = make_wheel(index, "colors", "1.0", f"NAME = 'teal '  # {tmp_path}\n")
    (tmp_path / "shop" / "requirements.txt").write_text(locked_line(wheel))
    return App("shop", tmp_path / "shop", where="hosts.yml:3", python=True)


def names(artifact: Any) -> set[str]:
    with tarfile.open(artifact.path) as tar:
        return {each.name for each in tar}


def test_a_release_has_the_projects_wheel_what_it_needs_and_gearman_py(
    app: App, tmp_path: Path, target: Target
) -> None:
    built = build_app(app, tmp_path, target=target)
    found = names(built)
    wheels = {name.rpartition("/")[2].split("-")[0] for name in found if name.endswith(".whl")}
    assert wheels == {"colors", "gearman_py", "installer", "shop", "uvloop"}
    assert "app/src/shop.py" in found
    assert not any("build" in name for name in found), "it is built in a copy"
    (tmp_path / "index" / "colors-1.0-py3-none-any.whl").unlink()
    assert build_app(app, tmp_path, target=target) == built, "nothing is built twice"
    (app.source / "src" / "shop.py").write_text("worker = None\n")
    other = build_app(app, tmp_path, target=target)
    assert other.id != built.id, "its wheels were fetched before"


def test_gearman_py_is_the_version_that_the_lock_names(
    app: App, index: Path, tmp_path: Path, target: Target
) -> None:
    wheel = make_wheel(index, "gearman_py", "9.9", f"# {tmp_path}\n")
    lock = app.source / "requirements.txt"
    lock.write_text(lock.read_text() + locked_line(wheel))
    found = names(build_app(app, tmp_path, target=target))
    assert [name for name in found if "gearman_py-" in name] == [
        "wheels/gearman_py-9.9-py3-none-any.whl"
    ]


def test_an_agent_installs_it_without_an_index_and_its_worker_begins(
    app: App, tmp_path: Path, target: Target, gearmand_port: int
) -> None:
    built = build_app(app, tmp_path, target=target)
    root = tmp_path / "root"
    (root / "releases").mkdir(parents=True)
    with session(tmp_path) as agent:
        agent.lock({"who": "a test"})
        arguments = {"root": str(root), "id": built.id, "digest": built.digest}
        (outcome,) = agent.apply([Operation("release", arguments, built.path)])
    assert outcome.error is None, outcome.output
    command = root / "releases" / built.id / "venv" / "bin" / "gearman-worker"
    address = f"127.0.0.1:{gearmand_port}"
    with (
        subprocess.Popen([command, "--servers", address, "shop:worker"], cwd="/") as worker,
        Client(address, timeout=LIMIT) as client,
    ):
        assert client.do("paint", "door") == b"teal door"
        worker.terminate()


@pytest.fixture
def gearmand_port() -> Any:
    with server() as running:
        yield running.port


def test_files_without_a_build_system_are_found_as_they_are(
    app: App, tmp_path: Path, target: Target
) -> None:
    (app.source / "pyproject.toml").unlink()
    found = names(build_app(app, tmp_path, target=target))
    assert not any("wheels/shop" in name for name in found)
    assert "app/src/shop.py" in found


def test_what_has_only_a_source_is_built_here(
    app: App, index: Path, tmp_path: Path, target: Target
) -> None:
    make_project(tmp_path / "shop-1.0")
    subprocess.run(["tar", "-czf", index / "shop-1.0.tar.gz", "shop-1.0"], cwd=tmp_path, check=True)
    (app.source / "pyproject.toml").unlink()
    lock = app.source / "requirements.txt"
    digest = sha256((index / "shop-1.0.tar.gz").read_bytes()).hexdigest()
    lock.write_text(f"{lock.read_text()}shop==1.0 --hash=sha256:{digest}\n")
    (tmp_path / "shop-1.0" / "PKG-INFO").write_text("")
    found = names(build_app(app, tmp_path, target=target))
    assert "wheels/shop-1.0-py3-none-any.whl" in found


def test_a_wheel_and_a_package_of_the_index_are_sources_too(
    app: App, index: Path, tmp_path: Path, target: Target
) -> None:
    lock = app.source / "requirements.txt"
    wheel = make_wheel(tmp_path / "dist", "shop", "2.0", MODULE)
    as_wheel = App("shop", Path(), python=True, wheel=wheel, lock=lock)
    check_app(as_wheel)
    built = build_app(as_wheel, tmp_path, target=target)
    assert {"wheels/shop-2.0-py3-none-any.whl", "app/SOURCE"} <= names(built)
    assert build_app(as_wheel, tmp_path, target=target) == built

    shutil.copy(wheel, index)
    as_package = App("shop", Path(), python=True, package="shop==2.0", lock=lock)
    with pytest.raises(ToolkitError, match=r"requirements\.txt does not have shop, and its source"):
        build_app(as_package, tmp_path, target=target)
    lock.write_text(lock.read_text() + locked_line(wheel))
    assert "wheels/shop-2.0-py3-none-any.whl" in names(
        build_app(as_package, tmp_path, target=target)
    )
    newer = replace(as_package, package="shop==2.1")
    with pytest.raises(ToolkitError, match=r"has shop 2\.0, and its source is shop==2\.1"):
        build_app(newer, tmp_path, target=target)

    native = make_wheel(tmp_path / "dist", "shop", "2.0", MODULE, "cp39-cp39-manylinux2014_x86_64")
    with pytest.raises(HostFailed, match=r"cp39-manylinux2014_x86_64\.whl is not for Python 3"):
        build_app(replace(as_wheel, wheel=native), tmp_path, target=target)


# -- wrong inputs -----------------------------------------------------------------------


def test_without_a_lock_it_is_refused_with_what_to_run(app: App) -> None:
    (app.source / "requirements.txt").unlink()
    with pytest.raises(ToolkitError) as raised:
        check_app(app)
    assert str(raised.value) == (
        "hosts.yml:3: app shop: it has no lock of its dependencies: "
        "`./invoke lock --app shop` makes one"
    )


def test_a_dependency_that_the_lock_does_not_have_is_refused(app: App) -> None:
    project = app.source / "pyproject.toml"
    text = project.read_text()
    for line, problem in (
        ("paint>=2", "paint, which pyproject.toml depends on, is not in it"),
        ("Colors>=2", "pyproject.toml depends on Colors>=2, and it has Colors 1.0"),
        ("colors~=1.0", ""),
        ("tomli; python_version < '3'", ""),
    ):
        needs = f'dependencies = ["gearman_py", "{line}"]\n'
        project.write_text(text.replace("[project]\n", f"[project]\n{needs}"))
        if not problem:
            check_app(app)
            continue
        with pytest.raises(ToolkitError) as raised:
            check_app(app)
        assert str(raised.value) == (
            f"hosts.yml:3: app shop: {app.source}/requirements.txt: {problem}: `./invoke lock "
            "--app shop` makes it again"
        )
    project.write_text(
        text.replace("[project]\n", '[project]\ndependencies = ["paint", "colors>=2"]\n')
    )
    with pytest.raises(ToolkitError) as raised:
        check_app(app)
    both = (
        "is not in it; pyproject.toml depends on colors>=2, and it has colors 1.0: `./invoke lock"
    )
    assert both in str(raised.value)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("shop-2.0-py3-none-any.whl", b"x", "is not a wheel: File is not a zip file"),
        ("shop.whl", None, "is not a wheel: Invalid wheel filename"),
        ("store-2.0-py3-none-any.whl", None, "is renamed: it is a wheel of shop 2.0"),
        ("shop-2.1-py3-none-any.whl", None, "is renamed: it is a wheel of shop 2.0"),
    ],
)
def test_what_is_not_that_wheel_is_one_line(
    tmp_path: Path, name: str, content: bytes | None, problem: str
) -> None:
    made = make_wheel(tmp_path / "dist", "shop", "2.0", MODULE)
    wheel = tmp_path / name
    wheel.write_bytes(made.read_bytes() if content is None else content)
    (tmp_path / "lock.txt").write_text("")
    app = App("shop", Path(), python=True, wheel=wheel, lock=tmp_path / "lock.txt")
    with pytest.raises(ToolkitError, match=problem) as raised:
        check_app(app)
    assert "\n" not in str(raised.value)


def test_what_a_wheel_depends_on_is_in_its_lock(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "dist", "shop", "2.0", MODULE, needs=("colors>=1", "gearman_py"))
    lock = tmp_path / "lock.txt"
    lock.write_text("")
    app = App("shop", Path(), python=True, wheel=wheel, lock=lock)
    with pytest.raises(ToolkitError, match=rf"colors, which {wheel.name} depends on, is not in it"):
        check_app(app)
    lock.write_text(locked_line(make_wheel(tmp_path / "dist", "colors", "1.0", "NAME = 1\n")))
    check_app(app)


def test_a_hash_that_differs_is_one_line(app: App, tmp_path: Path, target: Target) -> None:
    (app.source / "requirements.txt").write_text(f"colors==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(ToolkitError) as raised:
        build_app(app, tmp_path, target=target)
    said = str(raised.value)
    assert "app shop: colors==1.0: what the index has does not have a hash of the lock" in said
    assert "\n" not in said


def test_what_a_host_cannot_have_is_that_hosts_failure(
    app: App, index: Path, tmp_path: Path, target: Target
) -> None:
    other = (target.python[0], target.python[1] + 1)
    tag = f"cp{other[0]}{other[1]}-cp{other[0]}{other[1]}-manylinux_2_17_{target.machine}"
    wheel = make_wheel(index, "fast", "1.0", f"# {tmp_path}\n", tag)
    lock = app.source / "requirements.txt"
    lock.write_text(lock.read_text() + locked_line(wheel))
    with pytest.raises(
        HostFailed,
        match=r"app shop: the index has neither a wheel of fast 1\.0 for Python .* source",
    ):
        build_app(app, tmp_path, target=target)

    lock.write_text("")
    project = (app.source / "pyproject.toml").read_text()
    (app.source / "pyproject.toml").write_text(project.replace(">=3.11", ">=3.99"))
    with pytest.raises(HostFailed, match=r"it needs Python >=3\.99, and this host has Python 3"):
        build_app(app, tmp_path, target=target)


def test_a_wheel_that_was_built_here_must_run_there(
    tmp_path: Path, index: Path, target: Target, older: Target
) -> None:
    here = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    make_project(tmp_path / "shop", tag=f"{here}-{here}-linux_{target.machine}")
    (tmp_path / "shop" / "requirements.txt").write_text("")
    app = App("shop", tmp_path / "shop", python=True)
    with pytest.raises(HostFailed, match=r"shop 1\.0 has no wheel for .*, and one built on this"):
        build_app(app, tmp_path, target=older)


def test_its_manifest_says_which_hosts_it_is_for(app: App, tmp_path: Path, target: Target) -> None:
    path = build_app(app, tmp_path, target=target).path
    assert path
    with tarfile.open(path) as tar:
        manifest: Any = tar.extractfile("MANIFEST.json")
        told = json.load(manifest)
    assert (told["app"], tuple(told["target"]["python"])) == ("shop", target.python)
