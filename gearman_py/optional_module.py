"""Modules that are imported where they are used, and may not be there."""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

FOLDERS = os.path.dirname(__file__), os.path.dirname(os.__file__)


def import_optional(module: str, need: str, package: str, error: type[Exception]) -> Any:
    """The module. If it is not installed, raises ``error``: the ``need``, and what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as cause:
        _check_readable(error)
        raise error(f"{need} ({cause}): pip install {package}") from None


@contextmanager
def late_imports(error: type[Exception]) -> Iterator[None]:
    """Raise ``error`` with the reason if a module cannot be imported any more.

    A process that has switched to another user may not be able to read them.
    """
    try:
        yield
    except ImportError as cause:
        _check_readable(error)
        raise error(f"the installation in {FOLDERS[0]} is incomplete: {cause}") from cause


def _check_readable(error: type[Exception]) -> None:
    """Raise ``error`` if this user cannot read Python's modules."""
    for folder in FOLDERS:
        if not os.access(folder, os.R_OK | os.X_OK):
            raise error(
                f"user ID {os.getuid()} cannot read {folder}, the folder of Python's modules: "
                "install Python and gearman_py where that user can read them, such as in /opt"
            )
