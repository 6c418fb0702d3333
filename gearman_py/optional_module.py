"""Dependencies that are installed only where they are used."""

import importlib
from typing import Any


def import_optional(module: str, need: str, package: str, error: type[Exception]) -> Any:
    """The module. If it is not installed, raises ``error``: the ``need``, and what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as cause:
        raise error(f"{need} ({cause}): pip install {package}") from None
