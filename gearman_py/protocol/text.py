"""Answers of the text protocol: a line, or lines up to `.`."""

import re
from collections.abc import Iterable

END = b".\n"
OK = b"OK\r\n"
# Functions that are not told apart. The name of a function is never listed so: see `listed_name`.
OTHERS = b"(other)"
EMPTY_NAME = rb"\x00"  # no name has a NUL: so the empty one is listed
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")
_LIKE_ESCAPED = re.compile(rb"\\(?=x[0-9a-f]{2})")


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


def escape_name(name: bytes) -> bytes:
    r"""The name of a function as `printable` writes it, but no two names alike.

    A backslash that looks like the beginning of an escaped byte is ``\x5c``.
    """
    return printable(_LIKE_ESCAPED.sub(rb"\\x5c", name) if b"\\x" in name else name)


def listed_name(name: bytes) -> bytes:
    """The same, in listings that the C server does not have; see EMPTY_NAME and OTHERS."""
    return rb"\x28" + name[1:] if name == OTHERS else escape_name(name) or EMPTY_NAME


def label_of(name: bytes) -> str:
    """The name of a function as clients show it, and as a label of metrics."""
    return listed_name(name).decode(errors="backslashreplace")


def unescape_name(name: bytes) -> bytes:
    """The name that is listed, or shown by a client, so."""
    raw = _ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), name)
    return b"" if raw == b"\0" else raw
