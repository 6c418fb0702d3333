"""Tracebacks that begin in the author's code, not in what called it."""

import importlib
from pathlib import Path
from traceback import format_exception
from types import TracebackType

_OURS = str(Path(__file__).parents[1])
_CALLERS = (_OURS, str(Path(importlib.__file__).parent), "<frozen importlib")


def author_traceback(error: BaseException) -> TracebackType | None:
    """The error's traceback from the first frame of the author's code on.

    The whole one, if none of the code is the author's: then we are to blame. None for code that
    could not be compiled, as its place is in the error.
    """
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_CALLERS):
        frames = frames.tb_next
    if frames is None and not isinstance(error, SyntaxError):
        return error.__traceback__
    return frames


def format_author_error(error: BaseException) -> str:
    """The error and that traceback, as Python prints them."""
    return "".join(format_exception(type(error), error, author_traceback(error)))
