"""resize: what files of the world hold beside their pixels, or lack."""

import zlib
from struct import pack
from typing import Any

import pytest
from PIL import Image, ImageDraw

from gearman_py.functions.resize import resize
from tests.functions.test_resize import distance, opened, painting, saved


def chunk(kind: bytes, body: bytes) -> bytes:
    return pack(">I", len(body)) + kind + body + pack(">I", zlib.crc32(kind + body))


def png(size: tuple[int, int], bits: int, colour: int, row: bytes, *more: bytes) -> bytes:
    """A PNG whose rows are all the same."""
    header = chunk(b"IHDR", pack(">IIBBBBB", *size, bits, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress((b"\0" + row) * size[1]))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + pixels + chunk(b"IEND", b"")


LARGE = zlib.compress(bytes(5 << 20))
RED = bytes((255, 0, 0)) * 90


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"zTXt", b"Comment\0\0" + LARGE),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + LARGE),
        chunk(b"iCCP", b"profile\0\0" + LARGE),
        chunk(b"iCCP", b"profile\0\0nonsense"),
        chunk(b"tEXt", b"Comment\0ours")[:-1] + b"?",
        chunk(b"gAMA", b"\0\0\0\1")[:-1] + b"?",
        chunk(b"acTL", b"\0"),
        chunk(b"eXIf", b"nonsense"),
        200 * chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1 << 20))),
    ],
    ids=lambda extra: f"{extra[4:8].decode()}-{len(extra)}",
)
@pytest.mark.parametrize("height", [60, 1200])
def test_what_is_not_the_picture_of_a_png_does_not_spoil_it(extra: bytes, height: int) -> None:
    whole = png((90, height), 8, 2, RED, extra)
    small = opened(resize(whole)) if height > 600 else Image.new("RGB", (1, 1), "red")
    assert small.getpixel((0, 0)) == (255, 0, 0)
    assert "icc_profile" not in small.info
    assert height > 600 or resize(whole) == whole


def test_a_profile_of_two_megabytes_is_kept() -> None:
    profile = bytes(2 << 20)
    whole = png((90, 1200), 8, 2, RED, chunk(b"iCCP", b"name\0\0" + zlib.compress(profile)))
    small = resize(whole)
    _, _, rest = small.partition(b"iCCP")
    assert zlib.decompressobj().decompress(rest.partition(b"\0\0")[2]) == profile


@pytest.mark.parametrize("kind", [b"IDAT", b"PLTE", b"tRNS"])
def test_a_wrong_checksum_of_the_pixels_is_refused(kind: bytes) -> None:
    whole = saved(painting((90, 1200), "P"), "PNG", transparency=1)
    damaged = bytearray(whole)
    damaged[whole.index(kind) + 4] ^= 1
    with pytest.raises(ValueError, match=f"wrong checksum of its '{kind.decode()}' chunk"):
        resize(bytes(damaged))


@pytest.mark.parametrize(
    "colours", [chunk(b"gAMA", pack(">I", 100_000)), chunk(b"cHRM", pack(">8I", *range(8)))]
)
def test_how_the_colours_of_a_png_are_meant_is_kept(colours: bytes) -> None:
    assert colours in resize(png((90, 1200), 8, 2, RED, colours))


