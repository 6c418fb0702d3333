"""When a certificate ends, read from its file: the ssl module tells that of peers alone."""

import ssl
from datetime import UTC, datetime
from pathlib import Path

VERSION, UTC_TIME = 0xA0, 0x17  # tags


def certificate_end(path: str) -> float | None:
    """When the first certificate of a PEM file ends, in seconds since 1970; None: unreadable."""
    try:
        text = Path(path).read_text()
        pem = text[text.index(ssl.PEM_HEADER) : text.index(ssl.PEM_FOOTER)] + ssl.PEM_FOOTER
        return _read_end(ssl.PEM_cert_to_DER_cert(pem))
    except (OSError, ValueError, IndexError):
        return None


def _read_end(der: bytes) -> float:
    """RFC 5280, 4.1: the second time of the fifth field, of the sixth after a version."""
    _, certificate, _ = _split_value(der)
    _, fields, _ = _split_value(certificate)
    kind, _, rest = _split_value(fields)  # version, or the serial number
    for _ in range(3 if kind == VERSION else 2):  # up to the issuer
        _, _, rest = _split_value(rest)
    _, validity, _ = _split_value(rest)
    _, _, rest = _split_value(validity)
    kind, end, _ = _split_value(rest)
    form = "%y%m%d%H%M%SZ" if kind == UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(end.decode(), form).replace(tzinfo=UTC).timestamp()


def _split_value(der: bytes) -> tuple[int, bytes, bytes]:
    """A value's tag, its content, and what follows it."""
    tag, size, start = der[0], der[1], 2
    if size >= 0x80:
        start += size - 0x80
        size = int.from_bytes(der[2:start])
    return tag, der[start : start + size], der[start + size :]
