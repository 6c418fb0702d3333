"""How far a job is: a bar on a terminal, a line each time elsewhere. Always on stderr.

The bar is gone before anything else is printed, and at the end. Without colours; on a
terminal that says it is dumb (TERM=dumb) there are lines.
"""

import os
import sys

_WIDTH = 40  # columns of the bar, where there is room


class Progress:
    """Shows what WORK_STATUS tells."""

    def __init__(self) -> None:
        self._bar = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._drawn = False
        self._in_line = False  # the terminal's last line is output, and not ended

    def show(self, function: str, prefix: bytes, numerator: int, denominator: int) -> None:
        """Draw the bar anew, or write a line as the C tool words it, after ``prefix``."""
        if self._bar:
            self._draw(function, numerator, denominator)
        else:
            done = _percent(numerator, denominator)
            sys.stderr.buffer.write(prefix + f"{done} Complete\n".encode())
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the bar away."""
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = False

    def printed(self, data: bytes, *, terminal: bool) -> None:
        """``data`` was printed, on a terminal or not: the bar must not overwrite it."""
        if terminal and data:
            self._in_line = not data.endswith(b"\n")

    def _draw(self, function: str, numerator: int, denominator: int) -> None:
        if self._in_line:
            sys.stderr.write("\n")
            self._in_line = False
        try:
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        except OSError:
            columns = 80
        done = _percent(numerator, denominator)
        name = function if function.isprintable() else ascii(function)
        text = f"{name[: columns // 3]} {done}"
        room = min(_WIDTH, columns - len(text) - 5)
        if denominator and room > 0:
            filled = room * min(numerator, denominator) // denominator
            text += f" [{'=' * filled}{' ' * (room - filled)}]"
        sys.stderr.write(f"\r{text[: columns - 1]}\x1b[K")
        sys.stderr.flush()
        self._drawn = True


def _percent(numerator: int, denominator: int) -> str:
    return f"{100 * numerator // denominator}%" if denominator else f"{numerator} of 0"
