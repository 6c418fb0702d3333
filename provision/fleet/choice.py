"""Which release each host of a run should have: worked out from what all of them answered."""

from collections import Counter
from collections.abc import Callable, Mapping

from provision.build import must_fit, named_release, target_of
from provision.errors import HostFailed
from provision.fleet.past_runs import PAST_RUNS, PUT_BACK
from provision.fleet.release_track import OWN, ReleaseTrack
from provision.remote.messages import Unknown
from provision.resources.base import Answers

Fleet = Mapping[str, Answers]
"""What hosts answered, by name: those of the run, and others as far as they were asked."""

ChooseRelease = Callable[[str, Fleet], str | None]
"""A host's name -> the id of the release that it should run; None: this tree's."""


def this_tree(name: str, fleet: Fleet) -> str | None:
    """Every host should run the release that is made of this tree."""
    return None


def running_release(name: str, fleet: Fleet) -> str | None:
    """The one that the host runs; for a new host the one that most others of its kind run."""
    own, known = _current(fleet[name], OWN), fleet[name][OWN.question]
    if own and (own in known["kept"] or own in known["damaged"]):
        return own
    bad = bad_releases(fleet, OWN)
    used = Counter(_current(each, OWN) for each in fleet.values())
    good = [id for id, _ in used.most_common() if id and id not in bad]
    return next((id for id in good if _is_for(id, fleet[name])), None)


def _is_for(id: str, answers: Answers) -> bool:
    """Whether this machine has a release, and for such a host: its Python, machine and libc."""
    artifact = named_release(id)
    try:
        must_fit(artifact, target_of(answers["host",]))
    except HostFailed:
        return False
    return artifact.path is not None


def bad_releases(fleet: Fleet, track: ReleaseTrack) -> dict[str, str]:
    """The releases that were given up on any host, and why."""
    found: dict[str, str] = {}
    for name, answers in fleet.items():
        known = answers[track.question]
        for id, one in {} if isinstance(known, Unknown) else known["kept"].items():
            if one["bad"]:
                found.setdefault(id, f"on {name}: {one['bad']}")
    return found


def previous_release(name: str, fleet: Fleet, track: ReleaseTrack = OWN) -> str:
    """What the host ran before the last run that moved the fleet; what it runs if that left it out.

    Raises :class:`HostFailed` when that is not known, or not kept.
    """
    moves = {each: move for each in fleet if (move := _last_move(fleet[each], track))}
    current = _current(fleet[name], track)
    if moves and current:
        last = max(moves, key=lambda each: moves[each][0])
        if current != _current(fleet[last], track):
            return current
    if name not in moves:
        raise HostFailed("it keeps no earlier release that it could go back to")
    return moves[name][1]


def _last_move(answers: Answers, track: ReleaseTrack) -> tuple[str, str] | None:
    """When the host came to what it runs, and from which release that it could go back to."""
    known, past = answers[track.question], answers[PAST_RUNS]
    if isinstance(known, Unknown) or isinstance(past, Unknown):
        return None
    good = {id for id, one in known["kept"].items() if not one["bad"]} - {known["current"]}
    for entry in reversed(past):
        came = track.is_of(entry) and entry.get("release") == known["current"]
        if came and entry.get("from") in good and entry.get("result") != PUT_BACK:
            return str(entry.get("at", "")), str(entry["from"])
    return None


def _current(answers: Answers, track: ReleaseTrack) -> str | None:
    known = answers[track.question]
    return None if isinstance(known, Unknown) else known["current"]
