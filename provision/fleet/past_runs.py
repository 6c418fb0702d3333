"""What a host remembers: its deploys, upgrades and rollbacks, each as a line of JSON."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from provision.errors import Interrupted, ToolkitError
from provision.fleet.host_run import HostRun
from provision.fleet.pool import describe_operator
from provision.invoke_line import invoke_line
from provision.release.build import ON_HOSTS
from provision.remote.messages import Question

HISTORY_FILE = "/var/lib/gearman-deploy/history.jsonl"
PAST_RUNS: Question = ("history", HISTORY_FILE, "50")
BEGUN, PUT_BACK = "begun", "rolled back"  # results, besides "ok"
FAILED = "failed: "  # and why
ENDED = ("ok", PUT_BACK)  # results of runs that came to their end on a host
BACK = "back"  # set in the entries of a rollback
RETIRES = "retires"  # set in those of a retirement, on hosts that leave
GATED = "gated"  # set in those of upgrades and rollbacks, which see whether a host works
FACTS: tuple[Question, ...] = (("host",), ("releases", ON_HOSTS), PAST_RUNS)


def _app_moves(host_run: HostRun) -> dict[str, dict[str, str | None]]:
    """Apps that a deploy brought to another release, or brought at all."""
    apps = () if host_run.track.app else host_run.artifact.apps
    moves = {name: {"release": app.id, "from": host_run.before[name]} for name, app in apps}
    return {name: move for name, move in moves.items() if move["release"] != move["from"]}


def is_unfinished(host_run: HostRun) -> bool:
    """Whether a run that was to bring this release did not come to its end on the host."""
    for entry in reversed(host_run.answers[PAST_RUNS]):
        if entry.get("result") in ENDED:
            return False
        if entry.get("result") == BEGUN and RETIRES not in entry:
            return host_run.track.move_in(entry)[1] == host_run.release
    return False


def interrupted_deploy(host: str, past: Sequence[Mapping[str, Any]]) -> str:
    """That a deploy of a host was left, of which nothing is left to do; "" if none was left."""
    for entry in reversed(past):
        result = str(entry.get("result", ""))
        if result == BEGUN and not {RETIRES, GATED} & entry.keys():
            at = format_moment(entry["at"])
            return (
                f"{host}: the deploy that {entry.get('who')} began at {at} is finished: nothing of "
                "it was left to do"
            )
        if result in (*ENDED, BEGUN) or result.startswith(FAILED):
            return ""
    return ""


def format_moment(at: str) -> str:
    """A time of a history in this machine's time zone; what is not one, as the host has it."""
    try:
        return datetime.fromisoformat(at).astimezone().strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError):
        return at


def begun_retirement(host: str, past: Sequence[Mapping[str, Any]]) -> str:
    """That a retirement of a host has not come to its end, and what to do; "" if that is not so."""
    for entry in reversed(past):
        if entry.get("result") in ENDED:
            return ""
        if RETIRES in entry:
            at = format_moment(entry["at"])
            return (
                f"its retirement was begun at {at} by {entry.get('who')} and did not end: "
                f"`{invoke_line('retire', host)}` finishes it, `{invoke_line('deploy')}` takes it "
                "back"
            )
    return ""


def ended_retirement(past: Sequence[Mapping[str, Any]]) -> str:
    """That the last run took a host out of the fleet, and what to do; "" if that is not so."""
    last = past[-1] if past else {}
    if RETIRES not in last or last.get("result") != "ok":
        return ""
    return (
        f"it was retired at {format_moment(last['at'])} by {last.get('who')}: delete it from the "
        f"inventory, or `{invoke_line('deploy')}` installs it again"
    )


def is_retiring(host_run: HostRun) -> bool:
    """Whether a retirement of the host was begun, and neither finished nor taken back."""
    return bool(begun_retirement(host_run.name, host_run.answers[PAST_RUNS]))


def describe_failure(error: ToolkitError) -> str:
    """The result of a run that it ended on a host."""
    first = str(error).splitlines()[0]
    return first if isinstance(error, Interrupted) else f"{FAILED}{first}"


def write_entry(
    host_run: HostRun, run_id: str, result: str, seconds: float, flags: Mapping[str, bool]
) -> dict[str, Any]:
    """Tell the host what was done to it, or begins there, and return the entry of its history.

    ``flags``: BACK, RETIRES and GATED. Raises :class:`ToolkitError`.
    """
    entry: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": run_id,
        **describe_operator(),
        **({"app": host_run.track.app} if host_run.track.app else {}),
        "release": host_run.release,
        "from": host_run.release_before,
        **({"apps": moves} if (moves := _app_moves(host_run)) else {}),
        **{name: True for name, is_set in flags.items() if is_set},
        "changes": host_run.applied,
        "result": result,
        "seconds": round(seconds, 1),
    }
    host_run.is_begun = host_run.is_begun or result == BEGUN
    host_run.is_finished = result in ENDED
    host_run.session.record(HISTORY_FILE, entry)
    return entry
