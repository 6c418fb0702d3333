"""The pages look as on the pictures in docs/dashboard, and a picture that differs is noticed."""

from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFilter

from tests.web.browser import CHROMIUM, FONT, running_browser
from tests.web.pictures import MOST, differing_squares, draw_difference
from tests.web.recording import SCENES
from tests.web.screenshots import FOLDER, draw_pages

DIFFERENCES = FOLDER.parents[1] / "build" / "pictures"
COMMAND = "python -m tests.web.screenshots"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.skipif(not FONT.exists(), reason="fonts-dejavu-core is not installed")
@pytest.mark.xdist_group("chromium")
def test_pages_look_as_on_the_pictures_of_the_documentation(tmp_path: Path) -> None:
    wrong = []
    drawn = set()
    with running_browser() as browser:
        for scene in SCENES:
            (tmp_path / scene).mkdir()
            for name, picture in draw_pages(browser, scene, tmp_path / scene):
                drawn.add(f"{name}.png")
                if not (kept := FOLDER / f"{name}.png").exists():
                    wrong.append(f"{name}: no picture is kept")
                    continue
                expected = Image.open(kept).convert("RGB")
                squares = differing_squares(expected, picture)
                if len(squares) > MOST:
                    seen = DIFFERENCES / f"{name}.png"
                    draw_difference(expected, picture, squares, seen)
                    wrong.append(f"{name}: {len(squares)} squares differ, see {seen}")
        assert not browser.complaints
    kept_names = {path.name for path in FOLDER.glob("*.png")}
    wrong += [f"{name}: no page is like that" for name in sorted(kept_names - drawn)]
    assert not wrong, f"if that is meant, {COMMAND} draws them again:\n" + "\n".join(wrong)


@pytest.fixture(scope="module", params=["on-fire-overview-1280", "healthy-overview-dark"])
def page(request: pytest.FixtureRequest) -> Image.Image:
    return Image.open(FOLDER / f"{request.param}.png").convert("RGB")


def test_letters_that_are_smoothed_otherwise_are_no_difference(page: Image.Image) -> None:
    assert page.filter(ImageFilter.GaussianBlur(0.6)) != page
    assert not differing_squares(page, page.filter(ImageFilter.GaussianBlur(0.6)))
    shifted = Image.new("RGB", page.size)
    shifted.paste(page, (0, 0))
    shifted.paste(page.crop((0, 60, *page.size)), (1, 60))  # by a pixel
    assert len(differing_squares(page, shifted)) <= MOST


PANEL, LINK = (20, 246, 220, 420), (695, 8, 757, 32)  # of the overview: their edges


@pytest.mark.parametrize("box", [PANEL, LINK])
def test_a_missing_or_moved_block_is_a_difference(
    page: Image.Image, box: tuple[int, int, int, int]
) -> None:
    missing, moved = page.copy(), page.copy()
    ground = page.getpixel((4, box[1]))
    ImageDraw.Draw(missing).rectangle(box, fill=ground)
    ImageDraw.Draw(moved).rectangle(box, fill=ground)
    moved.paste(page.crop(box), (box[0], box[1] + 8))
    for other in (missing, moved, page.crop((0, 0, page.width, page.height - 40))):
        assert len(differing_squares(page, other)) > MOST


def test_the_picture_of_a_difference_has_both(page: Image.Image, tmp_path: Path) -> None:
    draw_difference(page, page, [(80, 80)], tmp_path / "new" / "picture.png")
    both = Image.open(tmp_path / "new" / "picture.png")
    assert both.width > 2 * page.width
    assert both.getpixel((page.width + 16 + 79, 84)) == (255, 0, 0)
