"""What hosts remember, shown: who did what, and which releases they keep."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from provision.commands import history as past
from provision.commands.facts import facts
from provision.commands.fleet_history import FleetHistory
from provision.fleet import pool as hosts
from provision.fleet.pool import describe_operator
from provision.inventory import load as inventory
from provision.inventory.host import Host
from provision.options import Options
from provision.remote.messages import Answer, Question
from provision.remote.session import Session
from tests.attacks import attack

FACTS = {"os": {}, "libc": "glibc 2.36", "machine": "x86_64"}


MACHINE = {"cpus": 2, "available": 2**29, "memory": 2**33, "uptime": 0, "addresses": []}


class Asked:
    """A session with a host of this Python, which keeps old releases."""

    system = "Debian GNU/Linux 12 (bookworm)"
    bad: str | None = None

    def __init__(
        self, python: list[int], history: Sequence[dict[str, Any]] = (), kept: int = 1
    ) -> None:
        self._python = python
        self._kept = kept
        self._history = list(history)

    def __enter__(self) -> "Asked":
        return self

    def __exit__(self, *_: object) -> None: ...

    def close(self) -> None: ...

    def ask(self, questions: list[Question]) -> dict[Question, Answer]:
        kept = {f"{n}-old": {"at": 0, "bad": self.bad} for n in range(1, self._kept + 1)}
        known: dict[str, Any] = {
            "host": {
                **FACTS,
                "os": {"PRETTY_NAME": self.system},
                "python": self._python,
                "time": 0.0,
                "systemd": 252,
            },
            "disk": {"free": 3 * 2**29},
            "machine": MACHINE,
            "releases": {
                "current": "1-old",
                "running": ["1-old"],
                "kept": kept,
                "damaged": {},
                "given_up": {},
            },
            "history": self._history,
        }
        return {question: known[question[0]] for question in questions}


def test_a_host_too_old_for_a_release_hides_nobody_elses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hosts.yml").write_text("worker: {hosts: {new: , old: }}")
    pythons = {"new": [3, 11, 2], "old": [3, 9, 2]}

    def connect(host: Host) -> Session:
        return cast(Session, Asked(pythons[host.name]))

    assert past.releases(tmp_path, Options(), connect=connect) == 0
    assert "current on all 2 hosts" in capsys.readouterr().out


def test_each_release_is_told_with_who_keeps_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hosts.yml").write_text("worker: {hosts: {a: , b: }}")

    class Blaming(Asked):
        bad = "a: it was slow"

    kept = {"a": 2, "b": 2}

    def connect(host: Host) -> Session:
        return cast(Session, Blaming([3, 11, 2], kept=kept[host.name]))

    def shown() -> list[str]:
        assert past.releases(tmp_path, Options(), connect=connect) == 0
        lines = capsys.readouterr().out.splitlines()
        return [re.sub(r"  [-\d]+ \d\d:\d\d  ", "  ", each) for each in lines]

    bad = "; bad: a: it was slow"
    assert shown() == [f"1-old  current on all 2 hosts{bad}", f"2-old  kept on all 2 hosts{bad}"]
    kept["b"] = 1
    assert shown() == [f"1-old  current on all 2 hosts{bad}", f"2-old  kept on a{bad}"]


def test_a_run_has_the_changes_of_all_its_hosts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hosts.yml").write_text("worker: {hosts: {a: , b: }}")
    run = {"run": "1", "at": "2026-11-23T10:00:00+00:00", "who": "ana", "doing": "invoke deploy"}
    entry = {**run, "release": "2-new", "from": "1-old", "result": "ok"}

    def connect(host: Host) -> Session:
        changes = {"a": 7, "b": 12}[host.name]
        return cast(Session, Asked([3, 11, 2], [{**entry, "changes": changes}]))

    assert past.history(tmp_path, Options(), connect=connect) == 0
    assert "all 2 hosts: 1-old -> 2-new, 19 changes, ok" in capsys.readouterr().out


def test_a_run_is_told_once_with_how_it_went_on_each_host(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hosts.yml").write_text("worker: {hosts: {a: , b: , c: }}")
    run = {"run": "1", "at": "2026-11-23T10:00:00+00:00", "who": "ana", "doing": "invoke upgrade"}
    move = {**run, "release": "2-new", "from": "1-old", "changes": 3}
    back = {**move, "release": "1-old", "from": "2-new", "result": "rolled back", "changes": 2}
    begun = {**move, "result": "begun", "changes": 1}
    entries = {
        "a": [begun, {**move, "result": "ok"}, back],
        "b": [begun, {**move, "result": "failed: no table"}, back],
        "c": [{**move, "result": "staged, not begun because of b"}],
    }

    def connect(host: Host) -> Session:
        return cast(Session, Asked([3, 11, 2], entries[host.name]))

    assert past.history(tmp_path, Options(), connect=connect) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.endswith("ana  invoke upgrade")
    assert sorted(line.strip() for line in lines) == [
        "a: 1-old -> 2-new, 3 changes, ok, then rolled back",
        "b: 1-old -> 2-new, 3 changes, failed: no table, then rolled back",
        "c: 1-old -> 2-new, 3 changes, staged, not begun because of b",
    ]


def test_apps_that_a_deploy_moved_are_in_the_history(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hosts.yml").write_text("worker: {hosts: {a: }}")
    run = {"run": "1", "at": "2026-11-23T10:00:00+00:00", "who": "ana", "doing": "invoke deploy"}
    apps = {"shop": {"from": "shop-1", "release": "shop-2"}}
    entry = {**run, "release": "1-old", "from": "1-old", "apps": apps, "result": "ok", "changes": 4}

    def connect(host: Host) -> Session:
        return cast(Session, Asked([3, 11, 2], [entry]))

    assert past.history(tmp_path, Options(), connect=connect) == 0
    assert "a: 1-old, shop-1 -> shop-2, 4 changes, ok" in capsys.readouterr().out


@pytest.mark.parametrize(("kept", "text"), [(1, "0 others"), (2, "1 other"), (3, "2 others")])
def test_counts_agree_with_their_nouns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kept: int, text: str
) -> None:
    (tmp_path / "hosts.yml").write_text("worker: {hosts: {a: }}")
    run = {"run": "1", "at": "2026-11-23T10:00:00+00:00", "who": "ana", "doing": "invoke deploy"}
    entry = {**run, "release": "1-old", "from": None, "result": "ok", "changes": 1}

    def connect(host: Host) -> Session:
        return cast(Session, Asked([3, 11, 2], [entry], kept))

    assert facts(tmp_path, Options(), connect=connect) == 0
    out = capsys.readouterr().out
    assert f"release  1-old, {text} kept\n" in out
    assert "2 CPUs, 512 MiB of 8 GiB memory free, 1.5 GiB disk free\n" in out
    assert past.history(tmp_path, Options(), connect=connect) == 0
    assert "a: 1-old, 1 change, ok" in capsys.readouterr().out


def test_the_history_has_what_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["invoke", "--search-root", "/here", "deploy", "--yes"])
    assert describe_operator()["doing"] == "invoke deploy --yes"
    assert hosts.lock_holder()["doing"].startswith("invoke deploy --yes, pid ")


@attack("compromised host", "lines of another host in `facts`, `history` and `releases`", "mended")
def test_a_host_writes_no_line_of_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hosts.yml").write_text("worker: {hosts: {a: , b: }}")
    run = {"run": "1", "at": "2026-11-23T10:00:00+00:00", "who": "ana", "doing": "invoke deploy"}
    entry = {**run, "release": "1-old", "from": None, "result": "ok", "changes": 1}
    forged = "x\nb forged"

    def connect(host: Host) -> Session:
        if host.name == "b":
            return cast(Session, Asked([3, 11, 2], [entry]))
        false = Asked([3, 11, 2], [{**entry, "who": forged, "doing": forged, "result": forged}])
        false.system = false.bad = forged
        return cast(Session, false)

    for show in (facts, past.history, past.releases):
        assert show(tmp_path, Options(), connect=connect) == 0
        out = capsys.readouterr().out
        assert r"x\nb forged" in out
        assert "\nb forged" not in out


@attack("compromised host", "name another operator and command for a run of all hosts", "mended")
def test_who_did_what_is_told_of_a_host_as_it_says_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hosts.yml").write_text("worker: {hosts: {a: , b: }}")
    run = {"run": "1", "at": "2026-11-23T10:00:00+00:00", "who": "ana", "doing": "invoke deploy"}
    entry = {**run, "release": "1-old", "from": None, "result": "ok", "changes": 1}

    def connect(host: Host) -> Session:
        doing = {"a": "invoke retire", "b": "invoke deploy"}[host.name]
        return cast(Session, Asked([3, 11, 2], [{**entry, "doing": doing}]))

    assert past.history(tmp_path, Options(), connect=connect) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert [line.split("ana  ")[-1] for line in lines] == [
        *("invoke retire", "a: 1-old, 1 change, ok"),
        *("invoke deploy", "b: 1-old, 1 change, ok"),
    ]


@attack("compromised host", "hide the run of all hosts by another date, and below others", "mended")
def test_a_host_that_lies_has_rows_of_its_own_and_no_more_than_others(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("worker: {hosts: {a: , b: }}")
    run = {"run": "1", "at": "2026-11-23T10:00:00+00:00", "who": "ana", "doing": "invoke deploy"}
    entry = {**run, "release": "1-old", "from": None, "result": "ok", "changes": 1}
    false = [{**entry, "run": str(number)} for number in range(10_000)]
    histories = {"a": [*false, {**entry, "at": "2097-01-01"}], "b": [entry]}

    def connect(host: Host) -> Session:
        return cast(Session, Asked([3, 11, 2], histories[host.name]))

    told = FleetHistory(inventory.load(tmp_path).hosts, connect).read()
    assert not told.failures
    assert len(told.entries) == 50 + 1
    (row,) = [each for each in told.entries if "b" in each["hosts"]]
    assert (row["at"], row["hosts"], row["changes"]) == (run["at"], ["b"], 1)
