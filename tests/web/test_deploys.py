"""The page of deploys shows what the toolkit wrote down."""

import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.attacks import attack
from tests.job_servers import JobServer
from tests.waiting import await_true
from tests.web.site import Site, running_site

pytestmark = pytest.mark.slow

RUN: dict[str, Any] = {
    "at": "2020-11-30T12:00:00+00:00",
    "run": "1a2b3c4d",
    "who": "ann@laptop",
    "doing": "invoke upgrade --hosts inventory/prod",
    "hosts": ["web1", "web2", "web3", "web4", "web5"],
    "release": "0.1.0-new",
    "from": "0.1.0-old",
    "apps": {"shop": {"release": "shop-2", "from": "shop-1"}},
    "changes": 12,
    "result": "ok",
    "seconds": 8.1,
}


@pytest.fixture
def records(tmp_path: Path) -> Path:
    return tmp_path / "runs.jsonl"


@pytest.fixture
def site(tmp_path: Path, records: Path) -> Iterator[Site]:
    server = JobServer(tmp_path)
    server.start()
    with running_site(tmp_path, "-h", server.address, "--deploys", str(records)) as site:
        yield site
    server.stop()


def test_runs_are_shown_the_last_first(site: Site, records: Path) -> None:
    assert "No host remembers a deploy yet." in site.page("/deploys").text
    later = {
        **RUN,
        "at": "2020-11-30T13:00:00+00:00",
        "hosts": ["db1"],
        "from": "0.1.0-new",
        "apps": {},
        "changes": 1,
        "result": "failed: <b>no</b> room",
    }
    lines = [*map(json.dumps, (RUN, later)), '{"at": "2020-11-30T14']
    records.write_text("\n".join(lines))
    (table,) = site.page("/deploys").tables
    last, first = (dict(zip(table[0], row, strict=True)) for row in table[1:])
    assert first["Hosts"] == "web1, web2, web3, web4 and 1 more"
    assert first["Releases"] == "0.1.0-old \u2192 0.1.0-new, shop shop-1 \u2192 shop-2"
    assert (first["Changes"], first["Result"], first["Who"]) == ("12", "ok", "ann@laptop")
    assert first["Command"] == RUN["doing"]
    assert (last["Hosts"], last["Releases"]) == ("db1", "0.1.0-new")
    assert last["Result"] == "failed: <b>no</b> room"
    assert "<b>no" not in site.page("/deploys").html
    (table,) = site.page("/deploys?q=shop-2").tables
    assert len(table) == 2


def test_what_makes_no_sense_is_left_out(site: Site, records: Path) -> None:
    nonsense: dict[str, Any] = {
        "at": 7,
        "hosts": "web1",
        "apps": [1],
        "changes": "many",
        "result": {"a": ["b"]},
        "who": "x" * 100_000,
    }
    found: list[Any] = [[1], "text", {}, nonsense, {**RUN, "apps": {"shop": None}}]
    texts = [*map(json.dumps, found), "no"]
    records.write_text("\n".join(texts))
    page = site.page("/deploys")
    assert len(page.html) < 20_000
    (table,) = page.tables
    assert len(table) == 1 + 3


FALSE: dict[str, dict[str, Any]] = {
    "a date that has not come": {"at": "2097-01-01T00:00:00+00:00"},
    "a date before all dates": {"at": "0001-01-01T00:00:00+00:00"},
    "a number without end": {"at": "", "changes": 10**400},
    "half a character": {"at": "", "who": "\ud800", "doing": "\ud800"},
    "another line": {"at": "", "result": "ok\n2020-11-30 web1 ok \u202e\x1b[2J"},
    "markup": {"at": "", "hosts": ["<script>alert(1)</script>"], "doing": "</code><b>"},
    "thousands of hosts": {"at": "", "hosts": ["x" * 50] * 2000},
    "thousands of apps": {"at": "", "apps": {f"app{n}": {"release": "r"} for n in range(3000)}},
}


@attack("compromised host", "end or fill the dashboard's page of deploys by its history", "mended")
def test_false_histories_are_harmless_rows_below_the_others(site: Site, records: Path) -> None:
    for what, false in FALSE.items():
        lines = [json.dumps({**RUN, "release": "false", **false}), json.dumps(RUN), "[" * 100_000]
        records.write_text("\n".join(lines))
        page = site.page("/deploys")
        assert len(page.html) < 30_000, what
        for harmful in ("<script>a", "<b>", "\x1b", "\u202e", "\n2020-11-30 web1 ok"):
            assert harmful not in page.html, what
        (table,) = page.tables
        rows = [dict(zip(table[0], row, strict=True)) for row in table[1:]]
        assert [row["When"] for row in rows] == ["2020-11-30 12:00", "\u2013"], what
        assert rows[0]["Releases"].startswith("0.1.0-old"), what


@attack("compromised host", "end the dashboard by a history that never comes", "mended")
def test_a_history_that_does_not_come_keeps_no_other_page(site: Site, records: Path) -> None:
    records.write_text(json.dumps(RUN))
    assert len(site.page("/deploys").tables) == 1
    site.await_round()
    records.unlink()
    os.mkfifo(records)  # opening it waits until someone writes
    try:
        with ThreadPoolExecutor(30) as threads:
            pages = [threads.submit(site.page, "/deploys") for _ in range(30)]
            asked_before = clock_of(site)
            await_true(lambda: clock_of(site) != asked_before)  # job servers are still asked
            for page in pages:
                told = page.result()
                assert "not all has been read" in told.text
                assert RUN["doing"] in told.text
    finally:
        os.close(os.open(records, os.O_WRONLY))


def clock_of(site: Site) -> str:
    """When the job servers were asked last."""
    found = re.search(r'id="clock".*?<time>(.*?)</time>', site.page("/").html, re.DOTALL)
    assert found
    return found[1]
