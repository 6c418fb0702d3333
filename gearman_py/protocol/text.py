"""The text protocol's shapes: one line asks, a line or lines up to `.` answer."""

from collections.abc import Iterable

END = b".\n"
OK = b"OK\r\n"


def listing(rows: Iterable[bytes]) -> bytes:
    """The answer that is a list: a row a line, then a full stop."""
    return b"".join(row + b"\n" for row in rows) + END


def value(text: bytes) -> bytes:
    """The answer that is one value."""
    return b"OK " + text + b"\n"


def error(code: bytes, text: bytes = b"") -> bytes:
    """The answer to a command that cannot be done; the text has `+` for spaces."""
    return b"ERR " + code + (b" " + text.replace(b" ", b"+") if text else b"") + b"\r\n"


def printable(name: bytes) -> bytes:
    r"""A name as it may stand in a row: control bytes as ``\x0a``, so that it forges no row."""
    if name.isascii() and name.decode("ascii").isprintable():
        return name
    return b"".join(
        b"\\x%02x" % byte if byte < 0x20 or byte == 0x7F else bytes((byte,)) for byte in name
    )