@pytest.mark.parametrize(
    ("bits", "colour", "clear", "near", "key"),
    [
        (16, 2, (1, 2, 3), (1, 2, 4), pack(">3H", 1, 2, 3)),
        (16, 2, (258, 772, 1286), (258, 772, 1287), pack(">3H", 258, 772, 1286)),
        (16, 0, (258,), (259,), pack(">H", 258)),
        (8, 2, (1, 2, 3), (1, 2, 4), pack(">3H", 1, 2, 3)),
        (8, 0, (1,), (2,), pack(">H", 1)),
        (4, 0, (0x11,), (0x22,), pack(">H", 1)),
        (2, 0, (0x55,), (0xAA,), pack(">H", 1)),
        (1, 0, (0xFF,), (0,), pack(">H", 1)),
    ],
)
def test_the_one_transparent_colour_of_a_png_stays_transparent(
    bits: int, colour: int, clear: tuple[int, ...], near: tuple[int, ...], key: bytes
) -> None:
    letter = "H" if bits == 16 else "B"
    row = b"".join(pack(f">{len(level)}{letter}", *level) * 80 for level in (clear, near))
    width = 160 * 8 // min(bits, 8)
    whole = png((width, 9600 // min(bits, 8)), bits, colour, row, chunk(b"tRNS", key))
    small = opened(resize(whole)).convert("RGBA")
    middle = small.height // 2
    assert small.getpixel((3, middle))[3] == 0  # type: ignore[index]  # a pixel of four bands
    assert small.getpixel((small.width - 3, middle))[3] == 255  # type: ignore[index]  # the same


@pytest.mark.parametrize("options", [{"progressive": True}, {}], ids=["progressive", "baseline"])
@pytest.mark.parametrize("size", [(700, 500), (700, 1000)], ids=["fits", "too-high"])
def test_a_jpeg_is_taken_without_the_end_that_follows_its_pixels(
    options: dict[str, Any], size: tuple[int, int]
) -> None:
    whole = saved(painting(size), "JPEG", **options)
    assert whole.endswith(b"\xff\xd9")
    for picture in (whole[:-2], whole[:-1], whole[:-1] + b"\xff\xff"):
        assert resize(picture) == (picture if size[1] < 600 else resize(whole))


def test_a_progressive_jpeg_without_its_last_scan_is_refused() -> None:
    whole = saved(painting((700, 1000)), "JPEG", progressive=True)
    for place in range(whole.rindex(b"\xff\xda"), len(whole) - 100, 997):
        with pytest.raises(ValueError, match="broken or cut short"):
            resize(whole[:place])
    with pytest.raises(ValueError, match="broken or cut short"):
        resize(whole[: whole.rindex(b"\xff\xda")])


def test_what_stands_behind_a_jpeg_is_not_counted_as_scans() -> None:
    film = b"\xff\xda\0\x0c" * 100_000
    whole = saved(painting((3000, 2000)), "JPEG", quality=60)
    assert resize(whole + film) == resize(whole)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
@pytest.mark.parametrize("quality", [20, 50, 75])
@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_the_answer_is_not_larger_than_a_picture_of_lower_quality(
    form: str, quality: int, options: dict[str, Any]
) -> None:
    noise = Image.effect_noise((800, 620), 60).convert("RGB")
    whole = saved(Image.blend(noise, painting((800, 620)), 0.6), form, quality=quality, **options)
    answer = resize(whole)
    assert len(answer) < len(whole)
    if form == "JPEG":
        tables = (sum(opened(each).quantization[0]) for each in (answer, whole))  # type: ignore[attr-defined]  # a JpegImageFile
        assert next(tables) == next(tables)


def test_a_jpeg_of_high_quality_is_saved_with_85() -> None:
    answer = opened(resize(saved(painting((900, 1200)), "JPEG", quality=97)))
    expected = opened(saved(painting((9, 9)), "JPEG", quality=85))
    assert answer.quantization == expected.quantization  # type: ignore[attr-defined]  # JpegImageFiles


def chart() -> Image.Image:
    image = Image.new("RGB", (900, 1000), "white")
    draw = ImageDraw.Draw(image)
    for place in range(0, 800, 40):
        draw.ellipse((place, place, place + 150, place + 90), ("red", "blue")[place // 40 % 2])
        draw.text((800 - place, place), "a flow chart", fill="black")
    return image


def test_a_palette_stays_one_where_it_looks_the_same() -> None:
    whole = saved(chart().quantize(16), "PNG")
    answer = resize(whole)
    small = opened(answer)
    assert small.mode == "P"
    smooth = chart().resize((540, 600), Image.Resampling.BICUBIC)
    assert distance(small.convert("RGB"), smooth) < 2.6  # 40 dB
    assert len(answer) * 1.5 < len(saved(smooth, "PNG"))


@pytest.mark.slow
def test_a_palette_of_too_few_colours_for_the_picture_is_given_up() -> None:
    noise = Image.merge("RGB", [Image.effect_noise((450, 700), 90) for _ in range(3)])
    assert opened(resize(saved(noise.quantize(256), "PNG"))).mode == "RGB"


def test_other_metadata_goes() -> None:
    exif = Image.Exif()
    exif[0x010F] = "the camera"
    for form in ("JPEG", "PNG", "WEBP", "GIF"):
        whole = saved(painting((90, 1200)), form, exif=exif, comment=b"the place")
        answer = resize(whole)
        assert b"the camera" not in answer
        assert b"the place" not in answer


@pytest.mark.parametrize(
    ("workload", "words"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC picture; convert it"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "an AVIF picture; convert it"),
        (b"\0\0\0\x14ftypisom\0\0\0\0isom", "a video or another container"),
        (
            b"--X\r\nContent-Disposition: form-data; name=f\r\n\r\n\xff\xd8",
            "form upload.*--data-bin",
        ),
        (b"data:image/png;base64,iVBORw0KGgo=", "a data URL; send the picture's own bytes"),
        (b"/9j/4AAQSkZJRg==", "a JPEG picture in base64"),
        (b"<?xml version='1.0'?>\n<svg/>", "an SVG drawing"),
        (b"RIFF\0\0\0\0AVI LIST", "not a JPEG, PNG, WebP or GIF picture"),
        (saved(painting((9, 9)), "TIFF"), "a TIFF picture"),
        (saved(painting((9, 9)), "BMP"), "a BMP picture"),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else "",
)
def test_a_message_names_the_kind_and_what_to_do(workload: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        resize(workload)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("height", [60, 1200])
@pytest.mark.parametrize(("colour", "interlaced"), [(0, 0), (0, 1), (2, 0), (6, 0)])
def test_a_png_whose_pixels_end_early_is_refused(height: int, colour: int, interlaced: int) -> None:
    channels = {0: 1, 2: 3, 6: 4}[colour]
    header = chunk(b"IHDR", pack(">IIBBBBB", 90, height, 8, colour, 0, 0, interlaced))

    def made(missing: int) -> bytes:
        if interlaced:
            widths_and_steps = ((12, 8), (11, 8), (23, 8), (22, 4), (45, 4), (45, 2), (90, 2))
            starts = (0, 0, 4, 0, 2, 0, 1)
            rows = [
                b"\0" * (width + 1)
                for (width, step), start in zip(widths_and_steps, starts, strict=True)
                for _ in range(start, height, step)
            ]
        else:
            rows = [b"\0" * (1 + 90 * channels)] * height
        pixels = zlib.compress(b"".join(rows[: len(rows) - missing]))
        ends = chunk(b"IDAT", pixels), chunk(b"IEND", b"")
        return b"".join((b"\x89PNG\r\n\x1a\n", header, *ends))

    assert opened(resize(made(0))).height == min(height, 600)
    with pytest.raises(ValueError, match="broken or cut short"):
        resize(made(1))


def test_a_png_without_its_palette_is_refused() -> None:
    with pytest.raises(ValueError, match="its palette is missing"):
        resize(png((90, 60), 8, 3, bytes(90)))


def test_the_orientation_may_stand_behind_the_pixels() -> None:
    turned = Image.Exif()
    turned[0x112] = 6
    exif = chunk(b"eXIf", turned.tobytes().removeprefix(b"Exif\0\0"))
    whole = png((700, 90), 8, 2, bytes((255, 0, 0)) * 700)
    end = chunk(b"IEND", b"")
    assert opened(resize(whole.replace(end, exif + end))).size == (77, 600)


@pytest.mark.parametrize("padding", [b"\xff", b"\xff\xfe\0\2", b"\xff\xd8"], ids=bytes.hex)
def test_a_jpeg_of_very_many_segments_is_refused(padding: bytes) -> None:
    whole = saved(painting((90, 60)), "JPEG")
    with pytest.raises(ValueError, match="it has more than 100000 segments"):
        resize(whole[:2] + padding * 200_000 + whole[2:])


def test_a_png_of_very_many_chunks_is_refused() -> None:
    with pytest.raises(ValueError, match="it has more than 100000 chunks"):
        resize(png((90, 60), 8, 2, RED, 200_000 * chunk(b"tEXt", b"")))


def test_comments_of_a_gif_are_skipped_and_bounded() -> None:
    whole = saved(painting((90, 1200)), "GIF")
    palette = 13 + (3 << ((whole[10] & 7) + 1))
    comments = b"\x21\xfe" + (b"\xff" + bytes(255)) * 1000 + b"\0"
    told = whole[:palette] + comments + whole[palette:]
    assert resize(told) == resize(whole)
    with pytest.raises(ValueError, match="it has more than 100000 blocks"):
        resize(whole[:palette] + 200_000 * b"\x21\xfe\1x\0" + whole[palette:])
    with pytest.raises(ValueError, match="it ends before its first frame"):
        resize(told[: palette + 20])
