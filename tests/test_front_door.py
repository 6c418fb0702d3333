"""./invoke prepares its own .venv, or says in one line what it is missing."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.squatter import let_others_in
from tests.waiting import await_true

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that has no .venv yet."""
    for name in ("invoke", "requirements.lock"):
        shutil.copy2(ROOT / name, tmp_path / name)
    return tmp_path


def invoke(checkout: Path, python: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / "invoke", "--list"],
        env={**os.environ, "PYTHON": python},
        capture_output=True,
        text=True,
    )


def pretend_python(folder: Path, script: str) -> str:
    """An interpreter of which only the answers matter that ./invoke asks for."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_missing_python_is_named_with_its_package(checkout: Path) -> None:
    done = invoke(checkout, "python-that-is-not-there")
    assert done.returncode == 1
    assert done.stderr == (
        "invoke: no python-that-is-not-there on PATH; "
        "on Debian: apt-get install python3 python3-venv\n"
    )


def test_old_python_is_refused_by_its_version(checkout: Path) -> None:
    python = pretend_python(checkout, '[ "$1" = --version ] && echo Python 3.9.2; exit 1')
    done = invoke(checkout, python)
    assert done.returncode == 1
    assert done.stderr.startswith("invoke: Python 3.9.2 is too old: 3.11 or newer is needed")


def test_python_without_venv_names_the_package(checkout: Path) -> None:
    python = pretend_python(checkout, 'case "$2" in *ensurepip*) exit 1;; esac')
    done = invoke(checkout, python)
    assert done.returncode == 1
    assert "apt-get install python3-venv" in done.stderr
    assert "Traceback" not in done.stderr


def test_package_that_is_not_the_locked_one_is_refused(checkout: Path) -> None:
    (checkout / "requirements.lock").write_text(f"iniconfig==2.3.1 --hash=sha256:{'0' * 64}\n")
    done = invoke(checkout, "python3")
    assert done.returncode == 1
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert f"invoke: could not install {checkout}/requirements.lock" in done.stderr


def test_flag_that_is_repeatable_takes_whole_words_each_time() -> None:
    lab_up = ("lab.up", "--suite", "worker1=trixie", "--suite", "worker9=noble")
    invoke = (sys.executable, "-m", "invoke")
    done = subprocess.run([*invoke, *lab_up], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        "invoke: the lab has no host worker9; it has all, client1, server1, worker1\n"
    )


def test_prepared_checkout_lists_the_tasks_at_once() -> None:
    done = subprocess.run([ROOT / "invoke", "--list"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "preparing" not in done.stderr
    assert "deploy" in done.stdout


def test_it_is_found_through_links(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "deployer").symlink_to("../other")
    (tmp_path / "other").symlink_to(ROOT / "invoke")
    done = subprocess.run([tmp_path / "bin" / "deployer", "--list"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "deploy" in done.stdout


NO_EFFECT = "has no effect on any task"
NAMES = "NAMES: the hosts that leave, comma-separated"


@pytest.mark.parametrize("flag", [("--host", "inventory/lab"), ("--host=inventory/lab",)])
def test_a_flag_without_its_s_is_answered_with_the_right_one(flag: tuple[str, ...]) -> None:
    done = subprocess.run([ROOT / "invoke", "plan", *flag], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "invoke: unknown flag --host after plan; did you mean --hosts?\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("retire", f"retire needs {NAMES}"),
        ("depoly", "unknown task depoly; did you mean deploy?"),
        ("retire one two", f"unknown task two after retire; retire takes {NAMES}"),
        ("retire --nmaes one", "unknown flag --nmaes; see ./invoke --list"),
        ("plan --hosts", "--hosts needs a value"),
        ("-R plan", f"--dry {NO_EFFECT}; plan shows what deploy would change"),
        ("deploy --dry", f"--dry {NO_EFFECT}; plan shows what deploy would change"),
        ("-T 5 plan", f"--command-timeout {NO_EFFECT}; leave it out"),
        ("--help statsu", "unknown task statsu; did you mean status?"),
    ],
)
def test_a_mistake_on_the_command_line_is_told_with_what_is_missing(words: str, told: str) -> None:
    done = subprocess.run([ROOT / "invoke", *words.split()], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, f"invoke: {told}\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--bogus", "unknown flag --bogus after check; see ./invoke --help check"),
        ("--limit", "--limit needs a value"),
        ("--hosts ''", "--hosts is empty: give it a value, or leave it out"),
        ("twice", "unknown task twice after check; see ./invoke --help check"),
    ],
)
def test_a_mistake_is_no_warning_to_a_monitoring_system(words: str, told: str) -> None:
    command = [str(ROOT / "invoke"), "check", *shlex.split(words)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, f"GEARMAN FLEET UNKNOWN - {told}\n")


@pytest.mark.parametrize("flag", [(), ("--help",), ("-h",)])
def test_no_task_shows_the_tasks_and_no_flag_that_does_nothing(flag: tuple[str, ...]) -> None:
    done = subprocess.run([ROOT / "invoke", *flag], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: ./invoke TASK ")
    assert "  deploy " in done.stdout and "--dry" not in done.stdout


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_shown_of_a_task_that_needs_a_name(flag: str) -> None:
    done = subprocess.run([ROOT / "invoke", "retire", flag], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Drain hosts and remove all of ours there" in done.stdout


def test_an_interrupt_while_tasks_load_ends_without_a_traceback(tmp_path: Path) -> None:
    loading = tmp_path / "loading"
    (tmp_path / "tasks.py").write_text(
        f"import pathlib, time\npathlib.Path({str(loading)!r}).touch()\ntime.sleep(60)\n"
    )
    command = [sys.executable, "-P", "-m", "provision", "--search-root", str(tmp_path), "--list"]
    with subprocess.Popen(
        ["env", "--default-signal=INT", *command], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            await_true(loading.exists, 60)
            process.send_signal(signal.SIGINT)
            told = process.communicate(timeout=120)[1]
        finally:
            process.kill()
    assert (process.returncode, told) == (-signal.SIGINT, "")


def test_a_second_user_of_a_checkout_that_is_not_prepared_is_told_who_can(checkout: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    (checkout / ".cache").mkdir()
    let_others_in(checkout)
    done = subprocess.run(
        [*("setpriv", "--reuid", "65534", "--clear-groups"), checkout / "invoke", "--list"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"invoke: {checkout}/.venv has to be made, and you may not write there: its owner runs "
        "./invoke --list\n"
    )


def test_a_venv_whose_python_cannot_be_run_is_told_in_one_line(checkout: Path) -> None:
    venv = checkout / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "pyvenv.cfg").write_text("home = /root/.pyenv/bin\n")
    lock = (checkout / "requirements.lock").read_text()
    (venv / ".made-from").write_text(f"{lock}{checkout}\n")
    for target in (checkout / "gone", checkout / "requirements.lock"):  # not executable
        (venv / "bin" / "python").unlink(missing_ok=True)
        (venv / "bin" / "python").symlink_to(target)
        done = invoke(checkout, "python3")
        assert done.returncode == 1
        assert done.stderr == (
            f"invoke: {venv} needs the Python in /root/.pyenv/bin, which is gone or which you may "
            f"not run: remove {venv} and run PYTHON=/usr/bin/python3 ./invoke --list, or use a "
            "checkout of your own\n"
        )
