"""The progress of a job, on stderr: a bar on a terminal, otherwise a line each time.

The bar is removed before anything else is printed, and at the end. It has no colours; a dumb
terminal (TERM=dumb) gets lines.
"""

import os
import sys

MAX_BAR_WIDTH = 40  # columns


class Progress:
    """Shows the WORK_STATUS packets of a job."""

    def __init__(self) -> None:
        self._bar = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._drawn = False
        self._in_line = False  # the last line on the terminal is unfinished output

    def show_status(self, function: str, prefix: bytes, numerator: int, denominator: int) -> None:
        """Redraw the bar, or print a line as the C tool does, after ``prefix``."""
        if self._bar:
            self._draw_bar(function, numerator, denominator)
        else:
            done = _format_percent(numerator, denominator)
            sys.stderr.buffer.write(prefix + f"{done} Complete\n".encode())
            sys.stderr.flush()

    def clear_bar(self) -> None:
        """Remove the bar."""
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = False

    def note_output(self, data: bytes, *, terminal: bool) -> None:
        """Remember that ``data`` was printed: the bar must not overwrite it."""
        if terminal and data:
            self._in_line = not data.endswith(b"\n")

    def _draw_bar(self, function: str, numerator: int, denominator: int) -> None:
        if self._in_line:
            sys.stderr.write("\n")
            self._in_line = False
        try:
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        except OSError:
            columns = 80
        done = _format_percent(numerator, denominator)
        name = function if function.isprintable() else ascii(function)
        text = f"{name[: columns // 3]} {done}"
        room = min(MAX_BAR_WIDTH, columns - len(text) - 5)
        if denominator and room > 0:
            filled = room * min(numerator, denominator) // denominator
            text += f" [{'=' * filled}{' ' * (room - filled)}]"
        self._drawn = True  # first: ^C may come while it is written
        sys.stderr.write(f"\r{text[: columns - 1]}\x1b[K")
        sys.stderr.flush()


def _format_percent(numerator: int, denominator: int) -> str:
    return f"{100 * numerator // denominator}%" if denominator else f"{numerator} of 0"
