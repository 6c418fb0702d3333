"""Configuration files in TOML that say what a command line says: ``processes = 4``."""

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
