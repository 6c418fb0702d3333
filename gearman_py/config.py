"""Configuration files in TOML, equivalent to a command line (``processes = 4``), and sizes."""

import re
from pathlib import Path
from typing import Any

PASSWORD = re.compile(r"(^|[\s?&;])(ssl)?password\s*=|://[^/@\s]*:[^/@\s]*@", re.IGNORECASE)
"""A password in a connection string or address of libpq: all users could read it."""


def read_table(path: Path) -> dict[str, Any]:
    """The keys and values of the file. Raises ValueError, naming the file."""
    import tomllib  # few commands have such a file, and this is a twentieth of their start

    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error


def read_password(path: str) -> str:
    """The content of a file that others cannot read; "" without a file. Raises ValueError."""
    if not path:
        return ""
    try:
        if Path(path).stat().st_mode & 0o007:
            raise ValueError(f"{path}: all users can read the password: chmod o= {path}")
        return Path(path).read_text().strip()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error


def size(text: str) -> int:
    """A number of bytes, with K, M or G in powers of 1024. Raises ValueError."""
    factors = {"K": 2**10, "M": 2**20, "G": 2**30}
    digits, factor = (text[:-1], factors[text[-1]]) if text[-1:] in factors else (text, 1)
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"{text!r} is not a size: expected a number of bytes, or 200M, 2G")
    return int(digits) * factor


def format_size(number: float) -> str:
    """A number of bytes in powers of 1024, as the options count them: 512 B, 1.5 KiB, 20 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1023.95 or unit == "GiB":
            break
        number /= 1024
    return f"{number:.1f}".removesuffix(".0") + f" {unit}"


def as_words(table: dict[str, Any]) -> list[str]:
    """The equivalent command line: a list repeats the option, true is a flag."""
    words = []
    for name, value in table.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words += [flag] * value
        else:
            values = value if isinstance(value, list) else [value]
            words += (f"{flag}={each}" for each in values)
    return words
