"""What the toolkit prints agrees in number, and lines up."""

import pytest

from provision.wording import format_count, format_table


@pytest.mark.parametrize(("number", "text"), [(0, "0 changes"), (1, "1 change"), (2, "2 changes")])
def test_a_noun_agrees_with_its_number(number: int, text: str) -> None:
    assert format_count(number, "change") == text


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert list(format_table([("a", "bcd", ""), ("ab", "c", "d")])) == ["a   bcd", "ab  c    d"]
    assert list(format_table([])) == []
