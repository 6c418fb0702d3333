"""Untrusted text made harmless for terminals and for logs with one line per entry."""

import logging


def printable(text: str, keep: str = "\n\t") -> str:
    """``text`` with control characters escaped, except those to ``keep``."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)


def shorten(text: str, most: int) -> str:
    """The text, or if it is long, about ``most`` characters of its beginning and end."""
    if len(text) <= most:
        return text
    left_out = len(text) - most
    return f"{text[: most // 2]} ... ({left_out} characters left out) ... {text[-most // 2 :]}"


class EntryFormatter(logging.Formatter):
    """Formats log entries so that none can look like two.

    They contain names and errors from peers. Lines after the first are indented, so that they do
    not look like an entry; systemd reads a priority only at the start of a line, too (``<3>``,
    man sd-daemon).
    """

    def format(self, record: logging.LogRecord) -> str:
        return "\n  ".join(printable(super().format(record)).split("\n"))
