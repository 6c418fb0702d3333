"""When a crontab expression matches next: what Debian's cron does, also as clocks change."""

from datetime import datetime
from math import inf

from gearman_py.broker.schedules import NoSchedules
from gearman_py.optional_module import import_optional

FIELDS = 5
LONGEST = 500  # characters


def next_run(cron: str, zone: str, after: float) -> float:
    """The next time after ``after`` (seconds since 1970) in a time zone; inf: there is none.

    Raises ValueError if the expression or the zone is not known, NoSchedules if cronsim is not
    installed.
    """
    from zoneinfo import ZoneInfo  # few servers need it

    cronsim = import_optional(
        "cronsim", "schedules need cronsim", "'gearman_py[schedules]'", NoSchedules
    )
    try:
        start = datetime.fromtimestamp(after, ZoneInfo(zone))
    except (KeyError, ValueError, OSError):
        raise ValueError(f"unknown time zone {zone}; expected one such as Europe/Berlin") from None
    if len(cron) > LONGEST:
        raise ValueError(f"{len(cron)} characters: a crontab expression has at most {LONGEST}")
    if len(cron.split()) != FIELDS:
        raise ValueError(
            f"{cron}: expected five fields: minute, hour, day of the month, month, day of the week"
        )
    try:
        return float(next(cronsim.CronSim(cron, start)).timestamp())
    except cronsim.CronSimError as error:
        raise ValueError(f"{cron}: {error}") from None
    except StopIteration:
        return inf
