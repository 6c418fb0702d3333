"""What was done to the hosts, and which releases they keep: as they tell it themselves."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from provision.errors import HostFailed
from provision.fleet import pool as hosts
from provision.fleet.ask_all import AskAll
from provision.fleet.choice import release_for
from provision.fleet.past_runs import BEGUN, FACTS, PAST_RUNS, format_moment
from provision.fleet.run import Connect
from provision.inventory.host import Host, Inventory
from provision.inventory.queue import release_extras
from provision.options import Options
from provision.release.app import apps_of
from provision.release.build import built_release
from provision.release.target import Target, target_of
from provision.remote.messages import Unknown
from provision.report.events import Row
from provision.report.folding import fold_names
from provision.resources.base import Answers
from provision.wording import format_count

MOST_ASKED = int(PAST_RUNS[-1])  # entries of a host; one that lies may tell more
BY_WHOM = ("run", "who", "doing")
TOLD_ALIKE = (*BY_WHOM, "result", "release", "from", "apps")  # by hosts that are told in one row

Rows = list[dict[str, Any]]


def history(folder: Path, options: Options, *, connect: Connect = hosts.connect) -> int:
    """Show every deploy, upgrade and rollback that the hosts remember, the latest last."""
    return _show_rows(
        folder, options, connect, lambda found, _: rows_of_runs(found), _history_lines
    )


def releases(folder: Path, options: Options, *, connect: Connect = hosts.connect) -> int:
    """Show the releases that the hosts keep, the latest first."""
    return _show_rows(folder, options, connect, _rows_of_releases, _release_lines)


def _show_rows(
    folder: Path,
    options: Options,
    connect: Connect,
    rows: Callable[[dict[str, Answers], Inventory], Rows],
    lines: Callable[[dict[str, Any], int, dict[str, Any]], list[str]],
) -> int:
    asked = AskAll(folder, options, connect=connect)
    found = {host.name: answers for host, answers in asked.answers(_ask_facts)}
    before: dict[str, Any] = {}
    for row in rows(found, asked.inventory):
        asked.report.show(Row(row, lines(row, len(asked.hosts), before), wraps=True))
        before = row
    return asked.status


def _ask_facts(host: Host, connect: Connect) -> Answers:
    with connect(host) as session:
        apps = (("releases", app.root) for app in apps_of(host).values())
        return session.ask((*FACTS, *apps))


def rows_of_runs(found: dict[str, Answers]) -> Rows:
    """One row for each run and how it went, with the hosts that tell it so."""
    runs: dict[tuple[str, ...], dict[str, Any]] = {}
    for host, entry in _all_entries(found):
        day = str(entry.get("at"))[:10]  # a host that gives another dates its own row alone
        key = (day, *(str(entry.get(name)) for name in TOLD_ALIKE))
        row = runs.setdefault(key, {**entry, "hosts": [], "changes": 0})
        row["hosts"].append(host)
        row["changes"] += int(entry.get("changes", 0))
    began: dict[str, str] = {}
    for row in runs.values():
        run, at = str(row.get("run")), str(row.get("at"))
        began[run] = min(at, began.get(run, at))
    return sorted(runs.values(), key=lambda row: (began[str(row.get("run"))], str(row.get("run"))))


def _all_entries(found: dict[str, Answers]) -> Iterator[tuple[str, dict[str, Any]]]:
    for host, answers in found.items():
        known = answers[PAST_RUNS]
        entries = [] if isinstance(known, Unknown) else known[-MOST_ASKED:]
        runs: dict[object, list[dict[str, Any]]] = {}
        for number, entry in enumerate(entries):
            runs.setdefault(entry.get("run", number), []).append(entry)
        yield from ((host, _whole_run(steps)) for steps in runs.values())


def _whole_run(steps: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a run did on a host, of which its history may have several lines."""
    ended = [step for step in steps if step.get("result") != BEGUN]
    if not ended:
        return {**steps[-1], "result": "begun, not finished"}
    results = dict.fromkeys(str(step.get("result")) for step in ended)
    changes = max(int(step.get("changes", 0)) for step in ended)
    return {**ended[0], "changes": changes, "result": ", then ".join(results)}


def _history_lines(row: dict[str, Any], of: int, before: dict[str, Any]) -> list[str]:
    """When, who, what, and how it went; the row ``before`` may be of the same run."""
    at = format_moment(row["at"])
    moves = [row, *row.get("apps", {}).values()]
    moved = ", ".join(map(_format_move, moves))
    changes = format_count(row["changes"], "change")
    same = "run" in row and all(row.get(name) == before.get(name) for name in BY_WHOM)
    head = [] if same else [f"{at}  {row['who']}  {row['doing']}"]
    return [*head, f"    {_format_hosts(row['hosts'], of)}: {moved}, {changes}, {row['result']}"]


def _format_move(move: Mapping[str, Any]) -> str:
    before, after = move["from"], move["release"]
    return after if before in (None, after) else f"{before} -> {after}"


def _rows_of_releases(found: dict[str, Answers], inventory: Inventory) -> Rows:
    """One row for each release, with the hosts that keep it, use it, run it."""
    rows: dict[str, dict[str, Any]] = {}
    told = ((host, *each) for host, answers in found.items() for each in answers.items())
    for host, question, known in told:
        if question[0] != "releases" or isinstance(known, Unknown):
            continue
        for id, one in known["kept"].items():
            row = rows.setdefault(
                id, {"release": id, "at": 0, "kept": [], "current": [], "running": [], "bad": None}
            )
            row["kept"].append(host)
            row["at"] = max(row["at"], one["at"])
            row["bad"] = row["bad"] or one["bad"]
            row["current"] += [host] if known["current"] == id else []
            row["running"] += [host] if id in known["running"] else []
    extras = release_extras(inventory)
    asked = list(_known_targets(found.values()))
    built = {each: built_release(each, extras=extras) for each in {target for target, _ in asked}}
    trees = {release_for(made, host).id for each, host in asked if (made := built[each])}
    for id, row in rows.items():
        row["tree"] = id in trees
    return sorted(rows.values(), key=lambda row: -row["at"])


def _known_targets(found: Iterable[Answers]) -> Iterator[tuple[Target, Answers]]:
    """What kind of host each is, of those that a release can be made for."""
    for answers in found:
        if not isinstance(answers["host",], Unknown):
            with suppress(HostFailed):
                yield target_of(answers["host",]), answers


def _release_lines(row: dict[str, Any], of: int, before: dict[str, Any]) -> list[str]:
    """Its id, since when, and where."""
    at = datetime.fromtimestamp(row["at"]).astimezone().strftime("%Y-%m-%d %H:%M")
    late = [host for host in row["running"] if host not in row["current"]]
    marks = [f"current on {_format_hosts(row['current'], of)}"] if row["current"] else []
    marks += [f"still running on {_format_hosts(late, of)}"] if late else []
    more = row["kept"] if row["kept"] != row["current"] else []
    marks += [f"kept on {_format_hosts(more, of)}"] if more else []
    marks += ["this tree's"] if row["tree"] else []
    marks += [f"bad: {row['bad']}"] if row["bad"] else []
    return [f"{row['release']}  {at}  {'; '.join(marks)}".rstrip()]


def _format_hosts(names: Sequence[str], of: int) -> str:
    return f"all {of} hosts" if len(names) == of > 1 else fold_names(names)
