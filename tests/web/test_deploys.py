"""The page of deploys shows what the toolkit wrote down."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.job_servers import JobServer
from tests.web.site import Site, running_site

pytestmark = pytest.mark.slow

RUN: dict[str, Any] = {
    "at": "2026-11-30T12:00:00+00:00",
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
        "at": "2026-11-30T13:00:00+00:00",
        "hosts": ["db1"],
        "from": "0.1.0-new",
        "apps": {},
        "changes": 1,
        "result": "failed: <b>no</b> room",
    }
    lines = [*map(json.dumps, (RUN, later)), '{"at": "2026-11-30T14']
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
