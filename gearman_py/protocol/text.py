"""Answers of the text protocol: a line, or lines up to `.`."""

from collections.abc import Iterable

END = b".\n"
OK = b"OK\r\n"


def listing_row(row: bytes) -> bytes:
    """A line of a list, whose last line is END."""
    return (b"\\x2e" if row == b"." else row) + b"\n"


def value(text: bytes) -> bytes:
    """An answer with a single value."""
    return b"OK " + text + b"\n"


def error(code: bytes, text: bytes = b"") -> bytes:
    r"""The answer to a command that failed; its text has ``+`` for a space, ``\x2b`` for a plus."""
    words = text.replace(b"+", b"\\x2b").replace(b" ", b"+")
    return b"ERR " + code + (b" " + words if text else b"") + b"\r\n"


def parse_pairs(words: Iterable[bytes]) -> dict[bytes, bytes] | None:
    """The words KEY=VALUE of a command; None if one is another, or a key comes twice."""
    pairs: dict[bytes, bytes] = {}
    for word in words:
        key, equals, value = word.partition(b"=")
        if not equals or key in pairs:
            return None
        pairs[key] = value
    return pairs


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
