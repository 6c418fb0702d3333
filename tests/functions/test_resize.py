"""resize: what comes back for a picture, and what is said of one that is broken."""

import zlib
from functools import cache
from io import BytesIO
from pathlib import Path
from struct import pack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageCms, ImageOps, ImageStat
from PIL.Image import Resampling

from gearman_py.functions import webp
from gearman_py.functions.resize import fit_size, resize
from provision.lab import programs as local
from tests.bench.resize import php
from tests.properties import depth
from tests.tasks import PEERS


def picture(size: tuple[int, int], form: str = "JPEG", mode: str = "RGB", **options: Any) -> bytes:
    out = BytesIO()
    gradient = Image.linear_gradient("L").resize(size)
    gradient.convert(mode).save(out, form, **options)
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((900, 1200), (450, 600)),
        ((1600, 600), (800, 300)),
        ((2000, 500), (800, 200)),
        ((2000, 700), (1714, 600)),
        ((1, 9000), (1, 600)),
        ((9000, 1), (800, 1)),
    ],
)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF"])
def test_resize_fits_and_keeps_the_format(
    form: str, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    small = opened(resize(picture(size, form)))
    assert (small.size, small.format) == (expected, form)


def test_resize_gives_back_what_fits_byte_for_byte() -> None:
    assert resize(picture((800, 600))) == picture((800, 600))


@given(st.integers(1, 20000), st.integers(1, 20000))
def test_a_fitting_size_keeps_the_aspect(width: int, height: int) -> None:
    new_width, new_height = fit_size(width, height)
    assert new_height <= 600
    assert abs(new_width * height - new_height * width) <= max(width, height)


def painting(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    """Nothing in it is symmetric, and each band is its own."""
    down = Image.linear_gradient("L")
    bands = (down, down.rotate(90), Image.radial_gradient("L"))
    return Image.merge("RGB", [band.resize(size) for band in bands]).convert(mode)


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    out = BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def distance(one: Image.Image, other: Image.Image) -> float:
    """How far apart two pictures are, in levels of 255, over all bands."""
    rms: list[float] = ImageStat.Stat(ImageChops.difference(one, other)).rms
    return sum(rms) / len(rms)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "mode"),
    [
        *(("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
        *(("PNG", mode) for mode in ("1", "L", "P", "RGB", "RGBA", "LA")),
        *(("WEBP", mode) for mode in ("RGB", "RGBA")),
        *(("GIF", mode) for mode in ("L", "P", "RGB")),
    ],
)
def test_a_smaller_picture_looks_the_same(form: str, mode: str) -> None:
    whole = saved(painting((300, 1000), mode), form)
    small = opened(resize(whole))
    seen = opened(whole).convert("RGBA").resize((180, 600), Resampling.LANCZOS)
    assert distance(small.convert("RGBA"), seen) < (12 if mode in "1P" or form == "GIF" else 2.5)
    if form == "JPEG":
        assert small.mode == mode


def test_sixteen_bits_of_grey_stay_sixteen() -> None:
    grey = painting((900, 3000), "L").convert("I;16").point(lambda level: level * 257)
    small = opened(resize(saved(grey, "PNG")))
    assert small.mode == "I;16"
    expected = painting((180, 600), "L")
    for place in ((10, 10), (90, 300), (170, 590)):
        level = small.getpixel(place), expected.getpixel(place)
        assert level[0] == pytest.approx(257 * level[1], abs=3 * 257)  # type: ignore[operator]  # grey


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF"])
def test_what_is_transparent_stays_so_and_lends_no_colour(form: str) -> None:
    image = Image.new("RGBA", (300, 1000), (0, 255, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 150, 1000))
    options = {"lossless": True} if form == "WEBP" else {}
    small = opened(resize(saved(image, form, **options))).convert("RGBA")
    assert small.getpixel((170, 300))[3] == 0  # type: ignore[index]  # a pixel of four bands
    edge = [small.getpixel((x, 300)) for x in range(85, 95)]
    assert all(pixel[1] < 40 for pixel in edge if pixel[3] > 60)  # type: ignore[index]  # the same


def test_a_transparent_colour_of_a_png_becomes_alpha() -> None:
    image = Image.new("RGB", (900, 1200), (0, 255, 0))
    image.paste((255, 0, 0), (0, 0, 450, 1200))
    small = opened(resize(saved(image, "PNG", transparency=(0, 255, 0))))
    assert (small.mode, small.getpixel((400, 9))) == ("RGBA", (0, 0, 0, 0))


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_picture_is_shown_upright(form: str, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    whole = saved(painting((900, 400)), form, exif=exif)
    small = opened(resize(whole))
    upright = ImageOps.exif_transpose(opened(whole))
    assert distance(small, upright.resize(fit_size(*upright.size))) < 3
    assert 0x0112 not in small.getexif()


def test_a_picture_turned_in_its_metadata_that_fits_is_not_touched() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = picture((600, 700), exif=exif)  # 700 wide and 600 high as seen
    assert resize(turned) == turned


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_the_colour_profile_is_kept(form: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    small = opened(resize(picture((90, 1200), form, icc_profile=profile)))
    assert small.info["icc_profile"] == profile


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF"])
def test_an_animation_gives_its_first_frame(form: str) -> None:
    red, blue = (Image.new("RGB", (900, 1200), colour) for colour in ("red", "blue"))
    film = saved(red, form, save_all=True, append_images=[blue], duration=100)
    small = opened(resize(film))
    assert getattr(small, "n_frames", 1) == 1
    assert distance(small.convert("RGB"), red.resize((450, 600))) < 3


def test_a_photograph_with_a_second_one_behind_it_is_a_jpeg() -> None:
    first = painting((900, 1200))
    pair = saved(first, "MPO", save_all=True, append_images=[Image.new("RGB", (900, 1200))])
    small = opened(resize(pair))
    assert small.format == "JPEG"
    assert distance(small, first.resize((450, 600))) < 3


def test_webp_is_the_same_where_libwebp_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = saved(painting((900, 3000)), "WEBP")
    assert webp.find_scaler(whole)
    scaled = opened(resize(whole))
    monkeypatch.setattr(webp, "_load_libwebp", lambda: None)
    assert distance(scaled, opened(resize(whole))) < 2


@pytest.mark.parametrize(
    "quality", [0, 20, *(pytest.param(each, marks=pytest.mark.slow) for each in (1, 5, 60))]
)
def test_a_webp_does_not_become_larger(quality: int) -> None:
    noise = Image.effect_noise((101, 75), 60).resize((810, 605), 3).convert("RGB")
    whole = saved(noise, "WEBP", quality=quality)
    assert len(resize(whole)) <= len(whole)


@pytest.mark.interop
def test_the_rule_is_that_of_the_tutorials_php(tmp_path: Path) -> None:
    if missing := local.missing({name: name for name in PEERS if "php" in name}):
        pytest.skip(f"needs {', '.join(missing)}")
    with php(tmp_path) as job:
        for size in ((1632, 1224), (900, 601), (5000, 700), (5000, 500), (801, 9), (800, 600)):
            whole = picture(size)
            assert opened(resize(whole)).size == opened(job(whole)[0]).size


def bomb(width: int, height: int, colour_type: int = 2) -> bytes:
    """A PNG that promises these dimensions and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return pack(">I", len(body)) + kind + body + pack(">I", zlib.crc32(kind + body))

    header = pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return head + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        (b"", "not a JPEG, PNG, WebP or GIF picture"),
        (b"Hello World!", "not a JPEG, PNG, WebP or GIF picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a JPEG, PNG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", "not a JPEG, PNG"),
        (bytes(range(256)) * 9, "not a JPEG, PNG"),
        (picture((90, 1200), "TIFF"), "not a JPEG, PNG, WebP or GIF picture"),
        (bomb(17_800, 10_000), "17800 x 10000 pixels is over the limit of 120 megapixels"),
        (bomb(10_000, 7_000, colour_type=6), "7000 pixels is over the limit of 60 megapixels"),
        (bomb(60_000, 60_000), "60000 x 60000 pixels is over the limit"),
        (picture((90, 1200))[:-200], "broken or cut short"),
        (picture((100, 100))[:-200], "broken or cut short"),
        (picture((90, 1200), "PNG")[:2000], "broken or cut short"),
        (picture((90, 1200), "GIF")[:-900], "broken or cut short"),
        (picture((90, 1200), "WEBP")[:-200], "broken or cut short"),
    ],
    ids=lambda value: "" if isinstance(value, str) else f"{value[:4]!r}-{len(value)}",
)
def test_resize_says_what_is_wrong_with_a_picture(workload: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        resize(workload)
    assert "\n" not in str(error.value)


def test_a_large_animated_webp_is_refused() -> None:
    film = saved(
        painting((90, 90)), "WEBP", save_all=True, append_images=[Image.new("RGB", (90, 90))]
    )
    large = (7000 - 1).to_bytes(3, "little") + (6000 - 1).to_bytes(3, "little")
    with pytest.raises(ValueError, match="7000 x 6000 pixels is over the limit of 40 megapixels"):
        resize(film[:24] + large + film[30:])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0nonsense", b"nonsense"])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_metadata_that_makes_no_sense_does_not_spoil_the_picture(form: str, exif: bytes) -> None:
    assert opened(resize(picture((90, 1200), form, exif=exif))).size == (45, 600)


def test_the_example_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "resize.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    exec(code)  # noqa: S102  # our own page
    assert capsys.readouterr().out.strip() == code.rpartition("# ")[2].strip()


@pytest.mark.slow
def test_a_photograph_in_too_many_scans_is_refused_at_once() -> None:
    whole = picture((5000, 4000), progressive=True)
    last = whole.rindex(b"\xff\xda")
    scan = whole[last:-2]
    with pytest.raises(ValueError, match="scans would take too long"):
        resize(whole[:last] + scan * 2000 + whole[last:])


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("size", [(40, 30), (40, 610)], ids=["fits", "too-high"])
def test_a_picture_cut_short_is_refused_unless_all_of_it_is_there(
    form: str, size: tuple[int, int]
) -> None:
    whole = saved(painting(size), form)
    wanted = opened(resize(whole))
    for length in range(0, len(whole), max(1, len(whole) // 97)):
        try:
            answer = resize(whole[:length])
        except ValueError:
            continue
        assert distance(opened(answer).convert("RGB"), wanted.convert("RGB")) == 0, length


def test_a_png_with_a_byte_changed_anywhere_is_refused() -> None:
    for size in ((40, 30), (40, 610)):
        whole = saved(painting(size), "PNG")
        for place in range(0, len(whole), 7):
            damaged = bytearray(whole)
            damaged[place] ^= 1
            with pytest.raises(ValueError, match="PNG"):
                resize(bytes(damaged))


@settings(max_examples=depth(150))
@given(st.data())
def test_a_damaged_picture_is_resized_or_refused(data: st.DataObject) -> None:
    whole = bytearray(data.draw(st.sampled_from(_seeds())))
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=8)):
        whole[place] ^= data.draw(st.integers(1, 255))
    try:
        opened(resize(bytes(whole)))
    except ValueError as error:
        assert "\n" not in str(error)


@cache
def _seeds() -> list[bytes]:
    """Small pictures with all that a file may hold: a profile, EXIF, a palette, frames, scans."""
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tall = painting((640, 16))
    more: dict[str, Any] = {"exif": exif, "icc_profile": profile}
    return [
        *(saved(tall, form, **more) for form in ("JPEG", "PNG", "WEBP", "GIF")),
        *(saved(tall.resize((32, 640)).convert(mode), "JPEG") for mode in ("L", "RGB", "CMYK")),
        saved(tall, "JPEG", progressive=True, exif=exif),
        saved(tall.convert("P"), "PNG", transparency=3, exif=exif),
        saved(tall.convert("RGBA"), "WEBP", lossless=True, exif=exif),
        *(saved(tall, form, save_all=True, append_images=[tall]) for form in ("GIF", "WEBP")),
    ]
