"""resize: a picture made to fit 800 x 600, by the rule of the Gearman tutorial.

Higher than 600: made 600 high. Else wider than 800: made 800 wide. Else it comes back as
it is, byte for byte. So 5000 x 500 becomes 800 x 80, but 5000 x 700 becomes 4286 x 600.
Height is the height a person sees, after the camera's orientation. An animated picture
gives its first frame.

The size is read from the header and checked before anything is decoded: a small file can
hold a picture that fills the memory.
"""

import warnings
from io import BytesIO

from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.Image import Resampling

HEIGHT, WIDTH = 600, 800
# Decoding costs about 4 bytes a pixel, WebP 16; JPEG is decoded at a smaller scale, but not
# a progressive one, whose coefficients are all kept.
MEGAPIXELS = {"JPEG": 200, "PNG": 100, "GIF": 100, "WEBP": 40}
PROGRESSIVE_MEGAPIXELS = 100
_ORIENTATION = 0x0112  # the EXIF tag
_SIDEWAYS = frozenset({5, 6, 7, 8})  # its values that swap width and height
_SAVE = {
    "JPEG": {"quality": 85},
    "PNG": {"compress_level": 3},  # three times as fast as the default, a few percent larger
    "WEBP": {"quality": 85},
    "GIF": {},
}


def resize(workload: bytes) -> bytes:
    """The picture in ``workload``, JPEG, PNG, WebP or GIF, made to fit; in the same format.

    Raises ValueError with one line that says what is wrong with the picture.
    """
    try:
        with warnings.catch_warnings():
            # Pillow's one limit for all formats; ours are below, and by what each costs.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(BytesIO(workload), formats=tuple(MEGAPIXELS)) as picture:
                return _resize(picture, workload)
    except UnidentifiedImageError:
        kinds = "JPEG, PNG, WebP or GIF"
        raise ValueError(f"these {len(workload)} bytes are not a {kinds} picture") from None
    except Image.DecompressionBombError:
        raise ValueError("the picture has more pixels than any that is taken here") from None
    except (OSError, SyntaxError, EOFError, IndexError) as error:
        raise ValueError(f"the picture is broken or cut short: {error}") from None


def _resize(picture: Image.Image, workload: bytes) -> bytes:
    form = picture.format or ""
    _check_size(picture, form)
    sideways = picture.getexif().get(_ORIENTATION) in _SIDEWAYS
    seen = picture.size[::-1] if sideways else picture.size
    target = fit(*seen)
    if target == seen:
        picture.load()  # what is not a whole picture is no answer, changed or not
        return workload
    profile = picture.info.get("icc_profile")
    small = _shrink(picture, target[::-1] if sideways else target)
    upright = ImageOps.exif_transpose(small)
    out = BytesIO()
    upright.save(out, form, **({"icc_profile": profile} if profile else {}), **_SAVE[form])
    return out.getvalue()


def fit(width: int, height: int) -> tuple[int, int]:
    """The size that a picture of this size is given."""
    if height > HEIGHT:
        return max(1, round(width * HEIGHT / height)), HEIGHT
    if width > WIDTH:
        return WIDTH, max(1, round(height * WIDTH / width))
    return width, height


def _check_size(picture: Image.Image, form: str) -> None:
    width, height = picture.size
    limit = PROGRESSIVE_MEGAPIXELS if picture.info.get("progressive") else MEGAPIXELS[form]
    if width * height > limit * 1_000_000:
        size = f"{width} x {height} pixels"
        raise ValueError(f"a {form} picture of {size} is over the limit of {limit} megapixels")


def _shrink(picture: Image.Image, target: tuple[int, int]) -> Image.Image:
    if picture.format == "JPEG" and picture.mode in ("L", "RGB"):
        picture.draft(picture.mode, target)  # let the decoder do most of it, never below target
    if picture.mode == "P":  # colours of a palette cannot be mixed
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    elif picture.mode == "1":
        picture = picture.convert("L")
    exif = picture.getexif()
    small = picture.resize(target, Resampling.BICUBIC, reducing_gap=2.0)
    if _ORIENTATION in exif:
        small.getexif()[_ORIENTATION] = exif[_ORIENTATION]
    return small
