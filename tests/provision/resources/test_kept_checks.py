"""The checks of a worker that are kept beside the release that is to pass one of them."""

import json

import pytest

from provision.resources.sample_jobs import (
    CHECK_LIMIT,
    EARLIER_CHECKS,
    keep_earlier_checks,
    read_checks,
    write_check,
)


def check(expect: str) -> str:
    return write_check("f", {"workload": "a", "expect": expect}).decode()


def expected(text: str) -> list[str]:
    """What each check expects, as it judges answers."""
    numbers = [f"{number}" for number in range(20)]
    return [
        next((each for each in numbers if sample.judge(each.encode()) is None), "")
        for function, sample in read_checks(text)
        if function
    ]


def test_the_last_comes_first_and_a_few_earlier_ones_stay() -> None:
    text = check("0")
    for number in range(1, 10):
        text = keep_earlier_checks(check(str(number)), text)
        assert keep_earlier_checks(check(str(number)), text) == text
    assert expected(text) == ["9", "8", "7", "6", "5"]
    assert len(expected(text)) == 1 + EARLIER_CHECKS
    assert expected(keep_earlier_checks(check("7"), text)) == ["7", "9", "8", "6", "5"]


def test_a_large_check_leaves_the_earlier_ones_out() -> None:
    first = check("x" * (CHECK_LIMIT // 2))
    second = check("y" * (CHECK_LIMIT // 2))
    assert keep_earlier_checks(second, first) == second
    too_large = check("z" * CHECK_LIMIT)
    assert [
        function for function, _ in read_checks(keep_earlier_checks(too_large, check("1")))
    ] == [
        "",
        "f",
    ]


@pytest.mark.parametrize(
    "text", ["", "x", "[]", "{}", "null", '{"earlier": 1}', '{"earlier": ["x", 1]}', "[" * 10**5]
)
def test_what_is_no_check_counts_for_nothing(text: str) -> None:
    assert {function for function, _ in read_checks(text)} == {""}
    assert expected(keep_earlier_checks(check("1"), text)) == ["1"]
    assert json.loads(keep_earlier_checks(check("1"), text))["function"] == "f"
