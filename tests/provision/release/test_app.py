"""Apps: which files of a folder become a release, what a build adds, and what is refused."""

import contextlib
import os
import subprocess
import tarfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from provision.errors import ToolkitError
from provision.inventory.workers import WorkerDefinition
from provision.release import app_check, app_source
from provision.release.app import build_app, built_app, named_app
from provision.release.app_check import check_app, check_apps
from provision.release.app_source import App, fetch_source, source_files, uncommitted_files
from tests.attacks import attack


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", "-C", folder, *who, *arguments], check=True, capture_output=True)


@pytest.fixture
def app(tmp_path: Path) -> App:
    """A folder of a repository: a script, a link to it, and a file that git does not know."""
    folder = tmp_path / "repository" / "shop"
    folder.mkdir(parents=True)
    (folder / "run").write_text("#!/bin/sh\necho 1\n")
    (folder / "run").chmod(0o755)
    (folder / "dir with space").mkdir()
    (folder / "dir with space" / "link").symlink_to("../run")
    git(folder.parent, "init", "-q")
    git(folder.parent, "add", ".")
    git(folder.parent, "commit", "-qm", "one")
    (folder / "secret.txt").write_text("not for hosts")
    return App("shop", folder, where="hosts.yml:3")


def members(app: App, root: Path) -> dict[str, tarfile.TarInfo]:
    path = build_app(app, root).path
    assert path
    with tarfile.open(path) as tar:
        return {each.name: each for each in tar}


def test_what_git_tracks_is_what_is_released(app: App, tmp_path: Path) -> None:
    found = members(app, tmp_path)
    assert set(found) == {"MANIFEST.json", "app/run", "app/dir with space/link"}
    assert found["app/run"].mode == 0o755
    assert found["app/dir with space/link"].linkname == "../run"
    assert uncommitted_files(app) == "not tracked, and left out: shop/secret.txt"
    (app.source / "run").write_text("echo 2\n")
    assert uncommitted_files(app).startswith("not as in its last commit: shop/run; not tracked")
    (app.source / "secret.txt").unlink()
    (app.source / "caf\udce9\n").touch()
    assert uncommitted_files(app).endswith(r"; not tracked, and left out: shop/caf\xe9\n")


def test_an_untracked_lock_is_told_once_and_as_what_it_is(app: App) -> None:
    project = replace(app, python=True)
    (app.source / "pylock.toml").write_text("")
    used = "not tracked, and used as its lock: shop/pylock.toml"
    assert uncommitted_files(project) == f"{used}; not tracked, and left out: shop/secret.txt"
    git(app.source, "add", ".")
    git(app.source, "commit", "-qm", "two")
    git(app.source, "rm", "-q", "--cached", "pylock.toml")
    assert uncommitted_files(project) == used
    left_out = used.replace("used as its lock", "left out")
    assert uncommitted_files(app) == left_out
    assert uncommitted_files(replace(project, lock=Path("/elsewhere"))) == left_out


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("[./run, ./dir with space, ., x]", ""),
        ("[./dir with space/link]", ""),
        ("[php, ./nofile]", "has no file ./nofile"),
        ("[./dir with space]", "has no file ./dir with space"),
        ("[cat, ./../shop2]", "has no file ./../shop2"),
        (
            "[cat, ./secret.txt]",
            "has a file ./secret.txt that git does not track, and that is",
        ),
        ("[./plain]", "has a file ./plain that cannot be executed: chmod +x it"),
        ("[sh, ./plain]", ""),
    ],
)
def test_a_worker_that_needs_a_file_which_its_app_lacks_is_told(
    app: App, said: str, problem: str
) -> None:
    (app.source / "plain").write_text("echo")
    git(app.source, "add", "plain")
    argv = tuple(said.strip("[]").split(", "))
    worker = WorkerDefinition(
        name="a", kind="command", functions=("a",), argv=argv, memory="", where="hosts.yml:7"
    )
    if not problem:
        check_app(app, [worker])
        return
    with pytest.raises(ToolkitError) as raised:
        check_app(app, [worker])
    assert str(raised.value).startswith(f"hosts.yml:7: worker a: app shop {problem}")
    check_app(replace(app, build=("make",)), [worker])


