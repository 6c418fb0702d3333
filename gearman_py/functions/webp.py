"""A WebP picture decoded at a smaller scale, by the libwebp that comes with Pillow.

Pillow decodes WebP as an animation, at full scale: 16 bytes a pixel, slower than the tutorial's
PHP. libwebp itself can scale while it decodes, and then needs memory only for the result. These
are the four calls for that, with the structures of <webp/decode.h>; libwebp checks their version,
and what it does not support is left to Pillow.
"""

from ctypes import (
    CDLL,
    POINTER,
    Structure,
    byref,
    c_char_p,
    c_int,
    c_size_t,
    c_uint8,
    c_uint32,
    string_at,
)
from functools import cache

from PIL import Image, _webp

_ABI_VERSION = 0x0209  # WEBP_DECODER_ABI_VERSION; libwebp refuses another first byte
# Pillow's name of a mode, and libwebp's number. Alpha is multiplied in, so that no colour of
# a transparent pixel is seen beside it.
_OPAQUE, _ALPHA = ("RGB", 0), ("RGBa", 7)


class _Features(Structure):
    _fields_ = [
        ("width", c_int),
        ("height", c_int),
        ("has_alpha", c_int),
        ("has_animation", c_int),
        ("format", c_int),
        ("pad", c_uint32 * 5),
    ]


class _Buffer(Structure):  # WebPDecBuffer, its union seen as WebPRGBABuffer
    _fields_ = [
        ("colorspace", c_int),
        ("width", c_int),
        ("height", c_int),
        ("is_external_memory", c_int),
        ("pixels", POINTER(c_uint8)),
        ("stride", c_int),
        ("size", c_size_t),
        ("rest_of_union", c_size_t * 7),
        ("pad", c_uint32 * 4),
        ("private_memory", POINTER(c_uint8)),
    ]


class _Options(Structure):
    _fields_ = [
        ("bypass_filtering", c_int),
        ("no_fancy_upsampling", c_int),
        ("use_cropping", c_int),
        ("crop", c_int * 4),
        ("use_scaling", c_int),
        ("scaled_width", c_int),
        ("scaled_height", c_int),
        ("rest", c_int * 4),
        ("pad", c_uint32 * 5),
    ]


class _Config(Structure):
    _fields_ = [("input", _Features), ("output", _Buffer), ("options", _Options)]


@cache
def _load_libwebp() -> CDLL | None:
    """The libwebp that Pillow's module is linked with, whatever its file is called."""
    try:
        library = CDLL(_webp.__file__)
        library.WebPDecode.argtypes = [c_char_p, c_size_t, POINTER(_Config)]
        library.WebPGetFeaturesInternal.argtypes = [c_char_p, c_size_t, POINTER(_Features), c_int]
        library.WebPFreeDecBuffer.argtypes = [POINTER(_Buffer)]
        library.WebPFreeDecBuffer.restype = None
        library.WebPInitDecoderConfigInternal.argtypes = [POINTER(_Config), c_int]
    except (OSError, AttributeError):
        return None
    return library


class WebPScaler:
    """Decodes one picture at any size."""

    def __init__(self, library: CDLL, workload: bytes, config: _Config) -> None:
        self._library, self._workload, self._config = library, workload, config

    def decode_at(self, size: tuple[int, int]) -> Image.Image:
        """All of it at this size, RGB or RGBa. Raises ValueError if it is broken."""
        config = self._config
        mode, config.output.colorspace = _ALPHA if config.input.has_alpha else _OPAQUE
        config.options.use_scaling = 1
        config.options.scaled_width, config.options.scaled_height = size
        data, length = self._workload, len(self._workload)
        try:
            if problem := self._library.WebPDecode(data, length, byref(config)):
                raise ValueError(f"libwebp's error {problem}")
            output = config.output
            pixels = string_at(output.pixels, output.size)
            return Image.frombuffer(mode, size, pixels, "raw", mode, output.stride, 1)
        finally:
            self._library.WebPFreeDecBuffer(byref(config.output))


def find_scaler(workload: bytes) -> WebPScaler | None:
    """A decoder of this WebP file; None if it is animated, or if no suitable libwebp is found."""
    config = _Config()
    library = _load_libwebp()
    if library is None or not library.WebPInitDecoderConfigInternal(byref(config), _ABI_VERSION):
        return None
    features = byref(config.input)
    unknown = library.WebPGetFeaturesInternal(workload, len(workload), features, _ABI_VERSION)
    return None if unknown or config.input.has_animation else WebPScaler(library, workload, config)
