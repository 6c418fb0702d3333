"""Configuration: TOML files that say what a command line says (``processes = 4``), and sizes."""

import tomllib
from pathlib import Path
from typing import Any


def read_table(path: Path) -> dict[str, Any]:
    """The file's keys and values. Raises ValueError, naming the file, for what it cannot be."""
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error


def size(text: str) -> int:
    """Bytes, or with K, M or G so many times 1024. Raises ValueError."""
    factors = {"K": 2**10, "M": 2**20, "G": 2**30}
    digits, factor = (text[:-1], factors[text[-1]]) if text[-1:] in factors else (text, 1)
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"{text!r} is not a size: expected bytes, or 200M, 2G")
    return int(digits) * factor


def as_words(table: dict[str, Any]) -> list[str]:
    """The command line that says the same: a list is an option given often, true one alone."""
    words = []
    for name, value in table.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words += [flag] * value
        else:
            values = value if isinstance(value, list) else [value]
            words += (f"{flag}={each}" for each in values)
    return words
