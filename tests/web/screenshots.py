"""Draws the pictures of docs/dashboard.md: python -m tests.web.screenshots [FOLDER]"""

import sys
import tempfile
import time
from pathlib import Path

from tests.web.browser import running_browser
from tests.web.scenes import burning_fleet, empty_fleet, healthy_fleet

ROOT = Path(__file__).resolve().parents[2]
SCENES = {"empty": empty_fleet, "healthy": healthy_fleet, "on-fire": burning_fleet}
PAGES = {
    "overview": "/",
    "functions": "/functions",
    "function": "/function?name=resize",
    "jobs": "/jobs?state=running",
    "failed": "/failed",
    "schedules": "/schedules",
    "workers": "/workers",
    "workers-by-pool": "/workers?by=pool",
    "servers": "/servers",
    "deploys": "/deploys",
}
OLD_ENOUGH = 65.0  # seconds until jobs without a worker are a problem


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    with running_browser() as browser:
        for scene, fleet in SCENES.items():
            with tempfile.TemporaryDirectory() as place, fleet(Path(place)) as site:
                if scene == "on-fire":
                    time.sleep(OLD_ENOUGH)
                for width in (1280, 390):
                    for page, path in PAGES.items():
                        if scene == "empty" and page == "function":
                            continue
                        browser.resize(width, 800)
                        browser.open(site.address + path)
                        browser.screenshot(folder / f"{scene}-{page}-{width}.png")
                browser.resize(1280, 800, dark=True)
                browser.open(site.address)
                browser.screenshot(folder / f"{scene}-overview-dark.png")
                browser.leave()
        assert not browser.complaints, browser.complaints


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "dashboard")
