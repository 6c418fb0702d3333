"""The text protocol's shapes: one line asks, a line or lines up to `.` answer."""

END = b".\n"
OK = b"OK\r\n"


def listing_row(row: bytes) -> bytes:
    """A line of an answer that is a list; its last line is END."""
    return (b"\\x2e" if row == b"." else row) + b"\n"


def value(text: bytes) -> bytes:
    """The answer that is one value."""
    return b"OK " + text + b"\n"


def error(code: bytes, text: bytes = b"") -> bytes:
    """The answer to a command that cannot be done; the text has `+` for spaces."""
    return b"ERR " + code + (b" " + text.replace(b" ", b"+") if text else b"") + b"\r\n"


def printable(name: bytes) -> bytes:
    r"""A name as it may stand in a row, so that it forges none and no terminal obeys it.

    Bytes of what cannot be printed are written as ``\x0a``; so are those that are no UTF-8 and
    that terminals with another encoding may obey.
    """
    if name.isascii() and name.decode("ascii").isprintable():
        return name
    text = name.decode(errors="surrogateescape")
    return b"".join(_escape_byte(char) for char in text)


def _escape_byte(char: str) -> bytes:
    data = char.encode(errors="surrogateescape")
    if char.isprintable() or (len(data) == 1 and data >= b"\xa0"):
        return data
    return b"".join(b"\\x%02x" % byte for byte in data)
