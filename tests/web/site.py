"""A gearman-web as a process of its own, and what its pages say."""

import contextlib
import os
import re
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from html import unescape
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

from tests.forked import start_tool
from tests.ports import reserve_port
from tests.waiting import await_true


class Document(HTMLParser):
    """A page: its title, its panels (heading: figure), its tables (rows of cells), and all text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.tables: list[list[list[str]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.title = unescape(re.findall(r"<title>(.*?)</title>", html)[0])

    @property
    def panels(self) -> dict[str, str]:
        found = re.findall(r'<h3>(.*?)</h3>\s*<p class="figure"><b>(.*?)</b>', self.html)
        return {title: unescape(figure) for title, figure in found}

    @property
    def notes(self) -> dict[str, str]:
        pattern = r'<h3>(.*?)</h3>.*?<p class="note">(.*?)</p>'
        found = re.findall(pattern, self.html, re.DOTALL)
        return {title: unescape(note) for title, note in found}

    def row(self, name: str) -> dict[str, str]:
        """The row of a table whose first cell is ``name``, by heading."""
        for headings, *rows in self.tables:
            for row in rows:
                if row[0] == name:
                    return dict(zip(headings, row, strict=True))
        raise AssertionError(f"no row {name!r} in {self.tables}")

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        self.text += data
        if {"td", "th"} & set(self._open):
            cell = f"{self.tables[-1][-1][-1]} {data}"
            self.tables[-1][-1][-1] = " ".join(cell.split())


@dataclass
class Answer:
    """A response: its status, its headers with names in lower case, its text."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def document(self) -> Document:
        assert self.status == 200, f"{self.status}: {self.text}"
        return Document(self.text)


class _StayHere(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


@dataclass
class Site:
    """Where a gearman-web is, and a browser's cookies."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path
    cookies: CookieJar = field(default_factory=CookieJar)

    def get(self, path: str, **headers: str) -> Answer:
        """Ask for a path; header names have underscores."""
        return self.request(path, None, **headers)

    def post(self, path: str, fields: dict[str, str], **headers: str) -> Answer:
        return self.request(path, urllib.parse.urlencode(fields).encode(), **headers)

    def request(self, path: str, data: bytes | None, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.address + path, data, named)  # noqa: S310  http
        cookies = urllib.request.HTTPCookieProcessor(self.cookies)
        opener = urllib.request.build_opener(_StayHere, cookies)
        try:
            with opener.open(request, timeout=30) as answer:
                status, found, body = answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, found, body = error.code, error.headers, error.read()
        lower = {name.lower(): value for name, value in found.items()}
        return Answer(status, lower, body.decode())

    def page(self, path: str) -> Document:
        return self.get(path).document

    def await_page(self, path: str, expected: dict[str, str]) -> Document:
        """The page, once its panels show these figures; an AssertionError tells what they show."""
        found: list[Document] = []

        def shows() -> bool:
            found[:] = [self.page(path)]
            panels = found[0].panels
            return all(panels.get(name) == figure for name, figure in expected.items())

        with contextlib.suppress(AssertionError):
            await_true(shows)
        panels = found[0].panels
        assert {name: panels.get(name) for name in expected} == expected, self.log.read_text()
        return found[0]

    def await_round(self) -> None:
        """Wait until the job servers were asked."""
        await_true(lambda: "<time>" in self.get("/healthz").text or "<time>" in self.get("/").text)


@contextmanager
def running_site(folder: Path, *options: str, host: str = "127.0.0.1") -> Iterator[Site]:
    """gearman-web with these options on a free port; its log in folder."""
    port = reserve_port()
    words = ["--interval", "1", "--web-port", str(port), *options]
    scheme = "https" if "--tls-key" in options else "http"
    with _served(folder, f"{scheme}://{host}:{port}", partial(start_tool, "web", *words)) as site:
        yield site


@contextmanager
def still_site(folder: Path, scene: str) -> Iterator[Site]:
    """The dashboard as it was when a scene was recorded: see still.py."""
    port = reserve_port()
    command = [sys.executable, "-m", "tests.web.still", scene, str(port)]
    start = partial(subprocess.Popen, command, env={**os.environ, "TZ": "UTC"})
    with _served(folder, f"http://127.0.0.1:{port}", start) as site:
        yield site
        assert "not recorded" not in (told := site.log.read_text()), told


Start = Callable[..., subprocess.Popen[Any]]


@contextmanager
def _served(folder: Path, address: str, start: Start) -> Iterator[Site]:
    log = folder / "web.log"
    with log.open("w") as file:
        process = start(stderr=file, stdin=subprocess.DEVNULL)
    try:
        await_true(lambda: "serves " in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield Site(address, process, log)
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()
