"""Which release a host should have."""

import io
import json
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from provision.fleet import choice, release_track
from provision.fleet.past_runs import PAST_RUNS
from provision.release import build
from provision.release.build import ON_HOSTS
from tests.provision.fake_host import FakeHost


def answers(python: list[int], current: str | None) -> dict[Any, Any]:
    kept = {current: {"at": 0, "bad": None}} if current else {}
    releases: dict[str, Any] = {"current": current, "kept": kept, "given_up": {}, "running": []}
    releases["damaged"] = {}
    return {("host",): {**FakeHost().facts, "python": python}, ("releases", ON_HOSTS): releases}


def moved(after: str, before: str, run: str, at: str) -> dict[Any, Any]:
    """What a host answers that a run brought from one release to another."""
    told = answers([3, 11, 2], after)
    told["releases", ON_HOSTS]["kept"][before] = {"at": 0, "bad": None}
    entry = {"at": at, "run": run, "release": after, "from": before, "result": "ok"}
    return {**told, PAST_RUNS: [entry]}


def test_a_rollback_takes_hosts_of_each_python_back_that_one_run_moved() -> None:
    """Their releases of the same code are not the same; the run may have been interrupted."""
    fleet = {
        "a": moved("new-11", "old-11", "second", "2026-01-02"),
        "b": moved("new-11", "old-11", "first", "2026-01-01"),
        "c": moved("new-13", "old-13", "first", "2026-01-01"),
        "away": moved("old-11", "older-11", "before", "2025-01-01"),
    }
    found = {name: choice.previous_release(name, fleet) for name in fleet}
    assert found == {"a": "old-11", "b": "old-11", "c": "old-13", "away": "old-11"}


def test_a_new_host_gets_what_others_of_its_kind_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release for another Python is none for it, however many hosts run that."""
    named = partial(build.named_release, root=tmp_path)
    monkeypatch.setattr(release_track, "named_release", named)
    folder = tmp_path / ".cache" / "releases"
    folder.mkdir(parents=True)
    for id, minor in (("old-11", 11), ("old-13", 13)):
        target = {"python": [3, minor], "machine": "x86_64", "glibc": [2, 36]}
        content = json.dumps({"target": target}).encode()
        with tarfile.open(folder / f"{id}.tar", "w") as tar:
            member = tarfile.TarInfo("MANIFEST.json")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    fleet = {
        "a": answers([3, 11, 2], "old-11"),
        "b": answers([3, 11, 2], "old-11"),
        "new": answers([3, 13, 1], None),
        "twin": answers([3, 11, 2], None),
    }
    assert choice.running_release("new", fleet) is None
    assert choice.running_release("twin", fleet) == "old-11"
    fleet["c"] = answers([3, 13, 5], "old-13")
    assert choice.running_release("new", fleet) == "old-13"


def test_a_host_keeps_its_accelerator_whatever_the_machine_that_upgrades_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the same tree; unless that machine's operator does not want it."""
    monkeypatch.delenv("GEARMAN_PURE", raising=False)
    made = build.Artifact("made", "", 1, None, source="s")

    def chosen(**runs: object) -> str:
        told = answers([3, 11, 2], "runs")
        told["releases", ON_HOSTS]["kept"]["runs"].update(runs)
        return choice.release_for(made, told).id

    assert chosen(source="s", accelerated=True) == "runs"
    assert chosen(source="s", accelerated=False) == "made"
    assert chosen(source="another", accelerated=True) == "made"
    assert chosen() == "made", "it was built before this was told"
    assert choice.release_for(made, answers([3, 11, 2], None)) == made
    monkeypatch.setenv("GEARMAN_PURE", "1")
    assert chosen(source="s", accelerated=True) == "made"
