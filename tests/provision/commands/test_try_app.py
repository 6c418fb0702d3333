"""`./invoke try` and `./invoke lock`: an app on this machine, before any host is asked."""

import signal
import tempfile
import tomllib
from pathlib import Path

import pytest

from provision.agent.system import describe_system
from provision.commands import try_app as trying
from provision.commands.lock import lock
from provision.errors import HostFailed, ToolkitError
from provision.release.build import build_release
from provision.release.target import target_of
from tests.attacks import attack
from tests.provision.small_wheels import locked_line, make_project, make_wheel

pytestmark = pytest.mark.slow

SHOUT = Path(__file__).parents[2] / "lab" / "shout.py"
HOSTS = """
worker:
  hosts: {w1: , w2: }
  vars:
    gearman_apps: {shop: {source: ../shop}, loud: {source: ../loud}}
    gearman_workers:
      shop: {app: shop, run: "shop:worker", environment: {TINT: dark}, secrets: {KEY: hidden},
        check: {function: paint, workload: door, expect: teal door}}
      shout: {app: loud, program: [python3, ./shout.py, shout], functions: [shout]}
      count: {app: loud, command: [./count], functions: [count]}
"""


@pytest.fixture(scope="module", autouse=True)
def _own_release() -> None:
    """What an app's release takes from ours is here before there is no index."""
    build_release(target_of(describe_system()))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An inventory with two apps beside it; pip and uv find what is in `index` alone."""
    index = tmp_path / "index"
    for variable in ("PIP_FIND_LINKS", "UV_FIND_LINKS"):
        monkeypatch.setenv(variable, str(index))
    for variable in ("PIP_NO_INDEX", "UV_NO_INDEX"):
        monkeypatch.setenv(variable, "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setattr(trying, "ROOT", tmp_path)
    monkeypatch.setattr(trying, "JOB_TIMEOUT", 8.0)
    make_project(tmp_path / "shop")
    wheel = make_wheel(index, "colors", "1.0", f"NAME = 'teal '  # {tmp_path}\n")
    (tmp_path / "shop" / "requirements.txt").write_text(locked_line(wheel))
    (tmp_path / "loud").mkdir()
    (tmp_path / "loud" / "shout.py").write_text(SHOUT.read_text())
    (tmp_path / "loud" / "count").write_text("#!/bin/sh\nexec wc -l\n")
    (tmp_path / "loud" / "count").chmod(0o755)
    (tmp_path / "prod").mkdir()
    (tmp_path / "prod" / "hosts.yml").write_text(HOSTS)
    return tmp_path / "prod"


def test_workers_of_an_app_are_run_and_asked_here(folder: Path) -> None:
    said: list[str] = []
    assert trying.try_app(folder, "shop", said.append) == 0
    assert said[-1].startswith("ok      worker shop: serves paint after ")
    assert said[-1].endswith(", answers, its check of paint is right, drains")
    said.clear()
    assert trying.try_app(folder, "loud", said.append) == 0
    assert [line.split(":")[0] for line in said[-2:]] == [
        "ok      worker shout",
        "ok      worker count",
    ]


def test_a_program_that_speaks_tls_has_a_job_server_that_does(folder: Path) -> None:
    hosts, said = folder / "hosts.yml", list[str]()
    alone = HOSTS.replace("functions: [shout]", "functions: [shout], environment: {TLS_ALONE: 1}")
    hosts.write_text(alone)
    assert trying.try_app(folder, "loud", said.append) == HostFailed.status
    assert any("the job server does not speak TLS" in line for line in said)
    secured = alone.replace("functions: [shout]", "functions: [shout], tls: true")
    hosts.write_text(f"{secured}    gearman_tls: true\n")
    said.clear()
    assert trying.try_app(folder, "loud", said.append) == 0
    assert said[-2].startswith("ok      worker shout: serves shout after ")


def test_a_program_that_may_find_other_job_servers_is_not_run_here(folder: Path) -> None:
    hosts = folder / "hosts.yml"
    program = "program: [python3, ./shout.py, shout]"
    hosts.write_text(HOSTS.replace(program, f"{program}, trial: false"))
    said: list[str] = []
    assert trying.try_app(folder, "loud", said.append) == 0
    left = "not tried worker shout: it may find other job servers (trial: false)"
    assert [line for line in said if "shout" in line] == [left]


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("", "raise RuntimeError('no orders')", "it ended with 2: gearman-worker: error: 'shop:wo"),
        ("import time; time.sleep(99)", "", "it serves nothing after 8 s"),
        ("", "colors.NAME = None", "paint: paint failed: TypeError: unsupported operand"),
        ("", "colors.NAME = 'red '", "paint: expected b'teal door', got b'red door'"),
        ("import no_such_module", "", "No module named 'no_such_module'"),
    ],
)
def test_a_worker_that_does_not_work_is_told_with_its_last_lines(
    folder: Path, before: str, after: str, problem: str
) -> None:
    module = folder.parent / "shop" / "src" / "shop.py"
    module.write_text(f"{before}\n{module.read_text()}\n{after}\n")
    said: list[str] = []
    assert trying.try_app(folder, "shop", said.append) == HostFailed.status
    assert said[-1].startswith("failed  worker shop: ")
    assert problem in said[-1].splitlines()[0]
    assert "usage:" not in said[-1]
    assert ("most recent call first" in said[-1]) == ("sleep" in before), "what hangs says where"
    if "sleep" in before:
        assert 'shop.py", line 1 in <module>' in said[-1]


def test_a_check_of_what_the_worker_does_not_serve_is_told_at_once(folder: Path) -> None:
    (folder / "hosts.yml").write_text(HOSTS.replace("function: paint", "function: draw"))
    said: list[str] = []
    assert trying.try_app(folder, "shop", said.append) == HostFailed.status
    told = "it serves paint, not draw, which its check is for"
    assert said[-1].splitlines()[0] == f"failed  worker shop: {told}"
    assert "most recent call first" not in said[-1]


def test_a_lock_names_all_versions_with_hashes_and_not_gearman_py(folder: Path) -> None:
    shop = folder.parent / "shop"
    (shop / "requirements.txt").unlink()
    project = (shop / "pyproject.toml").read_text()
    (shop / "pyproject.toml").write_text(project + 'dependencies = ["colors>=1", "gearman_py"]\n')
    with pytest.raises(ToolkitError, match=r"`\./invoke lock --app shop` makes one"):
        trying.try_app(folder, "shop", print)
    lock(folder, "shop", print)
    text = (shop / "pylock.toml").read_text()
    (package,) = tomllib.loads(text)["packages"]
    assert (package["name"], package["version"]) == ("colors", "1.0")
    make_wheel(folder.parent / "index", "colors", "1.1", "NAME = 'teal '\n")
    lock(folder, "shop", print)
    assert (shop / "pylock.toml").read_text() == text, "what is locked stays"
    lock(folder, "shop", print, upgrade=True)
    assert 'version = "1.1"' in (shop / "pylock.toml").read_text()

    (shop / "pyproject.toml").write_text(project + 'dependencies = ["colors>=2"]\n')
    with pytest.raises(ToolkitError, match=r"pyproject\.toml cannot be locked: .*colors") as raised:
        lock(folder, "shop", print)
    assert "\n" not in str(raised.value)
    (shop / "uv.lock").write_text("")
    (shop / "pylock.toml").unlink()
    with pytest.raises(ToolkitError, match=r"has .*uv\.lock: `uv lock` makes that one"):
        lock(folder, "shop", print)
    hosts = HOSTS.replace("{source: ../shop}", "{source: ../shop, lock: ../own.toml}")
    (folder / "hosts.yml").write_text(hosts)
    with pytest.raises(ToolkitError, match=r"own\.toml should be pylock\.toml or pylock\.NAME\."):
        lock(folder, "shop", print)


@pytest.mark.parametrize("source", ["source: colors==1.0", "source: ../shop"])
def test_a_lock_is_the_same_wherever_and_whenever_it_is_made(
    folder: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = HOSTS.replace("{source: ../shop}", f"{{{source}, lock: ../made.txt}}")
    (folder / "hosts.yml").write_text(hosts)
    (folder.parent / "shop" / "requirements.in").write_text("colors==1.0\n")
    (folder.parent / "shop" / "pyproject.toml").unlink()
    monkeypatch.chdir(folder.parent)
    lock(Path("prod"), "shop", print)
    text = (folder.parent / "made.txt").read_text()
    assert "# via -r requirements.in" in text
    assert str(folder.parent) not in text
    (folder.parent / "made.txt").unlink()
    monkeypatch.chdir("/")
    lock(folder, "shop", print)
    assert (folder.parent / "made.txt").read_text() == text


def test_a_lock_of_what_the_index_lacks_makes_no_release(folder: Path) -> None:
    lacking = "absent==1.0 --hash=sha256:" + "0" * 64
    (folder.parent / "shop" / "requirements.txt").write_text(f"{lacking}\n")
    with pytest.raises(
        ToolkitError, match=r"neither a wheel of absent 1\.0 for .* nor its so"
    ) as it:
        trying.try_app(folder, "shop", print)
    assert it.value.status == 1


@attack("local user", "secrets that `try` leaves behind when it is ended by SIGTERM", "mended")
def test_what_try_wrote_is_removed_when_it_is_ended(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = folder.parent / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    ending = "import os, signal, time\nos.kill(os.getppid(), signal.SIGTERM)\ntime.sleep(600)\n"
    (folder.parent / "loud" / "shout.py").write_text(ending)
    usual = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by which this process would end
    try:
        with pytest.raises(KeyboardInterrupt):
            trying.try_app(folder, "loud", print)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, usual)
    assert list(scratch.glob("gearman-try-*")) == []
