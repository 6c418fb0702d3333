"""resize: a picture made to fit 800 x 600, by the rule of the Gearman tutorial.

Higher than 600: made 600 high. Else wider than 800: made 800 wide. Else it comes back as
it is, byte for byte. So 5000 x 500 becomes 800 x 80, but 5000 x 700 becomes 4286 x 600.
Height is the height a person sees, after the camera's orientation. An animated picture
gives its first frame.

A workload comes from a stranger. What it may be is told by its first bytes; its size and
whatever else costs much are checked before anything is decoded, since a small file can hold
a picture that fills the memory; and all of it must be there, also when it is not changed.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from PIL import ImageOps
from PIL.GifImagePlugin import GifImageFile
from PIL.Image import DecompressionBombError, Image, Resampling
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from gearman_py.functions import webp

HEIGHT, WIDTH = 600, 800


@dataclass(frozen=True)
class Form:
    """A form of picture. Taken by its own class, as Image.open would try others and warn."""

    name: str
    magic: bytes
    decoder: type[ImageFile]
    megapixels: int
    saving: Mapping[str, Any] = field(default_factory=dict)


# Decoding costs about 4 bytes a pixel; JPEG and WebP are decoded at a smaller scale, but of a
# progressive JPEG all coefficients are kept, and of a lossless WebP all pixels. PNG's level 3 is
# three times as fast as the default, and makes it a few percent larger.
FORMS = (
    Form("JPEG", b"\xff\xd8\xff", JpegImageFile, 200, {"quality": 85}),
    Form("PNG", b"\x89PNG\r\n\x1a\n", PngImageFile, 120, {"compress_level": 3}),
    Form("WebP", b"RIFF", WebPImageFile, 120, {"quality": 85}),
    Form("GIF", b"GIF8", GifImageFile, 80),
)
PROGRESSIVE_MEGAPIXELS = 120
TRANSPARENT_MEGAPIXELS = 60  # PNG and GIF: held twice or three times while alpha is multiplied in
FILM_MEGAPIXELS = 40  # an animated WebP costs 16 bytes a pixel
# A scan of a JPEG goes over all its pixels, and may be ten bytes long. Cameras and programs
# make ten, or one and what looks like others in a film that follows. This many times
# megapixels take about 4 s.
SCAN_MEGAPIXELS = 6_000
_START_OF_SCAN = b"\xff\xda"
_ORIENTATION = 0x0112  # the EXIF tag
_SIDEWAYS = frozenset({5, 6, 7, 8})  # its values that swap width and height
# How a picture is held while it is made smaller, where it is held otherwise in its file:
# colours of a palette cannot be mixed, and those of a transparent pixel should not be.
_MIXABLE = {"1": "L", "P": "RGB", "LA": "La", "RGBA": "RGBa"}
_MIXABLE_TRANSPARENT = {"1": "La", "L": "La", "P": "RGBa", "RGB": "RGBa"}
_SAVED = {"La": "LA", "RGBa": "RGBA"}


def resize(workload: bytes) -> bytes:
    """The picture in ``workload``, JPEG, PNG, WebP or GIF, made to fit; in the same form.

    Raises ValueError with one line that says what is wrong with the picture.
    """
    form = next((form for form in FORMS if workload.startswith(form.magic)), None)
    if form is None:
        kinds = "JPEG, PNG, WebP or GIF"
        raise ValueError(f"these {len(workload)} bytes are not a {kinds} picture")
    try:
        with form.decoder(BytesIO(workload)) as picture:
            return _resize(picture, form, workload)
    except (Refused, MemoryError):
        raise
    except DecompressionBombError:
        raise Refused(f"the {form.name} picture has more pixels than any is taken with") from None
    except Exception as error:  # decoders raise anything: struct.error, KeyError, SyntaxError
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"the {form.name} picture is broken or cut short: {said}") from None


class Refused(ValueError):
    """The picture may be whole, but costs more than is spent on one."""


def fit(width: int, height: int) -> tuple[int, int]:
    """The size that a picture of this size is given."""
    if height > HEIGHT:
        return max(1, round(width * HEIGHT / height)), HEIGHT
    if width > WIDTH:
        return WIDTH, max(1, round(height * WIDTH / width))
    return width, height


def _resize(picture: ImageFile, form: Form, workload: bytes) -> bytes:
    scaler = webp.scaler(workload) if form.name == "WebP" else None
    limit = form.megapixels
    if picture.info.get("progressive"):
        limit = PROGRESSIVE_MEGAPIXELS
    elif form.name == "WebP" and not scaler:
        limit = FILM_MEGAPIXELS
    elif form.name != "WebP" and _mixable(picture) in _SAVED:
        limit = TRANSPARENT_MEGAPIXELS
    _check_cost(picture, form.name, limit, workload)
    if form.name == "PNG":
        _check_sums(workload)
    profile = picture.info.get("icc_profile")
    orientation = _orientation(picture)
    sideways = orientation in _SIDEWAYS
    seen = picture.size[::-1] if sideways else picture.size
    target = fit(*seen)
    if target == seen:
        picture.load()  # what is not a whole picture is no answer, changed or not
        return workload
    stored = target[::-1] if sideways else target  # as the file has it, before it is turned
    small = scaler.decode(stored) if scaler else _shrink(picture, stored)
    if mode := _SAVED.get(small.mode):
        small = small.convert(mode)
    if orientation:
        small.getexif()[_ORIENTATION] = orientation
        small = ImageOps.exif_transpose(small)
    out = BytesIO()
    keep = {"icc_profile": profile} if profile else {}
    small.save(out, form.name, **keep, **form.saving)
    return out.getvalue()


def _orientation(picture: ImageFile) -> int | None:
    try:
        turn = picture.getexif().get(_ORIENTATION)
    except Exception:  # metadata that makes no sense does not spoil the picture
        return None
    return turn if turn in range(1, 9) else None


def _check_cost(picture: ImageFile, form: str, limit: int, workload: bytes) -> None:
    width, height = picture.size
    megapixels = width * height / 1_000_000
    said = f"a {form} picture of {width} x {height} pixels"
    if megapixels > limit:
        raise Refused(f"{said} is over the limit of {limit} megapixels")
    if form == "JPEG":
        scans = workload.count(_START_OF_SCAN)
        if scans * megapixels > SCAN_MEGAPIXELS:
            raise Refused(f"{said} in {scans} scans would take too long")


def _check_sums(workload: bytes) -> None:
    """That every chunk of a PNG is there and as it was written; the decoder does not look."""
    view, at, kind = memoryview(workload), len(FORMS[1].magic), b""
    while kind != b"IEND":
        end = at + 8 + int.from_bytes(view[at : at + 4])
        kind = bytes(view[at + 4 : at + 8])
        if len(view) < end + 4:
            raise ValueError("it ends within a chunk")
        if zlib.crc32(view[at + 4 : end]) != int.from_bytes(view[end : end + 4]):
            raise ValueError(f"wrong checksum of chunk {kind!r}")
        at = end + 4


def _mixable(picture: ImageFile) -> str | None:
    """The mode to hold it in while it is made smaller; None: the one it has."""
    modes = _MIXABLE_TRANSPARENT if "transparency" in picture.info else _MIXABLE
    return modes.get(picture.mode)


def _shrink(picture: ImageFile, target: tuple[int, int]) -> Image:
    # A JPEG's decoder can do most of it, never to less than the target.
    picture.draft(picture.mode, target)
    image: Image = picture
    if mode := _mixable(picture):
        if mode in _SAVED:
            image = image.convert(_SAVED[mode])
        image = image.convert(mode)
    gap = None if image.mode.startswith("I") else 2.0  # Pillow reduces no 16 bits
    return image.resize(target, Resampling.BICUBIC, reducing_gap=gap)
