"""What `invoke logs NAME` takes for a name, with hosts that are not there."""

import fnmatch
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from provision.commands.logs import LogQuery, logs
from provision.errors import ToolkitError
from provision.inventory.host import Host
from provision.options import Options
from provision.remote.messages import Answer, Question
from provision.remote.session import Session
from roles import ROLES
from tests.attacks import attack

HOSTS = """\
job_server: {hosts: {job: {ansible_host: 10.0.0.1}}}
worker: {hosts: {w1: }, vars: {
  gearman_functions: [resize, reverse, wc],
  gearman_workers: {
    shout: {command: [cat], functions: [shout], instances: 2},
    slow: {program: [perl], functions: [dawdle, shop.rev]},
    shop: {run: 'tasks:worker', app: shop}},
  gearman_apps: {shop: {source: .}}}}
"""


class Journal:
    """A session with a host that has these units; each has said one line."""

    def __init__(self, host: Host, units: set[str]) -> None:
        self.name = host.name
        self._units = units

    def ask(self, questions: list[Question]) -> dict[Question, Answer]:
        there = self._units - {"gone.service"}
        return {each: {} if each[1] in there else None for each in questions}

    def stream(self, argv: list[str], seconds: float) -> Any:
        named = [each.removeprefix("--unit=") for each in argv if each.startswith("--unit=")]
        return Lines({unit for each in named for unit in fnmatch.filter(self._units, each)})

    def survey(self, questions: list[Question]) -> dict[Question, Answer]:
        """Of a job server: the worker shop is connected to it."""
        served = ["size", "ping@w1/shop:2", "ping@w1/../x"]
        rows = [{"address": "10.0.0.2", "client": "w1:2", "functions": served}]
        return {each: {"problem": None, "registered": rows} for each in questions}

    def close(self) -> None: ...


class Lines:
    status = 0

    def __init__(self, units: set[str]) -> None:
        self._units = units

    def __iter__(self) -> Iterator[str]:
        for unit in sorted(self._units):
            said = {"MESSAGE": f"I am {unit}", "UNIT": unit, "__REALTIME_TIMESTAMP": "0"}
            yield json.dumps(said)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hosts.yml").write_text(HOSTS)
    return tmp_path


def show(folder: Path, name: str) -> int:
    units = {
        *("gearmand.service", "ssh.service", "gone.service"),
        *(f"gearman-worker@{each}.service" for each in ("shout", "shout:2", "shop", "shopping")),
        *(f"gearman-worker@{each}.service" for each in ("slow.5d56ccf7", "slow:2.0b2096a8")),
        "gearman-worker@left.0b2096a8.service",
    }

    def connect(host: Host) -> Session:
        return cast(Session, Journal(host, units))

    return logs(folder, ROLES, Options(), name, LogQuery(), connect=connect)


@pytest.mark.parametrize(
    ("name", "units"),
    [
        ("gearmand", "gearmand"),
        ("shout", "@shout @shout:2"),
        ("gearman-worker@shout", "@shout @shout:2"),
        ("shout:2", "@shout:2"),
        ("ssh.service", "ssh"),
        ("slow", "@slow.5d56ccf7 @slow:2.0b2096a8"),
        ("gearman-worker@slow.service", "@slow.5d56ccf7 @slow:2.0b2096a8"),
        ("slow.5d56ccf7", "@slow.5d56ccf7"),
        ("dawdle", "@slow.5d56ccf7 @slow:2.0b2096a8"),
        ("shop.rev", "@slow.5d56ccf7 @slow:2.0b2096a8"),
        ("shop", "@shop"),
        ("size", "@shop"),
        ("left", "@left.0b2096a8"),
    ],
)
def test_a_name_is_a_worker_a_function_or_a_unit(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, units: str
) -> None:
    assert show(folder, name) == 0
    told = re.findall(r"I am (\S+)\.service", capsys.readouterr().out)
    assert set(told) == {each.replace("@", "gearman-worker@") for each in units.split()}


def test_a_unit_that_is_gone_and_has_left_lines_is_known(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show(folder, "gone.service") == 0
    assert "I am gone.service" in capsys.readouterr().out


def test_a_unit_that_has_said_nothing_is_not_an_error(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show(folder, "resize") == 0
    assert "nothing of resize on job, w1" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["nosuch", "nosuch.service", "gearman-worker@nosuch.service"])
def test_an_unknown_name_is_an_error_that_lists_the_known(folder: Path, name: str) -> None:
    with pytest.raises(ToolkitError) as raised:
        show(folder, name)
    assert str(raised.value) == (
        f"logs: unknown name {name!r}; expected a host, a group, gearmand, "
        "gearman-web, a worker or function (dawdle, resize, reverse, shop, shop.rev, shout, slow, "
        "wc) or a unit of systemd; what shop serves is known while a job server lists it: say "
        "`./invoke logs shop`"
    )


def test_a_name_that_is_nearly_known_is_suggested(folder: Path) -> None:
    with pytest.raises(ToolkitError, match="unknown name 'resise'; did you mean 'resize'"):
        show(folder, "resise")


@attack("compromised host", "lines of a journal that are not what journalctl writes", "mended")
@pytest.mark.timeout(30)
@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize(
    "line", ['{"MESSAGE": ', "{}", '{"__REALTIME_TIMESTAMP": 5}', '{"__REALTIME_TIMESTAMP": "9e9"}']
)
def test_a_host_with_a_malformed_journal_fails_and_the_others_are_shown(
    folder: Path, capsys: pytest.CaptureFixture[str], line: str, follow: bool
) -> None:
    class Malformed(Journal):
        def stream(self, argv: list[str], seconds: float) -> Any:
            return [line] if self.name == "w1" else super().stream(argv, seconds)

    def connect(host: Host) -> Session:
        return cast(Session, Malformed(host, {"gearmand.service"}))

    query = LogQuery(follow=follow)
    assert logs(folder, ROLES, Options(), "gearmand", query, connect=connect) == 3
    told = capsys.readouterr()
    assert "I am gearmand.service" in told.out
    assert "malformed line of journalctl: " in told.out + told.err


@attack("compromised host", "a journal without end, kept in memory", "mended")
@pytest.mark.timeout(60)
@pytest.mark.parametrize("text", [json.dumps({"__REALTIME_TIMESTAMP": "0"}), "x" * 1000])
def test_a_host_whose_journal_has_no_end_fails_and_the_others_are_shown(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    class Endless(Journal):
        def stream(self, argv: list[str], seconds: float) -> Any:
            return itertools.repeat(text) if self.name == "w1" else super().stream(argv, seconds)

    def connect(host: Host) -> Session:
        return cast(Session, Endless(host, {"gearmand.service"}))

    assert logs(folder, ROLES, Options(), "gearmand", LogQuery(), connect=connect) == 3
    told = capsys.readouterr()
    assert "I am gearmand.service" in told.out
    assert "journalctl tells more than it was asked for" in told.out + told.err
