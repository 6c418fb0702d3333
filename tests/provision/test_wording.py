"""What the toolkit prints agrees in number, and lines up."""

import pytest

from gearman_py.config import format_size
from provision.wording import format_count, format_table


@pytest.mark.parametrize(("number", "text"), [(0, "0 changes"), (1, "1 change"), (2, "2 changes")])
def test_a_noun_agrees_with_its_number(number: int, text: str) -> None:
    assert format_count(number, "change") == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (2**20 - 1, "1 MiB"),
        (300 * 2**20, "300 MiB"),
        (5000 * 2**30, "5000 GiB"),
    ],
)
def test_a_size_is_told_in_powers_of_1024(number: int, text: str) -> None:
    assert format_size(number) == text


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert list(format_table([("a", "bcd", ""), ("ab", "c", "d")])) == ["a   bcd", "ab  c    d"]
    assert list(format_table([])) == []
