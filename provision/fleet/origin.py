"""What hosts ran before the release that a run moves them to: where they go if it is given up."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from provision.fleet.choice import left_by_rollback, unfinished_rollback
from provision.fleet.host_run import HostRun
from provision.fleet.past_runs import BEGUN, PAST_RUNS
from provision.fleet.run import Run

SETTLED_AFTER = timedelta(days=1)


def origins_of(host_runs: Sequence[HostRun], *, back: bool) -> dict[str, str | None]:
    """What each host ran before the release that it should run now, by its name.

    An interrupted upgrade may have switched the link already: then what still runs tells, or the
    host's history. That counts of a host whose upgrade did not come to its end, and of every host
    if others have yet to move, or the run is a rollback (``back``); else only settings change.
    """
    seen = {each.name: _seen_origin(each) for each in host_runs}
    staying = [each for each in host_runs if seen[each.name] == each.release]
    moves = back or len(staying) < len(host_runs)
    told = {each.name: _told_origin(each, moves=moves, back=back) for each in staying}
    return seen | told


def upgraded_before(
    host_runs: Sequence[HostRun], pending: Sequence[HostRun], origins: Mapping[str, str | None]
) -> list[HostRun]:
    """Hosts that an earlier run of the same upgrade had reached: its record says so.

    Not one that came to its end on a host which has yet to move: that has moved since.
    """
    left = {origins[each.name] for each in pending} - {None}
    past = (entry for each in pending for entry in each.answers[PAST_RUNS])
    ended = {entry.get("run") for entry in past if entry.get("result") == "ok"}
    others = (each for each in host_runs if each not in pending)
    found = (each for each in others if origins[each.name] in left - {each.release})
    return [each for each in found if _told_move(each).get("run") not in ended]


def left_releases(
    run: Run, origins: Mapping[str, str | None], moved: Sequence[HostRun]
) -> dict[HostRun, str]:
    """What each host left in this rollback, which ``moved`` it, or in one that was interrupted.

    The latter only by its own history: another host may tell of one that never was.
    """
    unfinished = unfinished_rollback(run.fleet, run.track)
    found: dict[HostRun, str] = {}
    for host_run in filter(run.is_well, run.host_runs):
        origin = origins[host_run.name]
        told = left_by_rollback(run.fleet[host_run.name], run.track)
        is_left = host_run in moved or (origin == told and origin in unfinished)
        if origin and origin != host_run.release and is_left:
            found[host_run] = origin
    return found


def _seen_origin(host_run: HostRun) -> str | None:
    known = host_run.answers[host_run.track.question]
    if known["current"] != host_run.release:
        return str(known["current"]) if known["current"] else None
    others = (str(id) for id in known["running"] if id != host_run.release)
    return next(others, host_run.release)


def _told_origin(host_run: HostRun, *, moves: bool, back: bool) -> str:
    entry = _told_move(host_run)
    moved = entry and moves and (back or not _is_settled(entry))
    if moved or entry.get("result") == BEGUN:
        return str(host_run.track.move_in(entry)[0])
    return host_run.release


def _told_move(host_run: HostRun) -> Mapping[str, Any]:
    """The entry of its history that tells how it came to its release; empty, if none does."""
    kept = host_run.answers[host_run.track.question]["kept"]
    for entry in reversed(host_run.answers[PAST_RUNS]):
        before, after = host_run.track.move_in(entry)
        if after == host_run.release and before in kept:
            return dict(entry)
    return {}


def _is_settled(entry: Mapping[str, Any]) -> bool:
    """Whether what a run did is too long ago to be part of one that goes on."""
    try:
        at = datetime.fromisoformat(entry["at"])
        return datetime.now(UTC) - at > SETTLED_AFTER
    except (ValueError, TypeError):  # not as a run writes it
        return True
