"""A web page that someone looks at cannot use the job server that their browser can reach."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gearman_py import AdminClient
from tests.attacks import attack
from tests.job_servers import GearmandProcess
from tests.waiting import await_true
from tests.web.browser import CHROMIUM, running_browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.xdist_group("chromium"),
]

COMMANDS = "x\nmaxqueue reverse 5\n\0REQ\0\0\0\x12\0\0\0\x0breverse\0\0hi!"
POST = "fetch(%s, {method: 'POST', mode: 'no-cors', body: new Blob([%s])}).then(() => 1, () => 0)"
IMAGE = """new Promise((resolve) => {
    const image = new Image();
    image.onload = image.onerror = resolve;
    image.src = %s;
}).then(() => 1)"""


class Page(BaseHTTPRequestHandler):
    """An empty page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def page() -> Iterator[str]:
    """The address of a page of another site; this machine's, as browsers shield it from others."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        yield f"http://localhost:{site.server_port}/"
        site.shutdown()


@attack(
    "peer on the network", "submit jobs and commands by a web page that someone opens", "mended"
)
def test_its_requests_do_nothing(tmp_path: Path, page: str) -> None:
    options = ["-L", "127.0.0.1", "-p", "0", "-v", "-r", "http", "--http-port", "0"]
    with GearmandProcess(options, tmp_path) as server, running_browser() as browser:
        host, port = server.listening()
        found = re.search(r"(\d+) for HTTP", server.log)
        assert found
        gearman, web = f"http://{host}:{port}/", f"http://{host}:{found[1]}/reverse"
        browser.open(page)
        for address in (gearman, web):
            browser.run(POST % (json.dumps(address), json.dumps(COMMANDS)))
        browser.run(IMAGE % json.dumps(web))
        await_true(lambda: server.log.count("pages of other sites cannot submit jobs") == 2)
        await_true(lambda: "this port is not for HTTP" in server.log)
        with AdminClient(f"{host}:{port}") as admin:
            assert admin.status() == []
