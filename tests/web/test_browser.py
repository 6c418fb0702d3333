"""The pages in a real browser: every link, every width, by keyboard, with script and without."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from gearman_py import AdminClient, Client, Worker, WorkerJob
from gearman_py.testing import running
from tests.job_servers import JobServer
from tests.waiting import await_true
from tests.web.browser import CHROMIUM, Browser, running_browser
from tests.web.operators import log_in
from tests.web.scenes import Fleet, burning_fleet, empty_fleet, healthy_fleet
from tests.web.site import Site, running_site
from tests.web.test_access import PASSWORD, add_user

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.xdist_group("chromium"),
]
HOSTILE = "<script>alert(1)</script>/../ ?a=b&c#d%2F\u202e é"

# What is wrong with a page, as a list of words.
INSPECT = """(() => {
    const wrong = [];
    const all = (selector) => [...document.querySelectorAll(selector)];
    if (all("h1").length !== 1) wrong.push("h1: " + all("h1").length);
    let level = 1;
    for (const each of all("h1, h2, h3, h4")) {
        const own = Number(each.tagName[1]);
        if (own > level + 1 && own !== 1) wrong.push("heading " + each.textContent);
        level = own;
    }
    for (const each of all("th")) if (!each.scope) wrong.push("no scope: " + each.textContent);
    for (const each of all("input:not([type=hidden])"))
        if (!each.labels.length) wrong.push("no label: " + each.name);
    for (const each of all("svg[role=img], nav"))
        if (!each.getAttribute("aria-label")) wrong.push("no name: " + each.outerHTML.slice(0, 80));
    for (const each of all("a, button"))
        if (each.offsetParent && !each.textContent.trim()) wrong.push("empty: " + each.outerHTML);
    for (const each of all("img")) if (!each.naturalWidth) wrong.push("not loaded: " + each.src);
    const ids = all("[id]").map((each) => each.id);
    if (new Set(ids).size !== ids.length) wrong.push("an id twice");
    const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
    if (wide > 0) wrong.push("too wide by " + wide);
    return wrong;
})()"""
LINKS = "[...document.querySelectorAll('a[href]')].map((each) => each.href)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


@pytest.fixture
def calm(browser: Browser) -> Iterator[Browser]:
    """A browser that must not have complained at the end of the test."""
    browser.complaints.clear()
    browser.resize(1280)
    yield browser
    browser.disable_script(False)
    assert not browser.complaints


def visit_all(browser: Browser, site: Site, width: int, most: int) -> set[str]:
    """Open the addresses that any page links to, ``most`` of each path; return them."""
    browser.resize(width)
    ahead, seen = [f"{site.address}/", f"{site.address}/jobs?state=running"], set[str]()
    visits = Counter[str]()
    while ahead:
        address = ahead.pop(0)
        path = address.partition("?")[0]
        if visits[path] == most:
            continue
        visits[path] += 1
        seen.add(address)
        browser.open(address)
        assert browser.run(INSPECT) == [], f"{address} at {width}"
        title = browser.run("document.title")
        assert "Not shown" not in title, address
        links = {link.partition("#")[0] for link in browser.run(LINKS)}
        ahead += sorted(link for link in links - seen - {*ahead} if link.startswith(site.address))
    return seen


@pytest.mark.parametrize("fleet", [empty_fleet, healthy_fleet, burning_fleet])
def test_every_page_can_be_reached_and_is_whole(
    calm: Browser, fleet: Fleet, tmp_path: Path
) -> None:
    with fleet(tmp_path) as scene:
        site = scene.site
        seen = visit_all(calm, site, 1280, 3)
        paths = {address.removeprefix(site.address).partition("?")[0] for address in seen}
        assert {"/", "/functions", "/jobs", "/workers", "/servers"} <= paths
        assert fleet is empty_fleet or {"/function", "/job"} <= paths
        visit_all(calm, site, 390, 1)
        calm.leave()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[JobServer]:
    server = JobServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def site(calm: Browser, server: JobServer, tmp_path: Path) -> Iterator[Site]:
    with running_site(tmp_path, "-h", server.address) as site:
        site.await_round()
        yield site
        calm.leave()


def test_new_values_come_by_themselves_and_stop_when_asked(
    calm: Browser, site: Site, server: JobServer
) -> None:
    waiting = "document.querySelector('.panel.waiting .figure b').textContent"
    calm.open(site.address)
    calm.run("window.same = true")
    with Client(server.address) as client:
        client.do_background("f")
        await_true(lambda: calm.run(waiting) == "1")
        assert calm.run("window.same"), "the page was not loaded again"
        calm.run("document.getElementById('live').click()")
        assert calm.run("document.getElementById('live').textContent") == "Paused"
        client.do_background("f")
        site.await_page("/", {"Waiting": "2"})
        assert calm.run(waiting) == "1"
        calm.run("document.getElementById('live').click()")
        await_true(lambda: calm.run(waiting) == "2")


def test_pages_work_without_script(calm: Browser, site: Site, server: JobServer) -> None:
    with Client(server.address) as client:
        for number in range(130):
            client.do_background(f"function-{number:03}")
    site.await_page("/", {"Waiting": "130"})
    calm.disable_script()
    calm.open(f"{site.address}/functions?sort=name")
    rows = "document.querySelectorAll('tbody tr').length"
    assert calm.run(rows) == 100
    calm.click(".pager a[rel=next]")
    assert calm.run(rows) == 30
    calm.click("thead a")
    assert calm.run("document.querySelector('tbody th').textContent.trim()") == "function-129"
    calm.run("document.getElementById('q').value = '12'")
    calm.click("form.filter button")
    assert calm.run(rows) == 12  # 012, 112, 120 to 129
    calm.click("tbody a")
    assert calm.run("document.querySelector('h1').textContent").startswith("Function function-")


def test_the_keyboard_reaches_the_content_and_the_filter(calm: Browser, site: Site) -> None:
    calm.open(f"{site.address}/functions")
    calm.press("Tab")
    assert calm.run("document.activeElement.className") == "skip"
    calm.press("Enter")
    assert calm.run("document.activeElement.id") == "content"
    calm.press("/")
    assert calm.run("document.activeElement.id") == "q"


def test_the_value_under_the_pointer_is_shown(calm: Browser, site: Site) -> None:
    calm.open(site.address)
    box = calm.run(
        "(b => [b.right - 0.1, b.top + b.height / 2])"
        "(document.querySelector('.panel.workers svg').getBoundingClientRect())"
    )
    calm.move_to(*box)
    await_true(lambda: calm.run("document.querySelector('.reading')?.textContent ?? ''"))
    assert calm.run("document.querySelector('.reading').textContent").startswith("0 · ")


def test_dark_and_light_follow_the_browser(calm: Browser, site: Site) -> None:
    color = "getComputedStyle(document.documentElement).backgroundColor"
    calm.open(site.address)
    light = calm.run(color)
    calm.resize(1280, dark=True)
    assert calm.run(color) != light


def test_an_operator_acts_without_script(calm: Browser, server: JobServer, tmp_path: Path) -> None:
    users = tmp_path / "users"
    assert add_user(users, "alice", "--role", "operate") == ""
    worker = Worker([server.address])

    @worker.function(HOSTILE)
    def fail(job: WorkerJob) -> None:
        job.fail("no such <b>picture</b>")

    with running_site(tmp_path, "-h", server.address, "--users", str(users)) as site:
        with running(worker), Client(server.address) as client:
            client.do_background(HOSTILE, b"x")
            with AdminClient(server.address) as admin:
                await_true(lambda: admin.find_jobs("failed"))
        calm.disable_script()
        calm.open(f"{site.address}/login?next=/failed")
        calm.run("document.getElementById('name').value = 'alice'")
        calm.run(f"document.getElementById('password').value = {PASSWORD!r}")
        calm.click("button")
        text = "document.querySelector('main').textContent"

        def shows_all() -> bool:
            calm.open(f"{site.address}/failed")
            return "all 1" in calm.run(text)

        await_true(shows_all)
        calm.click("td a[href^='/failed?function']")
        for width in (390, 1280):
            calm.resize(width)
            assert calm.run(INSPECT) == []
        calm.click(".head .danger")
        assert "Discard 1 failed job of <script>" in calm.run(text)
        assert calm.run(INSPECT) == []
        calm.click("main .danger")
        assert "1 job discarded" in calm.run(text)
        assert calm.run(INSPECT) == []
        calm.open(f"{site.address}/functions")
        calm.click("tbody a")
        calm.click("form[action='/function/pause'] button")
        assert "by alice at" in calm.run(text)
        assert calm.run(INSPECT) == []
        assert calm.run("document.querySelectorAll('main script, td b').length") == 0
        calm.leave()


def test_an_operator_steers_without_script(
    calm: Browser, server: JobServer, tmp_path: Path
) -> None:
    users = tmp_path / "users"
    assert add_user(users, "alice", "--role", "operate") == ""
    text = "document.querySelector('main').textContent.replace(/\\s+/g, ' ')"

    def look_at(path: str) -> str:
        """Open a page at both widths; what it says."""
        for width in (390, 1280):
            calm.resize(width)
            calm.open(path)
            assert calm.run(INSPECT) == [], f"{path} at {width}"
        return str(calm.run(text))

    def fill_in(**fields: str) -> None:
        for name, value in fields.items():
            calm.run(f"document.getElementById({name!r}).value = {value!r}")

    with (
        running_site(tmp_path, "-h", server.address, "--users", str(users)) as site,
        AdminClient(server.address) as admin,
        Client(server.address) as client,
    ):
        handles = [client.do_background(HOSTILE, b"x", unique=f"acme:{n}") for n in range(2)]
        admin.schedule(HOSTILE, "*/5 * * * *", HOSTILE)
        calm.disable_script()
        calm.open(f"{site.address}/login?next=/schedules")
        fill_in(name="alice", password=PASSWORD)
        calm.click("button")
        assert "in " in look_at(f"{site.address}/schedules")
        calm.click("form[action='/schedule/pause'] button")
        assert "Pause schedule: done" in calm.run(text)
        calm.click("form[action='/schedule/run'] button")
        assert "submitted as job" in calm.run(text)
        assert calm.run(INSPECT) == []

        place = f"/job?server={server.address}&handle={handles[1]}"
        assert "Not before" in look_at(f"{site.address}{place}")
        fill_in(priority="high")
        calm.click("form[action='/job/prioritize'] button")
        assert "has high priority" in calm.run(text)
        fill_in(at="2097-01-31T18:00")
        calm.click("form[action='/job/reschedule'] button")
        assert "scheduled, due 2097-01-31 18:00" in calm.run(text)
        assert calm.run(INSPECT) == []
        calm.click("form[action='/job/run-now'] button")
        assert "is the next job" in calm.run(text)

        calm.open(f"{site.address}/functions")
        calm.click("tbody a")
        calm.click("form[action='/function/limits'] button")
        look_at(calm.run("location.href"))
        fill_in(running="4", rate="20/m", per_key="2")
        calm.click("main .main")
        assert "at most 4 running, 20 started in 1 min, 2 per key" in calm.run(text)
        assert calm.run(INSPECT) == []
        calm.click("form[action='/function/confirm'] button")
        asked = look_at(calm.run("location.href"))
        assert "Cancel 3 jobs of <script>" in asked
        calm.click("main .danger")
        assert "3 jobs cancelled" in calm.run(text)
        assert calm.run("document.querySelectorAll('main script, main i').length") == 0
        calm.leave()


def test_what_is_typed_into_a_form_stays(calm: Browser, server: JobServer, tmp_path: Path) -> None:
    users = tmp_path / "users"
    assert add_user(users, "alice", "--role", "operate") == ""
    seen = "document.getElementById('clock').textContent"
    options = ("-h", server.address, "--users", str(users))
    with running_site(tmp_path, *options) as site, Client(server.address) as client:
        log_in(site, "alice")
        handle = client.do_background("f", b"x")
        calm.open(f"{site.address}/login")
        calm.run("document.getElementById('name').value = 'alice'")
        calm.run(f"document.getElementById('password').value = {PASSWORD!r}")
        calm.click("button")
        calm.open(f"{site.address}/job?server={server.address}&handle={handle}")
        calm.run("document.getElementById('at').value = '2097-01-31T18:00'")
        before = calm.run(seen)
        state = "document.querySelector('dl dd').textContent"
        first = calm.run(state)
        client.do_background("f", b"y")
        site.await_page("/", {"Waiting": "2"})
        calm.run("refresh()")  # what the page does at each interval
        assert calm.run("document.getElementById('at').value") == "2097-01-31T18:00"
        assert (calm.run(state), calm.run(seen)) == (first, before)
        calm.run("document.getElementById('at').value = document.getElementById('at').defaultValue")
        await_true(lambda: calm.run(seen) != before)
        calm.leave()


def test_names_of_others_are_text(calm: Browser, site: Site, server: JobServer) -> None:
    with Client(server.address) as client:
        handle = client.do_background(HOSTILE, b"<b>\0\xff", unique="<i>'\"")
    site.await_page("/", {"Waiting": "1"})
    calm.open(f"{site.address}/functions")
    calm.click("tbody a")
    assert "<script>alert(1)" in calm.run("document.querySelector('h1').textContent")
    calm.click("a[href^='/jobs?function']")
    assert calm.run("document.querySelector('tbody th').textContent").strip() == handle
    calm.click("tbody th a")
    assert "<b>.." in calm.run("document.querySelector('.payload').textContent")
    assert calm.run("document.querySelectorAll('main script, main b, main i').length") == 0
    visit_all(calm, site, 390, 1)
