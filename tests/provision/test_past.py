"""What hosts remember, shown: who did what, and which releases they keep."""

import sys
from pathlib import Path
from typing import Any, cast

import pytest

from provision import hosts, past
from provision.hosts import operator
from provision.inventory import Host
from provision.messages import Answer, Question
from provision.options import Options
from provision.session import Session

FACTS = {"os": {}, "libc": "glibc 2.36", "machine": "x86_64"}


class Asked:
    """A session with a host of this Python, which keeps one release."""

    def __init__(self, python: list[int]) -> None:
        self._python = python

    def __enter__(self) -> "Asked":
        return self

    def __exit__(self, *_: object) -> None: ...

    def ask(self, questions: list[Question]) -> dict[Question, Answer]:
        kept = {"1-old": {"at": 0, "bad": None}}
        known: dict[str, Any] = {
            "host": FACTS | {"python": self._python},
            "releases": {"current": "1-old", "running": ["1-old"], "kept": kept, "damaged": {}},
            "history": [],
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


def test_the_history_has_what_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["invoke", "--search-root", "/here", "deploy", "--yes"])
    assert operator()["doing"] == "invoke deploy --yes"
    assert hosts.holder()["doing"].startswith("invoke deploy --yes, pid ")
