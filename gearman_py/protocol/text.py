"""Answers of the text protocol: a line, or lines up to `.`."""

END = b".\n"
OK = b"OK\r\n"


def listing_row(row: bytes) -> bytes:
    """A line of a list, whose last line is END."""
    return (b"\\x2e" if row == b"." else row) + b"\n"


def value(text: bytes) -> bytes:
    """An answer with a single value."""
    return b"OK " + text + b"\n"


def error(code: bytes, text: bytes = b"") -> bytes:
    """The answer to a command that failed; the text has `+` for spaces."""
    return b"ERR " + code + (b" " + text.replace(b" ", b"+") if text else b"") + b"\r\n"


def printable(name: bytes) -> bytes:
    r"""A name in a form that cannot forge a row or control a terminal.

    Unprintable characters are written like ``\x0a``, byte by byte; so are bytes that are not UTF-8
    and that terminals with another encoding might obey.
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
