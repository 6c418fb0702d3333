"""Names of hosts as Ansible writes them: ranges in an inventory, patterns of --limit.

A range stands for many hosts: `web[01:10]`, `db-[a:f]`, `w[1:9:2]`; both ends count, and
zeros before the first number are kept. A pattern chooses among those there are: `web*`, a group's
name, `~web\\d+`, `worker[0]`, `worker[1:3]`; several are separated by commas or colons, `&` keeps
only what also matches, `!` leaves out, and `@FILE` reads them from a file.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from ipaddress import ip_address
from itertools import product
from math import prod
from pathlib import Path
from string import ascii_letters
from typing import TypeVar

from provision.errors import InventoryError
from provision.wording import nearest_hint

_RANGE = re.compile(r"\[(\w*):(\w+)(?::(\d+))?\]")
_LABEL = r"(?:\w|R)(?:[\w-]|R)*(?<![_-])".replace("R", r"\[(?:[a-z]:[a-z]|\d+:\d+)(?::\d+)?\]")
_ADDRESS = re.compile(rf"({_LABEL}(?:\.{_LABEL})*):(\d+)", re.IGNORECASE)
_BRACKETED = re.compile(r"\[(.+)\]:(\d+)")
_SUBSCRIPT = re.compile(r"(.+)\[(-?\d+|\d+[:-]\d*)\]")
_PART = re.compile(r"(?:[^\s:\[\]]|\[[^\]]*\])+")

MAX_HOSTS = 10_000  # hosts that one name may stand for

T = TypeVar("T")
Names = Callable[[T], Iterable[str]]
"""All names of a host: its own, its groups', and `all`."""


def split_port(name: str) -> tuple[str, int | None]:
    """The port that is written behind a name, as in `web1:2222` or `[2001:db8::7]:22`."""
    if found := _BRACKETED.fullmatch(name):
        inner = found[1]
        if _is_address(inner) or _ADDRESS.fullmatch(f"{inner}:1"):
            return inner, int(found[2])
    if found := _ADDRESS.fullmatch(name):
        return found[1], int(found[2])
    return name, None


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def expand_ranges(name: str) -> list[str]:
    """The names that a name with ranges stands for. Raises ValueError for anything else."""
    pieces = re.split(r"(\[[^\]]*\])", name)
    if "[" in "".join(pieces[::2]):
        raise ValueError(
            f"{name}: its range has no end; ranges are [1:9], [01:10], [a:f] or [1:9:2]"
        )
    choices = [_range_values(piece) if piece.startswith("[") else [piece] for piece in pieces]
    if prod(map(len, choices)) > MAX_HOSTS:
        raise ValueError(f"{name} stands for more than {MAX_HOSTS} hosts")
    return ["".join(chosen) for chosen in product(*choices)]


def _range_values(text: str) -> Sequence[str]:
    found = _RANGE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text} is not a range; ranges are [1:9], [01:10], [a:f] or [1:9:2]")
    first, last, step = found[1] or "0", found[2], int(found[3] or 1)
    if not step:
        raise ValueError(f"{text} has a step of 0")
    if first.isdigit() and last.isdigit():
        if first.startswith("0") and len(first) != len(last) and len(first) > 1:
            raise ValueError(f"{text}: both ends must have the same number of digits")
        wide = len(first) if first.startswith("0") else 0
        numbers = range(int(first), int(last) + 1, step)[: MAX_HOSTS + 1]
        values = [str(number).zfill(wide) for number in numbers]
    elif len(first) == len(last) == 1 and first in ascii_letters and last in ascii_letters:
        start, end = ascii_letters.index(first), ascii_letters.index(last)
        values = list(ascii_letters[start : end + 1 : step])
    else:
        raise ValueError(f"{text} is neither a range of numbers nor of letters")
    if not values:
        raise ValueError(f"{text} is empty: it ends before it begins")
    return values


def choose_hosts(everyone: Sequence[T], limit: str, names: Names[T]) -> list[T]:
    """Those that a --limit means, in the inventory's order. Raises :class:`InventoryError`."""
    patterns = list(_split_patterns(limit))
    if not patterns:
        raise InventoryError(f"--limit {limit}: it names no host; leave it out to mean all")
    # As in Ansible: wherever they stand, `&` comes after what it narrows, and `!` last.
    wanted = [each for each in patterns if each[0] not in "&!"] or ["all"]
    ids = {id(one) for each in wanted for one in _find_matching(everyone, each, names)}
    for sign in "&!":
        for pattern in (each[1:] for each in patterns if each.startswith(sign)):
            found = {id(one) for one in _find_matching(everyone, pattern, names)}
            ids = ids & found if sign == "&" else ids - found
    kept = [one for one in everyone if id(one) in ids]
    if not kept:
        raise InventoryError(f"--limit {limit}: that leaves no host")
    return kept


def _split_patterns(limit: str) -> Iterator[str]:
    if limit.startswith("@"):
        path = Path(limit[1:])
        try:
            lines = path.read_text().splitlines()
        except OSError as error:
            raise InventoryError(f"--limit {limit}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise InventoryError(f"--limit {limit}: it is not valid text") from None
        for line in lines:
            yield from _split_patterns(line.strip()) if line.strip() else ()
    elif "," in limit or limit.startswith("~"):
        yield from filter(None, (each.strip() for each in limit.split(",")))
    elif rest := _PART.sub("", limit).strip(": "):
        raise InventoryError(f"--limit {limit}: what does {rest!r} mean there?")
    else:
        yield from _PART.findall(limit)


def _find_matching(everyone: Sequence[T], pattern: str, names: Names[T]) -> list[T]:
    subscript = None if pattern.startswith("~") else _SUBSCRIPT.fullmatch(pattern)
    bare = subscript[1] if subscript else pattern
    found = [one for one in everyone if any(_matches_name(name, bare) for name in names(one))]
    if not found:
        known = sorted({name for one in everyone for name in names(one)})
        raise InventoryError(
            f"--limit: no host or group is named {bare!r}{nearest_hint(bare, known)}"
        )
    return _take_subscript(found, bare, subscript[2]) if subscript else found


def _matches_name(name: str, pattern: str) -> bool:
    if not pattern.startswith("~"):
        return fnmatchcase(name, pattern)
    try:
        return re.match(pattern[1:], name) is not None
    except re.error as error:
        raise InventoryError(f"--limit {pattern}: invalid regular expression: {error}") from None


def _take_subscript(found: Sequence[T], bare: str, subscript: str) -> list[T]:
    """`[2]`, `[-1]`, `[1:3]` (both ends count) or `[1:]` of those that ``bare`` matches."""
    parted = re.fullmatch(r"(\d+)[:-](\d*)", subscript)
    if parted:
        return list(found[int(parted[1]) : int(parted[2]) + 1 if parted[2] else None])
    number = int(subscript)
    if not -len(found) <= number < len(found):
        last = len(found) - 1
        raise InventoryError(f"--limit {bare}[{subscript}]: the last of them is {bare}[{last}]")
    return [found[number]]
