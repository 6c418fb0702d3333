"""Untrusted text made harmless for terminals and for logs with one line per entry."""

import logging


def printable(text: str, keep: str = "\n\t") -> str:
    """``text`` with control characters escaped, except those to ``keep``."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)


class EntryFormatter(logging.Formatter):
    """Formats log entries so that none can look like two.

    They contain names and errors from peers. Lines after the first are indented, so that they do
    not look like an entry; systemd reads a priority only at the start of a line, too (``<3>``,
    man sd-daemon).
    """

    def format(self, record: logging.LogRecord) -> str:
        return "\n  ".join(printable(super().format(record)).split("\n"))