def test_all_that_is_wrong_of_apps_is_told_at_once(app: App, tmp_path: Path) -> None:
    def worker(name: str, *argv: str) -> WorkerDefinition:
        functions, where = (name,), f"hosts.yml:{len(argv)}"
        return WorkerDefinition(
            name=name, kind="command", functions=functions, argv=argv, memory="", where=where
        )

    workers = [worker("a", "./no", "./no", "./nor this"), worker("b", "php", "./no")]
    (app.source / "p").symlink_to("/etc/passwd")
    (app.source / "q").symlink_to("../../x")
    git(app.source, "add", "p", "q")
    links = [
        "hosts.yml:3: app shop: p is a link to /etc/passwd, which is not part of the app",
        "hosts.yml:3: app shop: q is a link to ../../x, which is not part of the app",
    ]
    no_lock = "it has no lock of its dependencies: `./invoke lock --app shop` makes one"
    with pytest.raises(ToolkitError) as raised:
        check_apps({replace(app, python=True): workers, App("old", tmp_path / "old"): []})
    assert str(raised.value).splitlines() == [
        "hosts.yml:3: worker a: app shop has no file ./no",
        "hosts.yml:3: worker a: app shop has no file ./nor this",
        "hosts.yml:2: worker b: app shop has no file ./no",
        *links,
        f"hosts.yml:3: app shop: {no_lock}",
        f": app old: the folder {tmp_path / 'old'} does not exist",
    ]
    for build in ((), ("true",)):  # which may have replaced them
        with pytest.raises(ToolkitError) as raised:
            build_app(replace(app, build=build), tmp_path)
        assert str(raised.value).splitlines() == links


def test_the_id_is_of_the_content_and_nothing_is_built_twice(app: App, tmp_path: Path) -> None:
    counting = App("shop", app.source, ("sh", "-c", f"echo x >>{tmp_path}/builds"), app.where)
    assert built_app(counting, tmp_path) is None
    first = build_app(counting, tmp_path)
    os.utime(app.source / "run", (1, 1))
    assert build_app(counting, tmp_path) == first == named_app("shop", first.id, tmp_path)
    assert (tmp_path / "builds").read_text() == "x\n"
    (app.source / "run").write_text("echo 2\n")
    assert build_app(counting, tmp_path).id != first.id
    git(app.source, "checkout", "run")
    assert build_app(counting, tmp_path) == first
    assert named_app("shop", "shop-no", tmp_path).path is None


def test_a_build_runs_in_a_clean_copy_and_its_output_goes_along(app: App, tmp_path: Path) -> None:
    script = "test ! -e secret.txt && mkdir vendor && cp run vendor/made"
    found = members(App("shop", app.source, ("sh", "-c", script)), tmp_path)
    assert "app/vendor/made" in found
    assert not (app.source / "vendor").exists()


def test_a_folder_is_not_of_the_repository_through_which_its_path_goes(tmp_path: Path) -> None:
    repository, folder = tmp_path / "checkout", tmp_path / "mine"
    subprocess.run(["git", "init", "-q", repository], check=True)
    folder.mkdir()
    (folder / "run").write_text("#!/bin/sh")
    assert source_files(App("mine", repository / ".." / "mine")) == ["run"]


def test_a_folder_without_git_is_taken_whole(app: App, tmp_path: Path) -> None:
    (app.source.parent / ".git").rename(tmp_path / "elsewhere")
    assert "app/secret.txt" in members(app, tmp_path)
    assert uncommitted_files(app) == ""


@pytest.mark.parametrize(
    ("change", "build", "message"),
    [
        ("rm -r ../shop", (), "hosts.yml:3: app shop: the folder "),
        ("git rm -rq --cached .", (), "hosts.yml:3: app shop: git tracks no file in "),
        ("ln -s /etc/passwd p; git add p", (), "p is a link to /etc/passwd, which is not part of"),
        ("ln -s ../../x p; git add p", (), "p is a link to ../../x, which is not part of the app"),
        ("true", ("no-such-tool",), "app shop: build: no-such-tool: No such file or directory"),
        (
            "true",
            ("sh", "-c", "echo it is broken >&2; exit 4"),
            "ended with 4; it said:\n    it is broken",
        ),
        ("mkfifo pipe; rm -r ../.git", (), "app shop: pipe is neither a file nor a link"),
    ],
)
def test_a_mistake_is_told(
    app: App, tmp_path: Path, change: str, build: tuple[str, ...], message: str
) -> None:
    subprocess.run(["sh", "-ec", change], cwd=app.source, check=True)
    with pytest.raises(ToolkitError) as raised:
        build_app(App(app.name, app.source, build, app.where), tmp_path)
    assert message in str(raised.value)


