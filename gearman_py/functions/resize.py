"""resize: a picture is made to fit, as the tutorial's worker does it.

Higher than 600 pixels becomes 600 high; else, wider than 800 becomes 800 wide; else it stays
as it is, byte for byte. (So 5000x700 becomes 4286x600: the rule looks at one side only.)
Height is what a person sees: a picture that its EXIF orientation turns is turned for good.

JPEG, PNG, WebP and GIF go in, and the same format comes out, its colour profile kept. What is
no such picture, is cut short, or would take more memory to decode than a worker has, is
refused with a ValueError in one line; sizes are read from the header, before any decoding.
"""

from collections.abc import Iterator
from io import BytesIO
from typing import Any

from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

HEIGHT, WIDTH = 600, 800

# The most pixels of each format, by what decoding them costs (measured: a JPEG is decoded at a
# reduced size, a progressive one is not; a WebP takes four times the memory of a PNG).
MEGAPIXELS = {"JPEG": 200, "progressive": 100, "PNG": 100, "GIF": 100, "WEBP": 40}
ANIMATION = 400  # megapixels of all frames together
# Our limits stand in for Pillow's own, which knows one for all formats and warns before it.
Image.MAX_IMAGE_PIXELS = None

ORIENTATION = 0x0112
SIDEWAYS = (5, 6, 7, 8)  # orientations that swap width and height (EXIF 2.3, 4.6.4)
SAVE: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 90},
    "PNG": {"compress_level": 3},  # a third of the time of 6, for a few per cent of size
    "WEBP": {"quality": 90, "method": 2},
    "GIF": {},
}


def resize(workload: bytes) -> bytes:
    """The picture, made to fit. Raises ValueError for what cannot be resized."""
    try:
        with Image.open(BytesIO(workload), formats=list(SAVE)) as image:
            _check(image)
            size = fitting(_seen(image))
            if size is None:
                image.load()  # a picture that is passed on must be whole, too
                return workload
            return _resized(image, size)
    except UnidentifiedImageError:
        raise ValueError("not a JPEG, PNG, WebP or GIF picture") from None
    except (OSError, SyntaxError, EOFError) as error:
        raise ValueError(f"the picture is damaged: {error}") from error


def fitting(size: tuple[int, int]) -> tuple[int, int] | None:
    """The width and height that a picture of this size is to have; None: as it is."""
    width, height = size
    if height > HEIGHT:
        return max(1, round(width * HEIGHT / height)), HEIGHT
    if width > WIDTH:
        return WIDTH, max(1, round(height * WIDTH / width))
    return None


def _check(image: Image.Image) -> None:
    """Refuse, by its header, what would take too much to decode."""
    kind = "progressive" if image.info.get("progressive") else str(image.format)
    pixels = image.width * image.height
    limits = [(pixels, MEGAPIXELS[kind])]
    if frames := getattr(image, "n_frames", 1) - 1:
        limits.append((pixels * (frames + 1), ANIMATION))
    for found, most in limits:
        if found > most * 1_000_000:
            raise ValueError(
                f"{image.width}x{image.height} is {found / 1e6:.0f} megapixels: "
                f"at most {most} are taken of a {kind} picture"
            )


def _seen(image: Image.Image) -> tuple[int, int]:
    """Width and height as a viewer shows it."""
    sideways = image.getexif().get(ORIENTATION) in SIDEWAYS
    return (image.height, image.width) if sideways else image.size


def _resized(image: Image.Image, size: tuple[int, int]) -> bytes:
    options = SAVE[str(image.format)] | {"format": image.format}
    for name in ("icc_profile", "loop"):
        if name in image.info:
            options[name] = image.info[name]
    if getattr(image, "n_frames", 1) > 1:
        first, *rest = _frames(image, size)
        durations = [frame.info.get("duration", 0) for frame in (first, *rest)]
        options |= {"save_all": True, "append_images": rest, "duration": durations}
    else:
        first = _fit(image, size)
    out = BytesIO()
    first.save(out, **options)
    return out.getvalue()


def _frames(image: Image.Image, size: tuple[int, int]) -> Iterator[Image.Image]:
    for frame in ImageSequence.Iterator(image):
        fitted = _fit(frame, size)
        fitted.info["duration"] = frame.info.get("duration", 0)
        yield fitted


def _fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    stored = size if _seen(image) == image.size else size[::-1]
    image.draft(None, stored)  # JPEG: decode at half, quarter or eighth, never below the size
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode == "1":
        image = image.convert("L")
    orientation = image.getexif().get(ORIENTATION)
    small = image.resize(stored, Image.Resampling.BICUBIC, reducing_gap=2.0)
    if orientation in range(2, 9):
        small.getexif()[ORIENTATION] = orientation
        small = ImageOps.exif_transpose(small)
    return small
