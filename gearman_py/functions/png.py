"""The chunks of a PNG: which of them make the picture, and what they say about its colours."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from PIL import ImageChops, ImageStat
from PIL.Image import Dither, Image, Quantize, merge, new
from PIL.PngImagePlugin import PngImageFile, PngInfo

from gearman_py.functions.limits import MAX_PIECES

MAGIC = b"\x89PNG\r\n\x1a\n"
COMPRESSION_LEVEL = 3  # of compression: three times as fast as the default, a few percent larger
# The colour space. These chunks are copied to the smaller picture; of the other ancillary chunks
# only transparency, the profile and the orientation are read.
_COLOR_CHUNKS = frozenset({b"cHRM", b"cICP", b"gAMA", b"sRGB"})
_ANCILLARY_BIT = 0x20  # of a chunk's first letter: the picture can be shown without it
# Pillow's names for the high and the low byte of 16 bits.
_HALF_MODES = {"L": ("B", ""), "RGB": ("B", "L")}
_LARGEST_COLOR_ERROR = 2.55  # root mean square of levels of 255: 40 dB
_MOST_CLUSTERED_PIXELS = 1_000_000
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of each colour type
# Column and row of the first pixel of each pass of an interlaced picture, and their steps.
_PASSES = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)


@dataclass
class PngChunks:
    """A PNG, split."""

    picture: bytes = MAGIC  # the file without the chunks that are not read
    profile: bytes | None = None
    colours: PngInfo = field(default_factory=PngInfo)
    pixels: list[memoryview] = field(default_factory=list)  # compressed


def read_chunks(workload: bytes, most_profile: int) -> PngChunks:
    """Split a PNG into its chunks; text is skipped unread.

    A profile of more than ``most_profile`` bytes is dropped, and so is one that cannot be
    read. Raises ValueError if a chunk that makes the picture is missing or damaged.
    """
    found, pieces = PngChunks(), [memoryview(MAGIC)]
    needs_palette = workload[25:26] == b"\3"
    for number, (kind, chunk, intact) in enumerate(_iterate_chunks(workload)):
        if number > MAX_PIECES:
            raise ValueError(f"it has more than {MAX_PIECES} chunks")
        if not kind[0] & _ANCILLARY_BIT or kind == b"tRNS":
            if not intact:
                raise ValueError(f"wrong checksum of its {kind.decode('latin-1')!r} chunk")
            pieces.append(chunk)
            if kind == b"PLTE":
                needs_palette = False
            elif kind == b"IDAT":
                found.pixels.append(chunk[8:-4])
        elif not intact:
            continue
        elif kind == b"iCCP":
            found.profile = _inflate_profile(bytes(chunk[8:-4]), most_profile)
        elif kind == b"eXIf":
            pieces.insert(2, chunk)  # before the pixels: Pillow would decode them to find it
        elif kind in _COLOR_CHUNKS:
            found.colours.add(kind, bytes(chunk[8:-4]))
    if needs_palette:
        raise ValueError("its palette is missing")
    found.picture = b"".join(pieces)
    return found


def require_all_rows(picture: PngImageFile, chunks: PngChunks) -> None:
    """Raises ValueError if rows of pixels are missing at the end; Pillow leaves them black."""
    width, height = picture.size
    last_rows = picture.crop((0, max(0, height - 2), width, height)).tobytes()
    if any(last_rows):
        return  # the usual case: nothing has to be decompressed again
    bits, colour_type, interlaced = (chunks.picture[at] for at in (24, 25, 28))
    needed = 0
    for left, top, across, down in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0:
            needed += rows * (1 + (columns * bits * _CHANNELS[colour_type] + 7) // 8)
    if _inflated_size(chunks.pixels, needed) < needed:
        raise ValueError("rows of pixels are missing at its end")


def _inflated_size(pieces: list[memoryview], enough: int) -> int:
    decoder, size = zlib.decompressobj(), 0
    for piece in pieces:
        data: bytes | memoryview = piece
        while data and size < enough:
            size += len(decoder.decompress(data, 1 << 20))
            data = decoder.unconsumed_tail
    return size + len(decoder.flush())


def _iterate_chunks(workload: bytes) -> Iterator[tuple[bytes, memoryview, bool]]:
    """Each chunk's type, the chunk, and whether its checksum is right."""
    view, at, kind = memoryview(workload), len(MAGIC), b""
    while kind != b"IEND":
        end = at + 8 + int.from_bytes(view[at : at + 4])
        kind = bytes(view[at + 4 : at + 8])
        if len(view) < end + 4:
            raise ValueError("it ends within a chunk")
        intact = zlib.crc32(view[at + 4 : end]) == int.from_bytes(view[end : end + 4])
        yield kind, view[at : end + 4], intact
        at = end + 4