@pytest.mark.parametrize("ref", ["v1", "HEAD~1", "commit"])
def test_with_ref_a_release_is_what_was_committed(app: App, tmp_path: Path, ref: str) -> None:
    git(app.source, "tag", "v1")
    if ref == "commit":
        command = ["git", "-C", str(app.source), "rev-parse", "HEAD"]
        ref = subprocess.check_output(command, text=True).strip()
    (app.source / "run").write_text("echo 2\n")
    git(app.source, "commit", "-qam", "two")
    (app.source / "run").write_text("echo 3\n")
    found = fetch_source(replace(app, ref=ref), tmp_path)
    assert (found.source / "run").read_text().endswith("echo 1\n")
    assert os.access(found.source / "run", os.X_OK)
    assert uncommitted_files(replace(app, ref=ref)) == ""
    names = set(members(found, tmp_path))
    assert names == {"MANIFEST.json", "app/run", "app/dir with space/link"}


def test_a_repository_elsewhere_is_fetched_again_in_each_run(app: App, tmp_path: Path) -> None:
    git(app.source.parent, "branch", "-m", "main")
    there = replace(app, source=Path(), url=app.source.parent.as_uri(), ref="main")
    found = fetch_source(there, tmp_path)
    assert (found.source / "shop" / "run").read_text().endswith("echo 1\n")
    (app.source / "run").write_text("echo 2\n")
    git(app.source, "commit", "-qam", "two")
    assert fetch_source(there, tmp_path) == found, "one run sees one state of it"
    app_source._check_out.cache_clear()
    found = fetch_source(there, tmp_path)
    assert (found.source / "shop" / "run").read_text() == "echo 2\n"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"ref": "v9"}, "hosts.yml:3: app shop: {source} has no commit, tag or branch 'v9'"),
        ({"url": "file:///nowhere", "ref": "v1"}, "hosts.yml:3: app shop: git clone: "),
        ({"url": "https://e.org/x"}, "hosts.yml:3: app shop: its source is a repository elsewhere"),
        ({"package": "shop==1"}, "its source is a package of an index, which is for workers with"),
        (
            {"wheel": Path("a.whl"), "build": ("make",)},
            "build: is for files, and its source",
        ),
        ({"wheel": Path("a.whl"), "python": True}, "its source is a wheel: say lock:, the file"),
        (
            {"wheel": Path("a.whl"), "python": True, "lock": Path("l")},
            "hosts.yml:3: app shop: the file a.whl does not exist",
        ),
    ],
)
def test_a_source_that_is_not_there_is_told(
    app: App, tmp_path: Path, monkeypatch: Any, said: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(app_check, "fetch_source", partial(fetch_source, root=tmp_path))
    with pytest.raises(ToolkitError) as raised:
        check_app(replace(app, **said))
    assert message.format(source=app.source) in str(raised.value)
    assert "\n" not in str(raised.value)


@attack("colleague", "run a command on the controller by a folder that git takes for one", "mended")
@pytest.mark.parametrize("ref", ["", "main"])
def test_settings_of_a_folder_that_looks_like_a_repository_are_not_followed(
    tmp_path: Path, ref: str
) -> None:
    trap, folder = tmp_path / "trapped", tmp_path / "repository" / "svc"
    subprocess.run(["git", "init", "-q", "-b", "main", folder.parent], check=True)
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", folder], check=True)
    settings = {"bare": "false", "worktree": ".", "fsmonitor": f"touch {trap}; false"}
    for name, value in settings.items():
        subprocess.run(
            ["git", "config", "-f", folder / "config", f"core.{name}", value], check=True
        )
    (folder / "shop.py").write_text("")
    app = App("shop", folder, where="hosts.yml:3", ref=ref)
    with contextlib.suppress(ToolkitError):
        source_files(fetch_source(app, tmp_path))
    assert not trap.exists()
