"""Manual pages and completion as installing the wheel puts them where man and shells look."""

import shutil
import subprocess
import zipfile
from argparse import SUPPRESS, ArgumentParser
from pathlib import Path

import pytest

from gearman_py.cli.gearman import all_parsers
from packages.manual import SECTIONS, manual_page
from tests.packages.versions import our_distributions

ROOT = Path(__file__).resolve().parents[2]
PARSERS = {parser.prog: parser for parser in all_parsers()}
SHELLS = {
    "bash": "share/bash-completion/completions/{}",
    "zsh": "share/zsh/site-functions/_{}",
    "fish": "share/fish/vendor_completions.d/{}.fish",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the wheel that stand beside site-packages."""
    folder = tmp_path_factory.mktemp("installed")
    _, wheel = our_distributions(tmp_path_factory)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return next(folder.glob("*.data")) / "data"


def render(page: str) -> str:
    """What man shows; a mistake in the page fails."""
    if not shutil.which("man"):
        pytest.skip("man is not installed")
    done = subprocess.run(
        ["man", "--warnings", "--encoding=ascii", "-l", "-"],
        input=page,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "MANWIDTH": "1000", "LC_ALL": "C"},
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("command", PARSERS)
def test_a_page_says_all_that_help_says(command: str) -> None:
    shown = " ".join(render(manual_page(PARSERS[command], "")).split())
    for action in PARSERS[command]._actions:
        if action.help == SUPPRESS:
            continue
        for flag in action.option_strings:
            assert flag in shown
        assert " ".join((action.help or "").replace("%%", "%").split()) in shown
    for word in (PARSERS[command].epilog or "").split():
        assert word in shown or word.rstrip(":").upper() in shown


def test_text_is_shown_as_it_stands() -> None:
    parser = ArgumentParser(prog="gearman", description="Odd.", add_help=False)
    parser.add_argument("--odd", help=r"'quoted' \fBtext\fR of .dots, 5%% -- and")
    parser.epilog = "examples:\n.PP\n  echo '\\n'"
    shown = render(manual_page(parser, "2026-11-29"))
    assert r"'quoted' \fBtext\fR of .dots, 5% -- and" in shown
    assert "\n       .PP\n         echo '\\n'\n" in shown
    assert "2026-11-29" in shown


@pytest.mark.slow
def test_the_wheel_installs_a_page_and_completion_for_each_command(installed: Path) -> None:
    for command, section in SECTIONS.items():
        page = (installed / f"share/man/man{section}/{command}.{section}").read_text()
        assert page == manual_page(PARSERS[command], "2026-11-29")
        for shell, place in SHELLS.items():
            script = (installed / place.format(command)).read_text()
            others = set(SECTIONS) - {command}
            marks = {"bash": "complete -o default -F _{} {}", "fish": "complete -c {} "}
            mark = marks.get(shell, "#compdef {}\n")
            name = command.replace("-", "_")
            assert mark.format(*([name, command] if shell == "bash" else [command])) in script
            assert not any(f"complete -c {other} " in script for other in others)


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_shells_read_their_files(installed: Path, shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    for command in SECTIONS:
        path = installed / SHELLS[shell].format(command)
        done = subprocess.run([shell, "-n", str(path)], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_fish_completes_from_where_it_is_installed(installed: Path) -> None:
    if not shutil.which("fish"):
        pytest.skip("fish is not installed")
    (installed / "bin").mkdir()
    for command in SECTIONS:  # fish loads a command's completion only if it can be run
        (installed / "bin" / command).write_text("#!/bin/sh\n")
        (installed / "bin" / command).chmod(0o755)
    for line, offered in (
        ("gearman-worker re", ["resize", "reverse"]),
        ("gearmand --verbose NOT", ["NOTICE"]),
        ("gearman --completion z", ["zsh"]),
    ):
        done = subprocess.run(
            ["fish", "-c", 'complete -C "$argv"', line],
            capture_output=True,
            text=True,
            env={
                "PATH": f"{installed / 'bin'}:/usr/bin:/bin",
                "XDG_DATA_DIRS": f"{installed / 'share'}:/usr/share",
                "HOME": str(installed),
            },
        )
        assert [word.partition("\t")[0] for word in done.stdout.splitlines()] == offered
