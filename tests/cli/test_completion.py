"""The scripts that complete command lines. Bash runs its own; the others are only read."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gearman_py import Client

Run = Callable[..., subprocess.CompletedProcess[bytes]]

# Calls what bash would call for the line, and prints what it would offer.
_ASK = """
source "$1"
COMP_LINE=$2
read -ra words <<< "$COMP_LINE"
[[ $COMP_LINE == *" " ]] && words+=("")
n=${#words[@]}
"_${words[0]//-/_}" "${words[0]}" "${words[n-1]}" "${words[n-2]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def complete(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    script = tmp_path / "completion"
    script.write_bytes(run("gearman", "--completion", "bash").stdout)
    gearadmin = tmp_path / "gearadmin"
    gearadmin.write_text(f'#!/bin/sh\nexec {sys.executable} -m gearman_py.cli.gearadmin "$@"\n')
    gearadmin.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def complete(line: str) -> list[str]:
        done = subprocess.run(
            ["bash", "-c", _ASK, "bash", str(script), line], capture_output=True, text=True
        )
        assert done.stderr == ""
        return done.stdout.split("\n")[:-1]

    return complete


def test_options_and_their_words_are_completed(complete: Callable[[str], list[str]]) -> None:
    assert complete("gearadmin --server-") == ["--server-verbose", "--server-version"]
    assert complete("gearmand --verbose ERR") == ["ERROR"]
    assert complete("gearman-worker re") == ["resize", "reverse"]
    assert complete("gearman --completion ") == ["bash", "zsh", "fish"]


@pytest.mark.slow
def test_functions_are_those_of_the_server_on_the_line(
    complete: Callable[[str], list[str]], shared_gearmand: Any, until: Any, tmp_path: Path
) -> None:
    hostile = f"c-$(touch {tmp_path}/hole)"
    with Client(shared_gearmand.address) as client:
        for function in ("c-complete", hostile):
            client.do_background(function)
    found: list[str] = []

    def is_completed() -> bool:  # it waits for two seconds, which a busy machine may exceed
        found[:] = complete(f"gearman -h {shared_gearmand.address} -f c-")
        return "c-complete" in found

    until(is_completed)
    assert rf"c-\$\(touch\ {tmp_path}/hole\)" in found
    assert not (tmp_path / "hole").exists()
    assert complete("gearman -h 127.0.0.1 -p 1 -f c-") == [""]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_and_option_is_known(run: Run, shell: str) -> None:
    script = run("gearman", "--completion", shell).stdout.decode()
    for command in ("gearman", "gearadmin", "gearmand", "gearman-worker"):
        assert command in script
    for option in ("priority-status", "worker-wakeup", "drain-timeout", "completion"):
        assert option in script


def test_another_shell_is_a_usage_error(run: Run) -> None:
    done = run("gearman", "--completion", "tcsh")
    assert done.returncode == 2
    assert b"invalid choice: 'tcsh'" in done.stderr
