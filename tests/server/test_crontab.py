"""When crontab expressions match, as clocks change too."""

from datetime import UTC, datetime

import pytest

from gearman_py.server.crontab import next_run


def runs(cron: str, begin: str, number: int, zone: str = "Europe/Berlin") -> list[str]:
    """The next times after a time, all in UTC."""
    after, found = datetime.fromisoformat(f"2026-{begin}+00:00").timestamp(), []
    for _ in range(number):
        after = next_run(cron, zone, after)
        found.append(datetime.fromtimestamp(after, UTC).strftime("%m-%d %H:%M"))
    return found


def test_times_are_those_of_the_zone() -> None:
    assert runs("30 2 * * *", "01-10 12:00", 2) == ["01-11 01:30", "01-12 01:30"]
    assert runs("30 2 * * *", "07-10 12:00", 1) == ["07-11 00:30"]
    assert runs("30 2 * * *", "07-10 12:00", 1, "UTC") == ["07-11 02:30"]
    assert runs("30 5 * * MON", "01-10 12:00", 1, "Asia/Kolkata") == ["01-12 00:00"]


def test_time_that_is_left_out_in_spring_is_due_at_the_end_of_the_gap() -> None:
    """On 29 March 2026 the clock goes from 2:00 to 3:00."""
    days = ["03-28 01:30", "03-29 01:00", "03-30 00:30"]
    assert runs("30 2 * * *", "03-28 00:00", 3) == days
    every = ["03-29 00:30", "03-29 01:00", "03-29 01:30", "03-29 02:00"]
    assert runs("*/30 * * * *", "03-29 00:00", 4) == every


def test_time_that_comes_twice_in_autumn_is_due_once() -> None:
    """On 25 October 2026 the clock goes from 3:00 back to 2:00."""
    assert runs("30 2 * * *", "10-24 12:00", 2) == ["10-25 00:30", "10-26 01:30"]
    every = ["10-25 00:00", "10-25 00:30", "10-25 01:00", "10-25 01:30", "10-25 02:00"]
    assert runs("*/30 * * * *", "10-24 23:30", 5) == every


@pytest.mark.parametrize(
    ("cron", "zone", "why"),
    [
        ("0 5 * *", "UTC", "expected five fields"),
        ("0 0 5 * * *", "UTC", "expected five fields"),
        ("61 5 * * *", "UTC", "Bad minute"),
        ("9" * 5000 + " 5 * * *", "UTC", "5008 characters: a crontab expression has at most 500"),
        ("0 0 31 2 *", "UTC", "Bad day-of-month"),
        ("0 5 * * *", "Mars/Olympus", "unknown time zone Mars/Olympus"),
        ("0 5 * * *", "../../etc/passwd", "unknown time zone"),
        ("0 5 * * *", "Europe", "unknown time zone"),
        ("0 5 * * *", "", "unknown time zone"),
        ("0 5 * * *", "\0", "unknown time zone"),
    ],
)
def test_what_is_not_a_time_is_refused(cron: str, zone: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        next_run(cron, zone, 1e9)
