"""Functions whose names are easily mistaken for others have a page, figures and actions each."""

import re
from html import unescape
from urllib.parse import quote

import pytest

from gearman_py.protocol.packets import Packet
from tests.job_servers import JobServer
from tests.peer import Peer
from tests.web.operators import act, await_function
from tests.web.site import Site

pytestmark = pytest.mark.slow

# As they are, and as they are shown.
NAMES = {
    b"": r"\x00",
    b"other": "other",
    b"(other)": r"\x28other)",
    b"col\xff": r"col\xff",
    rb"col\xff": r"col\x5cxff",
}


def test_each_function_has_its_own_page_and_is_purged_alone(
    site: Site, servers: list[JobServer]
) -> None:
    client = Peer(("127.0.0.1", servers[0].port))
    with client.socket:
        for number, name in enumerate(NAMES, 1):
            for _ in range(number):
                client.ask(Packet.SUBMIT_JOB_BG, name, b"", b"")
        for shown in NAMES.values():
            await_function(site, shown)
        overview = site.await_page("/", {"Waiting": "15"})
        assert overview.notes["Jobs in"].startswith("15 in "), "none is counted twice"
        linked = re.findall(
            r'<th scope="row"><a href="(/function\?name=[^"]*)">(.*?)</a>', overview.html
        )
        assert {unescape(text): link for link, text in linked} == {
            shown: f"/function?name={quote(shown, safe='')}" for shown in NAMES.values()
        }
        for number, shown in enumerate(NAMES.values(), 1):
            page = site.page(f"/function?name={quote(shown, safe='')}")
            assert page.panels["Waiting"] == str(number), shown
            assert page.row("waiting, normal priority")["Number"] == str(number), shown
            assert page.row("127.0.0.1")["Submissions"] == str(number), shown
            jobs = site.page(f"/jobs?function={quote(shown, safe='')}")
            assert jobs.html.count('<a href="/job?') == number, shown
        left = 15
        for number, shown in enumerate(NAMES.values(), 1):
            page = act(site, "/function/purge", function=shown).document
            assert f"{number} job{'s' if number > 1 else ''} cancelled" in page.text
            left -= number
            site.await_page("/", {"Waiting": str(left)})
    assert site.get("/function?name=").status == 404


def test_schedules_name_functions_as_other_pages_do(site: Site, servers: list[JobServer]) -> None:
    names = {name: shown for name, shown in NAMES.items() if name} | {b"x\ny": r"x\x0ay"}
    client = Peer(("127.0.0.1", servers[0].port))
    with client.socket:
        for number, name in enumerate(names):
            client.ask(Packet.SUBMIT_JOB_BG, name, b"", b"")
            facts = f"cron=0%200%201%201%20* function={quote(name)}"
            assert client.command(f"schedule set s{number} {facts}") == b"OK\r\n"
        for shown in names.values():
            await_function(site, shown)
        page = site.page("/schedules")
        page = site.page("/schedules")
        links = re.findall(
            r'<td class="cut"><a href="(/function\?name=[^"]*)">(.*?)</a>', page.html
        )
        assert {unescape(text): link for link, text in links} == {
            shown: f"/function?name={quote(shown, safe='')}" for shown in names.values()
        }
        for number, _ in enumerate(names):
            client.command(f"schedule delete s{number}")
