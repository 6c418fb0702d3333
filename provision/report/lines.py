"""Lines of output: harmless to a terminal, and wrapped between words where it is narrow."""

import os
import re
from collections.abc import Iterator
from textwrap import wrap
from typing import TextIO

from gearman_py.printable import printable
from provision.wording import format_count

DIFF_SHOWN = 300  # lines of a diff
FEWEST_COLUMNS = 20  # that are left for words beside what stands before them
COPIED = re.compile(r"\btry: [^,;]*$|--limit ")  # with what is copied from the screen: a command
COLUMNS = re.compile(r"^(?:\S* {2,})+")


def put_line(line: str, stream: TextIO) -> None:
    """Print a line. When the reader is gone, what was begun on hosts goes on."""
    try:
        print(line, file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), stream.fileno())


def diff_lines(diff: str) -> Iterator[str]:
    """The lines of a unified diff, without its header: the change above says which file it is.

    Of a long one the beginning: the lines of other hosts are not to be lost behind it.
    """
    lines = diff.split("\n")[3:-1]
    for line in lines[:DIFF_SHOWN]:
        yield "..." if line.startswith("@@") else line
    if len(lines) > DIFF_SHOWN:
        yield f"... and {format_count(len(lines) - DIFF_SHOWN, 'line')} more"


def make_harmless(said: str) -> str:
    """What a host or a file said, with nothing in it that a terminal would obey."""
    return printable(said, keep="\t")


def wrap_line(before: str, text: str, columns: int) -> str:
    """``text``, which stands after ``before``, in lines no longer than ``columns``.

    What goes on in the next line stands below the last of the columns that it begins with. A
    command that is to be copied stays in one piece.
    """
    line = before + text
    if len(line) <= columns or COPIED.search(line):
        return text
    found = COLUMNS.match(line)
    indent = found.end() if found else 4
    if indent < len(before):
        indent = len(before) + 1  # after the sign of a change
    if columns - indent < FEWEST_COLUMNS:
        return text
    rows = wrap(
        line[indent:],
        columns - indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )
    return line[len(before) : indent] + f"\n{'':{indent}}".join(rows)
