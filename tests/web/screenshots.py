"""Draws the pictures of docs/dashboard.md: ``python -m tests.web.screenshots [FOLDER]``.

They show what was recorded (recording.py), so that only what was changed in the pages changes.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from tests.web.browser import Browser, running_browser
from tests.web.recording import PAGES, SCENES, Recording
from tests.web.site import still_site
from tests.web.still import enter_path

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "dashboard"
COLORS = 128  # of a picture, which takes a third of the bytes then
WIDTHS = (1280, 390)
HEIGHT = 800


def draw_pages(browser: Browser, scene: str, folder: Path) -> Iterator[tuple[str, Image.Image]]:
    """The names and pictures of all pages in a scene."""
    paths = PAGES if scene != "empty" else {**PAGES, "function": ""}
    paths = {**paths, "job": Recording.load(scene).job}
    with still_site(folder, scene) as site:
        browser.open(site.address + enter_path(scene))
        for width in WIDTHS:
            browser.resize(width, HEIGHT)
            for page, path in paths.items():
                if path:
                    browser.open(site.address + path)
                    yield f"{scene}-{page}-{width}", browser.screenshot()
        browser.resize(WIDTHS[0], HEIGHT, dark=True)
        browser.open(site.address)
        yield f"{scene}-overview-dark", browser.screenshot()
        browser.leave()


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    with running_browser() as browser:
        for scene in SCENES:
            with tempfile.TemporaryDirectory() as place:
                for name, picture in draw_pages(browser, scene, Path(place)):
                    few = picture.quantize(COLORS, dither=Image.Dither.NONE)
                    few.save(folder / f"{name}.png", optimize=True)
        assert not browser.complaints, browser.complaints


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
