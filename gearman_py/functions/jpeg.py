"""The structure of a JPEG: its scans, its end, its quality."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO

from PIL import Image, ImageChops
from PIL.JpegImagePlugin import JpegImageFile

from gearman_py.functions.limits import MAX_PIECES

END = b"\xff\xd9"
# Bits that the entropy decoder would read if the last scan were incomplete.
_TEST_TAILS = tuple(bits * 64 + END for bits in (b"\x00", b"\xff\x00", b"\x55", b"\xaa"))
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # not a stuffed byte, padding or a restart
_MARKERS_WITHOUT_LENGTH = frozenset({0x01, 0xD8})  # markers without a length
_FRAME_MARKERS = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA


@dataclass
class ScanSummary:
    """What the file contains up to the end of its first picture; cameras put films behind it."""

    count: int = 0
    ended: bool = False
    _missing: dict[int, bytearray] = field(default_factory=dict)  # bits that a coefficient lacks

    @property
    def is_complete(self) -> bool:
        """Whether the scans hold every bit of every coefficient."""
        return bool(self._missing) and not any(map(any, self._missing.values()))

    def add_frame(self, header: bytes) -> None:
        components = header[6 : 6 + 3 * header[5] : 3]
        self._missing = {component: bytearray(b"\x0f" * 64) for component in components}

    def add_scan(self, header: bytes) -> None:
        self.count += 1
        components, (first, last, bits) = header[1:-3:2], header[-3:]
        for component in components:
            if component in self._missing:
                coefficients = self._missing[component]
                coefficients[first : last + 1] = bytes([bits & 15]) * (last + 1 - first)


def find_scans(workload: bytes) -> ScanSummary:
    """The scans of the first picture. Raises ValueError for more segments than programs write."""
    found, at, pieces = ScanSummary(), 2, 0
    while marker := _MARKER.search(workload, at):
        if not found.count:
            pieces += marker.start() - at  # Pillow reads padding byte by byte
        if (pieces := pieces + 1) > MAX_PIECES:
            raise ValueError(f"it has more than {MAX_PIECES} segments")
        kind, at = workload[marker.end() - 1], marker.end()
        if kind == _END_OF_IMAGE:
            found.ended = True
            break
        if kind in _MARKERS_WITHOUT_LENGTH:
            continue
        header = workload[at + 2 : at + int.from_bytes(workload[at : at + 2])]
        if kind in _FRAME_MARKERS and len(header) > 5:
            found.add_frame(header)
        elif kind == _START_OF_SCAN and len(header) > 3:
            found.add_scan(header)
        at += 2 + len(header)
    return found


def is_whole_without_end(workload: bytes, size: tuple[int, int]) -> bool:
    """Whether no pixel, decoded for this size, depends on what may be missing at the end."""
    first, *others = (_decode_draft(workload + tail, size) for tail in _TEST_TAILS)
    return all(ImageChops.difference(first, other).getbbox() is None for other in others)


def _decode_draft(workload: bytes, size: tuple[int, int]) -> Image.Image:
    picture = JpegImageFile(BytesIO(workload))
    picture.draft(picture.mode, size)
    picture.load()
    return picture


def matching_quality(tables: Mapping[int, Sequence[int]], most: int) -> int:
    """The quality, at most ``most``, that quantizes no finer than these tables do."""
    kept = list(tables.values())[:2]  # brightness and colour
    wanted = sum(map(sum, kept))
    return next(
        (q for q in range(most, 1, -1) if sum(_quantizer_sums(q)[: len(kept)]) >= wanted), 1
    )


@cache
def _quantizer_sums(level: int) -> tuple[int, ...]:
    out = BytesIO()
    Image.new("RGB", (1, 1)).save(out, "JPEG", quality=level)
    out.seek(0)
    return tuple(map(sum, JpegImageFile(out).quantization.values()))
