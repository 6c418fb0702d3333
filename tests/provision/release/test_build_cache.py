"""What builds keep under .cache/, and what goes when something new is built."""

import os
import time
from pathlib import Path

import pytest

from provision.release.app import build_app
from provision.release.app_source import App
from provision.release.build import fetch_wheels
from provision.release.build_cache import UNUSED_AGE
from provision.release.target import Target
from tests.attacks import attack
from tests.provision.small_wheels import locked_line, make_wheel

ANY = Target((3, 11), "x86_64", (2, 36))


def make_old(path: Path) -> None:
    then = time.time() - UNUSED_AGE - 60
    os.utime(path, (then, then))


@attack("colleague", "a wheel that was changed there after it came from the index", "mended")
@pytest.mark.slow
def test_wheels_that_no_build_used_for_a_month_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    lines = [
        locked_line(make_wheel(tmp_path / "index", name, "1.0", ""))
        for name in ("unused", "used", "new")
    ]
    unused, used = (fetch_wheels(ANY, line, tmp_path) for line in lines[:2])
    half = tmp_path / ".cache" / "wheels" / "tmpkilled"
    half.mkdir()
    for folder in (unused, used, half, half.with_name("lock")):
        make_old(folder)
    (wheel,) = used.iterdir()
    whole = wheel.read_bytes()
    wheel.write_bytes(whole + b"changed")
    assert fetch_wheels(ANY, lines[1], tmp_path) == used
    assert wheel.read_bytes() == whole
    new = fetch_wheels(ANY, lines[2], tmp_path)
    left = {path.name for path in used.parent.iterdir()}
    assert left == {used.name, new.name, "lock"}


def test_notes_of_an_app_go_with_its_releases(tmp_path: Path) -> None:
    source = tmp_path / "shop"
    source.mkdir()
    app = App("shop", source)

    def build(text: str) -> set[Path]:
        (source / "run").write_text(text)
        build_app(app, tmp_path)
        return set((tmp_path / ".cache" / "apps" / "shop").glob("*.json"))

    first = build("1")
    second = build("2") - first
    for note in (*first, *second):
        make_old(note)
    build("2")  # which is used
    assert build("3") & (first | second) == second
