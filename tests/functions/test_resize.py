"""resize: what comes back for a picture, and what is said of one that is broken."""

import zlib
from io import BytesIO
from struct import pack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from gearman_py.functions.resize import fit, resize


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
        ((5000, 500), (800, 80)),
        ((5000, 700), (4286, 600)),
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
    new_width, new_height = fit(width, height)
    assert new_height <= 600
    assert abs(new_width * height - new_height * width) <= max(width, height)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_resize_keeps_the_colours_of_a_jpeg(mode: str) -> None:
    assert opened(resize(picture((900, 1200), mode=mode))).mode == mode


@pytest.mark.parametrize("mode", ["1", "P", "RGBA", "LA", "I;16"])
def test_resize_takes_every_kind_of_png(mode: str) -> None:
    assert opened(resize(picture((900, 1200), "PNG", mode=mode))).size == (450, 600)


def test_resize_shows_a_picture_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: 1200 wide in the file, 900 as seen
    small = opened(resize(picture((1200, 900), exif=exif)))
    assert small.size == (450, 600)
    assert 0x0112 not in small.getexif()


def test_a_picture_turned_in_its_metadata_that_fits_is_not_touched() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = picture((600, 700), exif=exif)  # 700 wide and 600 high as seen
    assert resize(turned) == turned


def test_resize_keeps_the_colour_profile() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    small = opened(resize(picture((900, 1200), icc_profile=profile)))
    assert small.info["icc_profile"] == profile


def bomb(width: int, height: int) -> bytes:
    """A PNG that promises these dimensions and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return pack(">I", len(body)) + kind + body + pack(">I", zlib.crc32(kind + body))

    header = pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return head + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        (b"", "not a JPEG, PNG, WebP or GIF picture"),
        (b"Hello World!", "not a JPEG, PNG, WebP or GIF picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a JPEG, PNG"),
        (picture((900, 1200), "TIFF"), "not a JPEG, PNG, WebP or GIF picture"),
        (bomb(17_800, 10_000), "17800 x 10000 pixels is over the limit of 120 megapixels"),
        (bomb(60_000, 60_000), "60000 x 60000 pixels is over the limit"),
        (picture((900, 1200))[:-500], "broken or cut short"),
        (picture((100, 100))[:-200], "broken or cut short"),
        (picture((900, 1200), "PNG")[:2000], "broken or cut short"),
        (picture((900, 1200), "GIF")[:-900], "broken or cut short"),
        (picture((900, 1200), "WEBP")[:-900], "broken or cut short"),
    ],
    ids=lambda value: "" if isinstance(value, str) else f"{value[:4]!r}-{len(value)}",
)
def test_resize_says_what_is_wrong_with_a_picture(workload: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        resize(workload)
    assert "\n" not in str(error.value)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_picture_is_resized_or_refused(data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP"]))
    whole = bytearray(picture((64, 700), form))
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=8)):
        whole[place] ^= data.draw(st.integers(1, 255))
    try:
        resize(bytes(whole))
    except ValueError:
        pass
