"""resize: a picture made to fit 800 x 600, by the rule of the Gearman tutorial.

Higher than 600: made 600 high. Else wider than 800: made 800 wide. Else it comes back as
it is, byte for byte. So 5000 x 500 becomes 800 x 80, but 5000 x 700 becomes 4286 x 600.
Height is the height a person sees, after the camera's orientation. An animated picture
gives its first frame.

A workload comes from a stranger. What it may be is told by its first bytes; its size and
whatever else costs much are checked before anything is decoded, since a small file can hold
a picture that fills the memory; and all of it must be there, also when it is not changed.
"""

from dataclasses import dataclass
from io import BytesIO
from typing import Any

from PIL import ImageOps
from PIL.GifImagePlugin import GifImageFile
from PIL.Image import DecompressionBombError, Image, Resampling
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from gearman_py.functions import gif, jpeg, png, unknown_kind, webp

HEIGHT, WIDTH = 600, 800


@dataclass(frozen=True)
class Form:
    """A form of picture. Taken by its own class, as Image.open would try others and warn."""

    name: str
    magic: bytes
    decoder: type[ImageFile]
    megapixels: int


# Decoding costs about 4 bytes a pixel; JPEG and WebP are decoded at a smaller scale, but of a
# progressive JPEG all coefficients are kept, and of a lossless WebP all pixels.
FORMS = (
    Form("JPEG", b"\xff\xd8\xff", JpegImageFile, 200),
    Form("PNG", png.MAGIC, PngImageFile, 120),
    Form("WebP", b"RIFF", WebPImageFile, 120),
    Form("GIF", b"GIF8", GifImageFile, 80),
)
QUALITY = 85  # of JPEG and WebP, unless the source's own is lower
PROGRESSIVE_MEGAPIXELS = 120
TRANSPARENT_MEGAPIXELS = 60  # PNG and GIF: held twice or three times while alpha is multiplied in
FILM_MEGAPIXELS = 40  # an animated WebP costs 16 bytes a pixel
# A scan of a JPEG goes over all its pixels, and may be ten bytes long. Cameras and programs
# make ten. This many times megapixels take about 4 s.
SCAN_MEGAPIXELS = 6_000
MOST_PROFILE = 4 << 20  # bytes of a colour profile; a larger one is left out
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
    if form is None or (form.name == "WebP" and workload[8:12] != b"WEBP"):
        said = f"these {len(workload)} bytes are not a JPEG, PNG, WebP or GIF picture"
        raise ValueError(said + unknown_kind.describe(workload))
    try:
        return _resize(form, workload)
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


def _resize(form: Form, workload: bytes) -> bytes:
    data, chunks, scans = workload, None, None
    if form.name == "PNG":
        chunks = png.read(workload, MOST_PROFILE)
        data = chunks.picture
    elif form.name == "GIF":
        data = gif.without_comments(workload)
    elif form.name == "JPEG":
        scans = jpeg.scans(workload)
        if scans.complete and not scans.ended:
            data += jpeg.END
    with form.decoder(BytesIO(data)) as picture:
        scaler = webp.scaler(workload) if form.name == "WebP" else None
        _check_cost(picture, form, scans, scaler)
        orientation = _orientation(picture)
        sideways = orientation in _SIDEWAYS
        seen = picture.size[::-1] if sideways else picture.size
        target = fit(*seen)
        stored = target[::-1] if sideways else target  # as the file has it, before it is turned
        if len(data) > len(workload) and scans and not jpeg.is_whole_without_end(workload, stored):
            raise ValueError("its end is missing")
        if target == seen:
            picture.load()  # what is not a whole picture is refused, changed or not
            if chunks and isinstance(picture, PngImageFile):
                png.require_all_rows(picture, chunks)
            return workload
        profile = chunks.profile if chunks else picture.info.get("icc_profile", b"")
        small = scaler.decode(stored) if scaler else _shrink(picture, stored, data)
        small = _upright(small, orientation)
        keep: dict[str, Any] = {}
        if profile and len(profile) <= MOST_PROFILE:
            keep["icc_profile"] = profile
        if chunks and isinstance(picture, PngImageFile):
            png.require_all_rows(picture, chunks)
            return png.save(small, picture.mode == "P", pnginfo=chunks.colours, **keep)
        return _save(small, picture, len(workload), keep)


def _orientation(picture: ImageFile) -> int | None:
    if isinstance(picture, PngImageFile) and "exif" not in picture.info:
        return None  # Pillow would decode all of it to look behind the pixels
    try:
        turn = picture.getexif().get(_ORIENTATION)
    except Exception:  # metadata that makes no sense does not spoil the picture
        return None
    return turn if turn in range(1, 9) else None


def _check_cost(
    picture: ImageFile, form: Form, scans: jpeg.Scans | None, scaler: webp.Scaler | None
) -> None:
    limit = form.megapixels
    if picture.info.get("progressive"):
        limit = PROGRESSIVE_MEGAPIXELS
    elif form.name == "WebP":
        limit = limit if scaler else FILM_MEGAPIXELS
    elif "transparency" in picture.info or _mixable(picture) in _SAVED:
        limit = TRANSPARENT_MEGAPIXELS
    width, height = picture.size
    megapixels = width * height / 1_000_000
    said = f"a {form.name} picture of {width} x {height} pixels"
    if megapixels > limit:
        raise Refused(f"{said} is over the limit of {limit} megapixels")
    if scans and scans.count * megapixels > SCAN_MEGAPIXELS:
        raise Refused(f"{said} in {scans.count} scans would take too long")


def _mixable(picture: Image) -> str | None:
    """The mode to hold it in while it is made smaller; None: the one it has."""
    modes = _MIXABLE_TRANSPARENT if "transparency" in picture.info else _MIXABLE
    return modes.get(picture.mode)


def _shrink(picture: ImageFile, target: tuple[int, int], data: bytes) -> Image:
    # A JPEG's decoder can do most of it, never to less than the target.
    picture.draft(picture.mode, target)
    image: Image = picture
    if isinstance(picture, PngImageFile):
        png.scale_transparency(picture, data)
        image = png.opaque_but_for_one_colour(picture, data) or picture
    if mode := _mixable(image):
        if mode in _SAVED:
            image = image.convert(_SAVED[mode])
        image = image.convert(mode)
    gap = None if image.mode.startswith("I") else 2.0  # Pillow reduces no 16 bits
    return image.resize(target, Resampling.BICUBIC, reducing_gap=gap)


def _upright(small: Image, orientation: int | None) -> Image:
    """Turned as a person sees it, in a mode that can be saved, without its metadata."""
    if mode := _SAVED.get(small.mode):
        small = small.convert(mode)
    small.info = {}
    if orientation:
        small.getexif()[_ORIENTATION] = orientation
        small = ImageOps.exif_transpose(small)
    return small


def _save(small: Image, picture: ImageFile, size: int, keep: dict[str, Any]) -> bytes:
    """The file, not above the source's quality, and not larger than its ``size`` if it can be."""
    attempts: tuple[dict[str, Any], ...] = ({},)
    if isinstance(picture, JpegImageFile):
        quality = jpeg.quality(picture.quantization, QUALITY)
        attempts = ({"quality": quality}, {"quality": quality, "progressive": True})
    elif isinstance(picture, WebPImageFile):
        attempts = tuple({"quality": quality} for quality in (QUALITY, 75, 60, 45, 30))
    for options in attempts:
        out = BytesIO()
        small.save(out, picture.format, **keep, **options)
        if out.tell() <= size:
            break
    return out.getvalue()
