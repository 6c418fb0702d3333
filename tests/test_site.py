"""The documentation site builds without a warning, and its reference has every public name."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import gearman_py

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT / "docs", folder)
    assert done.returncode == 0, done.stderr
    return folder


def build(pages: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = ["-m", "sphinx", "-q", "-E", "-W", "--keep-going", str(pages), str(folder)]
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)


def test_every_page_is_built_and_in_the_navigation(site: Path) -> None:
    index = (site / "index.html").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert (site / f"{page.stem}.html").exists()
        assert f'href="{page.stem}.html"' in index or page.stem == "README"


def test_the_reference_has_every_public_name(site: Path) -> None:
    told = set(re.findall(r'id="gearman_py\.(\w+)"', (site / "api.html").read_text()))
    assert set(gearman_py.__all__) - told == set()


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.glob("*.html"):
        tags = re.findall(r"<(?:script|link|img)[^>]*>", page.read_text())
        assert [tag for tag in tags if re.search(r'(src|href)="(https?:)?//', tag)] == [], page


def test_a_broken_link_is_an_error(tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    pages.mkdir()
    settings = (ROOT / "docs" / "conf.py").read_text().replace("NAVIGATION.items()", "()")
    (pages / "conf.py").write_text(settings)
    (pages / "README.md").write_text("# Pages\n\n[one](other.md), [two](#nowhere)\n")
    done = build(pages, tmp_path / "site")
    assert done.returncode == 1
    assert "other.md" in done.stderr and "nowhere" in done.stderr
