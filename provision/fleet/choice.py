"""Which release each host of a run should have: worked out from what all of them answered."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from packages.accelerator import is_turned_off
from provision.errors import HostFailed
from provision.fleet.past_runs import BACK, PAST_RUNS, PUT_BACK
from provision.fleet.release_track import OWN, ReleaseTrack
from provision.release.build import Artifact, named_release
from provision.release.manifest import must_fit
from provision.release.target import target_of
from provision.remote.messages import Answer, Unknown
from provision.resources.base import Answers

Fleet = Mapping[str, Answers]
"""What hosts answered, by name: those of the run, and others as far as they were asked."""

ChooseRelease = Callable[[str, Fleet, ReleaseTrack], str | None]
"""A host's name -> the id of the track's release that it should run; None: this tree's."""


def this_tree(name: str, fleet: Fleet, track: ReleaseTrack) -> str | None:
    """Every host should run the release that is made of this tree, and of the app's files here."""
    return None


def running_release(name: str, fleet: Fleet, track: ReleaseTrack = OWN) -> str | None:
    """The one that the host runs; for a new host the one that most others of its kind run."""
    own, known = _current(fleet[name], track), fleet[name][track.question]
    if own and (own in known["kept"] or own in known["damaged"]):
        return own
    bad = bad_releases(fleet)
    used = Counter(_current(each, track) for each in fleet.values())
    good = [id for id, _ in used.most_common() if id and id not in bad]
    return next((id for id in good if _is_for(track, id, fleet[name])), None)


def release_for(made: Artifact, answers: Answers) -> Artifact:
    """``made`` of this tree; or what the host runs, if that is the same and has the accelerator.

    What a compiler makes differs from machine to machine, and some have none: a host does not lose
    the accelerator by who upgrades it, but by GEARMAN_PURE=1.
    """
    known, current = answers.get(OWN.question), _current(answers, OWN)
    runs = _kept(known).get(current or "", {})
    same = made.source and runs.get("accelerated") and runs.get("source") == made.source
    return named_release(current) if current and same and not is_turned_off() else made


def named_or_running(id: str) -> ChooseRelease:
    """Release ``id``, of gearman_py or of an app; what it is not of stays as it runs."""

    def choose(name: str, fleet: Fleet, track: ReleaseTrack) -> str | None:
        apps = {ReleaseTrack.of_root(root).app for each in fleet.values() for root in _roots(each)}
        owner = app if (app := id.rpartition("-")[0]) in apps else ""
        return id if track.app == owner else running_release(name, fleet, track)

    return choose


def _roots(answers: Answers) -> list[str]:
    return [question[1] for question in answers if question[0] == "releases"]


def _is_for(track: ReleaseTrack, id: str, answers: Answers) -> bool:
    """Whether this machine has a release, and for such a host: its Python, machine and libc."""
    artifact = track.named(id)
    try:
        must_fit(artifact, target_of(answers["host",]))
    except HostFailed:
        return False
    return artifact.path is not None


def bad_releases(fleet: Fleet) -> dict[str, str]:
    """The releases that were given up on any host, and why."""
    found: dict[str, str] = {}
    for name, answers in sorted(fleet.items()):  # however fast each host answered
        for root in _roots(answers):
            known = answers["releases", root]
            if known is None or isinstance(known, Unknown):
                continue
            for id, why in known["given_up"].items():
                found.setdefault(id, f"on {name}: {why.removeprefix(f'{name}: ')}")
    return found


def _kept(known: Answer | None) -> Mapping[str, Any]:
    return {} if known is None or isinstance(known, Unknown) else known["kept"]


def previous_release(name: str, fleet: Fleet, track: ReleaseTrack = OWN) -> str:
    """What the host ran before the last run that moved the fleet; what it runs if that left it out.

    If that was a rollback that did not come to its end, it goes on.
    Raises :class:`HostFailed` when that is not known, or not kept.
    """
    moves = _last_moves(fleet, track)
    current = _current(fleet[name], track)
    if current and (unfinished := unfinished_rollback(fleet, track)):
        return unfinished.get(current, current)
    if moves and current:
        last = max(moves.values(), key=lambda each: each.at)
        if current != last.after and name not in _moved_with(last, moves):
            return current
    if name not in moves:
        raise HostFailed(_why_stays(fleet[name], track))
    return moves[name].before


def _moved_with(last: "_Move", moves: "Mapping[str, _Move]") -> set[str]:
    """The hosts that a run moved which brought any host to the release of the last move.

    Hosts of another Python have another release of the same code.
    """
    runs = {each.run for each in moves.values() if each.after == last.after} - {""}
    return {name for name, each in moves.items() if each.run in runs}


def unfinished_rollback(fleet: Fleet, track: ReleaseTrack) -> dict[str, str]:
    """The release that an interrupted rollback leaves -> the one that it goes to.

    One that came to its end has marked what it left as bad.
    """
    moves = _last_moves(fleet, track).values()
    last = max(moves, key=lambda each: (each.at, each.back), default=None)
    if last is None or not last.back:
        return {}
    return {each.before: each.after for each in moves if each.run == last.run}


def left_by_rollback(answers: Answers, track: ReleaseTrack) -> str | None:
    """The release from which a host came by a rollback to the one that it runs."""
    move = _last_move(answers, track)
    return move.before if move and move.back else None


def _why_stays(answers: Answers, track: ReleaseTrack) -> str:
    """Why a host has no release that it could go back to."""
    current, kept = _current(answers, track), _kept(answers.get(track.question))
    earlier = [id for id in kept if id != current]
    if not earlier:
        return "it keeps no other release that it could go back to"
    if good := [id for id in earlier if not kept[id]["bad"]]:
        return (
            f"its history does not tell what ran before {current}; say --to: it keeps "
            f"{', '.join(good)}"
        )
    bad = ", ".join(f"{id} ({kept[id]['bad']})" for id in earlier)
    return f"the other releases that it keeps were given up, {bad}: say --to and --again"


@dataclass(frozen=True)
class _Move:
    """How a host came to what it runs. ``back``: by a rollback."""

    at: str
    run: str
    before: str
    after: str
    back: bool


def _last_moves(fleet: Fleet, track: ReleaseTrack) -> dict[str, _Move]:
    """By host; only from a release that it could go back to."""
    return {each: move for each in fleet if (move := _last_move(fleet[each], track))}


def _last_move(answers: Answers, track: ReleaseTrack) -> _Move | None:
    current, past = _current(answers, track), answers[PAST_RUNS]
    if isinstance(past, Unknown):
        return None
    kept = _kept(answers.get(track.question))
    good = {id for id, one in kept.items() if not one["bad"]} - {current}
    for entry in reversed(past):
        before, after = track.move_in(entry)
        if after == current and before in good and entry.get("result") != PUT_BACK:
            at, run = (str(entry.get(each, "")) for each in ("at", "run"))
            return _Move(at, run, str(before), str(after), bool(entry.get(BACK)))
    return None


def _current(answers: Answers, track: ReleaseTrack) -> str | None:
    known = answers.get(track.question)
    return None if known is None or isinstance(known, Unknown) else known["current"]
