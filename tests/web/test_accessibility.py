"""The pages can be used by a keyboard and by a screen reader, in every state of a fleet."""

from collections.abc import Iterator
from importlib.resources import files
from itertools import pairwise
from typing import Any

import pytest

from tests.web.browser import CHROMIUM, Browser, running_browser
from tests.web.recording import PAGES, SCENES, Recording
from tests.web.screenshots import HEIGHT
from tests.web.site import Site, still_site
from tests.web.still import OPERATED, enter_path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.xdist_group("chromium"),
]
AXE = (files("axe_core_python") / "axe.min.js").read_text()
# What axe finds wrong: the rule, and what breaks it.
STANDARDS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
OF_STYLE = ["color-contrast", "link-in-text-block", "scrollable-region-focusable"]
ASK_AXE = """axe.run(document, {runOnly: %s, resultTypes: ["violations"]}).then(
    (found) => found.violations.map((each) => [each.id, ...each.nodes.map((node) => node.html)])
)"""
# Where the focus is: in the order of the document, on the page, its mark, what is on top of it.
FOCUS = """(() => {
    const focused = document.activeElement;
    if (focused === document.body) return null;
    const box = focused.getBoundingClientRect();
    const style = getComputedStyle(focused);
    const above = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
    let left = box.left;
    for (let each = focused.parentElement; each; each = each.parentElement) left += each.scrollLeft;
    return {
        what: focused.outerHTML.slice(0, 120),
        left, right: left + box.width, top: box.top + scrollY, bottom: box.bottom + scrollY,
        marked: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
        covered: !focused.closest("header") && !!above?.closest("header"),
    };
})()"""
MOST_STOPS = 60  # of Tab: then come more rows of a table
OPERATING = {
    "failed-of": "/failed?function=mail.send",
    "limits": "/function/limits?function=report.pdf",
    "purge": "/function/confirm?function=resize",
    "discard": "/failed/confirm?action=discard&function=mail.send",
    "login": "/login",
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


@pytest.fixture(scope="module", params=SCENES)
def scene(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def site(browser: Browser, scene: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with still_site(tmp_path_factory.mktemp("still"), scene) as site:
        browser.open(site.address + enter_path(scene))
        yield site
        browser.leave()


@pytest.fixture
def paths(scene: str) -> dict[str, str]:
    """All pages of a scene."""
    more = OPERATING if scene == OPERATED else {}
    found = {**PAGES, **more, "job": Recording.load(scene).job, "runbook": "/runbook"}
    return {page: path for page, path in found.items() if path}


def test_axe_finds_nothing_wrong(browser: Browser, site: Site, paths: dict[str, str]) -> None:
    wrong = []
    for width, dark, rules in (
        (1280, False, STANDARDS),
        (1280, True, OF_STYLE),
        (390, False, OF_STYLE),
    ):
        browser.resize(width, HEIGHT, dark=dark)
        for page, path in paths.items():
            browser.open(site.address + path)
            browser.run(f"{AXE};0")
            wrong += [(page, width, dark, *each) for each in browser.run(ASK_AXE % rules)]
    assert not wrong


@pytest.mark.parametrize("width", [1280, 390])
def test_tab_goes_through_the_page_as_it_is_read(
    browser: Browser, site: Site, paths: dict[str, str], width: int
) -> None:
    browser.resize(width, HEIGHT)
    for page, path in paths.items():
        browser.open(site.address + path)
        stops = list(tab_through(browser))
        assert len(stops) > 1, page
        for stop in stops:
            assert stop["marked"], f"{page}: nothing shows that it has the focus: {stop['what']}"
            assert not stop["covered"], f"{page}: the focus is behind the bar: {stop['what']}"
        for before, after in pairwise(stops[1:]):  # the first is the link that skips the bar
            assert not is_read_before(after, before), f"{page}: {after} after {before}"


def tab_through(browser: Browser) -> Iterator[dict[str, Any]]:
    """The elements to which Tab leads, until it begins again."""
    first = None
    for _ in range(MOST_STOPS):
        browser.press("Tab")
        stop = browser.run(FOCUS)
        if stop is None or stop["what"] == first:
            return
        first = first or stop["what"]
        yield stop


def is_read_before(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether a reader comes to ``one`` first: it is above, in no later column, or to the left."""
    above = one["bottom"] <= other["top"] and one["left"] < other["right"]
    beside = one["top"] < other["bottom"] and other["top"] < one["bottom"]
    return bool(above or (beside and one["right"] <= other["left"]))


def test_a_screen_reader_hears_names_and_is_not_interrupted(
    browser: Browser, site: Site, paths: dict[str, str]
) -> None:
    browser.resize(1280, HEIGHT)
    for page, path in paths.items():
        browser.open(site.address + path)
        nodes = browser.accessible_nodes()
        unnamed = [each for each in nodes if each.get("focusable") and not each["name"]]
        assert [each for each in unnamed if each["role"] not in ("RootWebArea", "main")] == [], page
        loud = [each for each in nodes if each.get("live", "off") != "off"]
        assert loud == [], f"{page}: what comes by itself would be read aloud"
        places: dict[str, set[str]] = {}
        for each in nodes:
            if each["role"] == "link" and "sort=" not in each.get("url", ""):  # not of a heading
                places.setdefault(each["name"], set()).add(each.get("url") or "")
        alike = {name: found for name, found in places.items() if len(found) > 1}
        assert not alike, f"{page}: links with one name lead to several places"
