"""resize: makes a picture fit 800 x 600, by the rule of the Gearman tutorial.

Higher than 600: made 600 high. Otherwise wider than 800: made 800 wide. Otherwise it is
returned as it is, byte for byte. So 5000 x 500 becomes 800 x 80, but 5000 x 700 becomes
4286 x 600. The height is the one a person sees, after the camera's orientation. Of an
animated picture only the first frame is kept.

A workload comes from a stranger. Its first bytes decide its format; its size and whatever
else is expensive are checked before anything is decoded, since a small file can contain a
picture that fills the memory; and it must be complete, even if it is not changed.
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
class PictureFormat:
    """A format, with its own decoder: Image.open would try others, and warn."""

    name: str
    magic: bytes
    decoder: type[ImageFile]
    megapixels: int


# Decoding costs about 4 bytes a pixel; JPEG and WebP are decoded at a smaller scale, but of a
# progressive JPEG all coefficients are kept, and of a lossless WebP all pixels.
FORMATS = (
    PictureFormat("JPEG", b"\xff\xd8\xff", JpegImageFile, 200),
    PictureFormat("PNG", png.MAGIC, PngImageFile, 120),
    PictureFormat("WebP", b"RIFF", WebPImageFile, 120),
    PictureFormat("GIF", b"GIF8", GifImageFile, 80),
)
QUALITY = 85  # of JPEG and WebP, unless the source's is lower
PROGRESSIVE_MEGAPIXELS = 120
TRANSPARENT_MEGAPIXELS = 60  # PNG and GIF: held twice or three times while alpha is multiplied in
ANIMATED_MEGAPIXELS = 40  # an animated WebP costs 16 bytes a pixel
# Every scan of a JPEG decodes all its pixels, and may be ten bytes long. Cameras and programs
# write ten. This product of scans and megapixels takes about 4 s.
SCAN_MEGAPIXELS = 6_000
LARGEST_PROFILE = 4 << 20  # bytes of a colour profile; a larger one is left out
_ORIENTATION = 0x0112  # the EXIF tag
_SIDEWAYS_ORIENTATIONS = frozenset({5, 6, 7, 8})  # its values that swap width and height
# The mode in which a picture is scaled, if it is not that of its file: colours of a palette
# cannot be mixed, and those of a transparent pixel should not be.
_MIXABLE_MODES = {"1": "L", "P": "RGB", "LA": "La", "RGBA": "RGBa"}
_MIXABLE_TRANSPARENT = {"1": "La", "L": "La", "P": "RGBa", "RGB": "RGBa"}
_SAVED_MODES = {"La": "LA", "RGBa": "RGBA"}


def resize(workload: bytes) -> bytes:
    """The picture in ``workload``, a JPEG, PNG, WebP or GIF, made to fit, in the same format.

    Raises ValueError with one line that says what is wrong with the picture.
    """
    picture_format = next((each for each in FORMATS if workload.startswith(each.magic)), None)
    if picture_format is None or (picture_format.name == "WebP" and workload[8:12] != b"WEBP"):
        said = f"these {len(workload)} bytes are not a JPEG, PNG, WebP or GIF picture"
        raise ValueError(said + unknown_kind.describe_kind(workload))
    try:
        return _resize_picture(picture_format, workload)
    except (PictureTooCostly, MemoryError):
        raise
    except DecompressionBombError:
        raise PictureTooCostly(
            f"the {picture_format.name} picture has more pixels than any limit allows"
        ) from None
    except Exception as error:  # decoders raise anything: struct.error, KeyError, SyntaxError
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"the {picture_format.name} picture is broken or cut short: {said}"
        ) from None


class PictureTooCostly(ValueError):
    """The picture may be complete, but would take too much memory or time."""


def fit_size(width: int, height: int) -> tuple[int, int]:
    """The width and height that a picture of this size is given."""
    if height > HEIGHT:
        return max(1, round(width * HEIGHT / height)), HEIGHT
    if width > WIDTH:
        return WIDTH, max(1, round(height * WIDTH / width))
    return width, height


def _resize_picture(picture_format: PictureFormat, workload: bytes) -> bytes:
    data, chunks, scans, endless = workload, None, None, None
    if picture_format.name == "PNG":
        chunks = png.read_chunks(workload, LARGEST_PROFILE)
        data = chunks.picture
    elif picture_format.name == "GIF":
        data = gif.without_comments(workload)
    elif picture_format.name == "JPEG":
        scans = jpeg.find_scans(workload)
        if scans.is_complete and not scans.ended:
            endless = workload.rstrip(b"\xff")  # half of an end, or fill bytes before it
            data = endless + jpeg.END
    with picture_format.decoder(BytesIO(data)) as picture:
        scaler = webp.find_scaler(workload) if picture_format.name == "WebP" else None
        _check_cost(picture, picture_format, scans, scaler)
        orientation = _read_orientation(picture)
        sideways = orientation in _SIDEWAYS_ORIENTATIONS
        seen = picture.size[::-1] if sideways else picture.size
        target = fit_size(*seen)
        stored = target[::-1] if sideways else target  # as in the file, before it is turned
        if endless is not None and not jpeg.is_whole_without_end(endless, stored):
            raise ValueError("its end is missing")
        if target == seen:
            picture.load()  # an incomplete picture is refused, changed or not
            if chunks and isinstance(picture, PngImageFile):
                png.require_all_rows(picture, chunks)
            return workload
        profile = chunks.profile if chunks else picture.info.get("icc_profile", b"")
        small = scaler.decode_at(stored) if scaler else _shrink_picture(picture, stored, data)
        small = _turn_upright(small, orientation)
        keep: dict[str, Any] = {}
        if profile and len(profile) <= LARGEST_PROFILE:
            keep["icc_profile"] = profile
        if chunks and isinstance(picture, PngImageFile):
            png.require_all_rows(picture, chunks)
            return png.save_smallest(small, picture.mode == "P", pnginfo=chunks.colours, **keep)
        return _save_picture(small, picture, len(workload), keep)


def _read_orientation(picture: ImageFile) -> int | None:
    if isinstance(picture, PngImageFile) and "exif" not in picture.info:
        return None  # Pillow would decode all of it to look behind the pixels
    try:
        turn = picture.getexif().get(_ORIENTATION)
    except Exception:  # invalid metadata does not spoil the picture
        return None
    return turn if turn in range(1, 9) else None


def _check_cost(
    picture: ImageFile,
    picture_format: PictureFormat,
    scans: jpeg.ScanSummary | None,
    scaler: webp.WebPScaler | None,
) -> None:
    limit = picture_format.megapixels
    if picture.info.get("progressive"):
        limit = PROGRESSIVE_MEGAPIXELS
    elif picture_format.name == "WebP":
        limit = limit if scaler else ANIMATED_MEGAPIXELS
    elif "transparency" in picture.info or _mixable_mode(picture) in _SAVED_MODES:
        limit = TRANSPARENT_MEGAPIXELS
    width, height = picture.size
    megapixels = width * height / 1_000_000
    said = f"a {picture_format.name} picture of {width} x {height} pixels"
    if megapixels > limit:
        raise PictureTooCostly(f"{said} is over the limit of {limit} megapixels")
    if scans and scans.count * megapixels > SCAN_MEGAPIXELS:
        raise PictureTooCostly(f"{said} in {scans.count} scans would take too long")


def _mixable_mode(picture: Image) -> str | None:
    """The mode in which to scale it; None: its own."""
    modes = _MIXABLE_TRANSPARENT if "transparency" in picture.info else _MIXABLE_MODES
    return modes.get(picture.mode)


def _shrink_picture(picture: ImageFile, target: tuple[int, int], data: bytes) -> Image:
    # A JPEG's decoder can do most of the scaling, and never goes below the target.
    picture.draft(picture.mode, target)
    image: Image = picture
    if isinstance(picture, PngImageFile):
        png.scale_transparency(picture, data)
        image = png.opaque_but_for_one_colour(picture, data) or picture
    if mode := _mixable_mode(image):
        if mode in _SAVED_MODES:
            image = image.convert(_SAVED_MODES[mode])
        image = image.convert(mode)
    gap = None if image.mode.startswith("I") else 2.0  # Pillow cannot reduce 16 bits
    return image.resize(target, Resampling.BICUBIC, reducing_gap=gap)


def _turn_upright(small: Image, orientation: int | None) -> Image:
    """Turned the way a person sees it, in a mode that can be saved, without metadata."""
    if mode := _SAVED_MODES.get(small.mode):
        small = small.convert(mode)
    small.info = {}
    if orientation:
        small.getexif()[_ORIENTATION] = orientation
        small = ImageOps.exif_transpose(small)
    return small


def _save_picture(small: Image, picture: ImageFile, size: int, keep: dict[str, Any]) -> bytes:
    """The file, at most of the source's quality and, if possible, at most ``size`` bytes."""
    attempts: tuple[dict[str, Any], ...] = ({},)
    if isinstance(picture, JpegImageFile):
        quality = jpeg.matching_quality(picture.quantization, QUALITY)
        attempts = ({"quality": quality}, {"quality": quality, "progressive": True})
    elif isinstance(picture, WebPImageFile):
        attempts = tuple({"quality": quality} for quality in (QUALITY, 75, 60, 45, 30, 15, 5, 0))
    for options in attempts:
        out = BytesIO()
        small.save(out, picture.format, **keep, **options)
        if out.tell() <= size:
            break
    return out.getvalue()