def _inflate_profile(body: bytes, most: int) -> bytes | None:
    _, _, rest = body.partition(b"\0")
    decoder = zlib.decompressobj()
    try:
        profile = decoder.decompress(rest[1:], most)
    except zlib.error:
        return None
    return profile if decoder.eof else None


def opaque_but_for_one_colour(picture: PngImageFile, data: bytes) -> Image | None:
    """A picture of 16 bits a channel with its transparent colour as alpha; else None.

    Pillow keeps the high bytes only, and would compare them with a colour of 16 bits.
    """
    key = picture.info.get("transparency")
    if data[24] != 16 or key is None:
        return None
    bands, key = ("L", (key,)) if isinstance(key, int) else ("RGB", key)
    high, low = (_decode_as(data, bands, f"{bands};16{half}") for half in _HALF_MODES[bands])
    opaque = new("L", high.size, 0)
    for shift, half in ((8, high), (0, low)):
        for band, level in zip(half.split(), key, strict=True):
            other = band.point([255 * (value != level >> shift & 255) for value in range(256)])
            opaque = ImageChops.lighter(opaque, other)
    return merge(bands + "A", (*high.split(), opaque))


def _decode_as(data: bytes, mode: str, raw: str) -> Image:
    picture = PngImageFile(BytesIO(data))
    picture._mode = mode
    picture.tile = [tile._replace(args=raw) for tile in picture.tile]
    picture.load()
    return picture


def scale_transparency(picture: PngImageFile, data: bytes) -> None:
    """Grey of 2 or 4 bits is decoded to 8, but its transparent level is left as it was."""
    key, bits = picture.info.get("transparency"), data[24]
    if isinstance(key, int) and picture.mode == "L" and bits < 8:
        picture.info["transparency"] = key * 255 // (2**bits - 1)


def save_smallest(image: Image, palette: bool, **options: Any) -> bytes:
    """The file; with a palette if the source had one and this looks the same and is smaller."""
    few = _with_palette(image) if palette else None
    return min((_save_png(each, options) for each in (image, few) if each), key=len)


def _save_png(image: Image, options: dict[str, Any]) -> bytes:
    out = BytesIO()
    image.save(out, "PNG", compress_level=COMPRESSION_LEVEL, **options)
    return out.getvalue()


def _with_palette(image: Image) -> Image | None:
    few = image.quantize(256, Quantize.FASTOCTREE, dither=Dither.NONE)
    error, pixels = _color_error(image, few), image.width * image.height
    small = image.mode == "RGB" and pixels <= _MOST_CLUSTERED_PIXELS
    if _LARGEST_COLOR_ERROR < error <= 2 * _LARGEST_COLOR_ERROR and small:
        # A hundred times slower, some 5 dB better; it ends once 1 pixel in 1000 changes.
        few = image.quantize(256, Quantize.MEDIANCUT, kmeans=pixels // 1000, dither=Dither.NONE)
        error = _color_error(image, few)
    return few if error <= _LARGEST_COLOR_ERROR else None


def _color_error(image: Image, few: Image) -> float:
    return max(ImageStat.Stat(ImageChops.difference(image, few.convert(image.mode))).rms)
