"""Recognizes what resize does not support, and says what to do about it."""

_CONVERT = "convert it to one of these first"
_SEND_BYTES = "send the picture's own bytes"
_SEND_AS_BODY = f"{_SEND_BYTES}, as curl --data-binary @FILE does"

# First bytes, what they are, and what to do.
_BEGINNINGS = (
    (b"II*\0", "a TIFF picture", _CONVERT),
    (b"MM\0*", "a TIFF picture", _CONVERT),
    (b"BM", "a BMP picture", _CONVERT),
    (b"\xff\x0a", "a JPEG XL picture", _CONVERT),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture", _CONVERT),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture", _CONVERT),
    (b"8BPS", "a Photoshop file", _CONVERT),
    (b"%PDF", "a PDF document", _CONVERT),
    (b"%!PS", "a PostScript file", _CONVERT),
    (b"<svg", "an SVG drawing", _CONVERT),
    (b"\0\0\1\0", "an icon (ICO)", _CONVERT),
    (b"icns", "an icon (ICNS)", _CONVERT),
    (b"DDS ", "a DDS texture", _CONVERT),
    (b"qoif", "a QOI picture", _CONVERT),
    *(
        (b"P%d" % kind + end, "a PNM picture", _CONVERT)
        for kind in range(1, 7)
        for end in (b"\n", b" ")
    ),
    (b"<!doctype html", "an HTML page", _SEND_BYTES),
    (b"<html", "an HTML page", _SEND_BYTES),
    (b"{", "JSON", _SEND_BYTES),
    (b"PK\3\4", "a ZIP archive", _SEND_BYTES),
    (b"\x1f\x8b", "gzip data", f"{_SEND_BYTES}, decompressed"),
    (b"data:image/", "a data URL", f"{_SEND_BYTES}, base64 decoded"),
    (b"/9j/", "a JPEG picture in base64", f"{_SEND_BYTES}, base64 decoded"),
    (b"iVBORw0KGgo", "a PNG picture in base64", f"{_SEND_BYTES}, base64 decoded"),
    (b"UklGR", "a WebP picture in base64", f"{_SEND_BYTES}, base64 decoded"),
    (b"R0lGOD", "a GIF picture in base64", f"{_SEND_BYTES}, base64 decoded"),
)
# Brands of files that consist of boxes, like MP4: ISO/IEC 14496-12.
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "an AVIF picture"),
    **dict.fromkeys(
        (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
        "a HEIC picture",
    ),
}


def describe_kind(workload: bytes) -> str:
    """What the workload is and what to do, to be appended to a message; may be empty."""
    if workload[4:8] == b"ftyp":
        return f": they are {_box_brand(workload)}; {_CONVERT}"
    if workload.startswith(b"--") and b"form-data" in workload[:1000].lower():
        return f": they are a form upload (multipart/form-data); {_SEND_AS_BODY}"
    start = workload[:200].lstrip(b" \t\r\n\xef\xbb\xbf")
    if b"<svg" in start:
        start = b"<svg"
    if start[:1] == b"<":
        start = start.lower()
    for magic, kind, cure in _BEGINNINGS:
        if start.startswith(magic):
            return f": they are {kind}; {cure}"
    return ""


def _box_brand(workload: bytes) -> str:
    size = min(int.from_bytes(workload[:4]), 200)
    brands = [workload[8:12], *(workload[at : at + 4] for at in range(16, size, 4))]
    # mif1 says little: AVIF and HEIC files both claim it, so the other brands are tried first.
    for brand in sorted(brands, key=lambda brand: brand in (b"mif1", b"msf1")):
        if brand in _BRANDS:
            return _BRANDS[brand]
    return "a video or another container (ftyp)"
