"""Text that others chose, made harmless for terminals and for logs of one line an entry."""

import logging


def printable(text: str, keep: str = "\n\t") -> str:
    """``text`` without what a terminal would obey, but with the control characters to ``keep``."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)


class EntryFormatter(logging.Formatter):
    """Formats log entries so that none can look like two.

    Names and errors of others are in them. What an entry holds besides its first line is
    indented, so it begins as no entry does; systemd takes a priority only from the beginning of
    a line, too (``<3>``, man sd-daemon).
    """

    def format(self, record: logging.LogRecord) -> str:
        return "\n  ".join(printable(super().format(record)).split("\n"))
