"""What a host ran before a run changes it, noted there until the change has come to its end.

A run that is interrupted leaves a host between two. Should the run that goes on with it fail, the
host goes back to what it ran before the first of them, and not to the half of the change that it
was left with.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from provision.fleet.host_run import HostRun
from provision.fleet.past_runs import ENDED, PAST_RUNS
from provision.fleet.release_track import ReleaseTrack
from provision.remote.messages import Operation, Question
from provision.remote.session import Session
from provision.resources.kept import Ran, what_runs

FOLDER = "/var/lib/gearman-deploy"
NOTE = f"{FOLDER}/before"
NOTE_LIMIT = 1 << 24  # bytes, unpacked

_question: Question = ("path", NOTE, "-", "text")


@dataclass(frozen=True)
class Before:
    """What ran. ``used``: the releases that were in use, of an app by its name.

    ``wanted``: those that the host was to have. ``last``: the last entry of its history then.
    ``left``: noted by an earlier run, which has left the host between two.
    """

    ran: Ran
    used: Mapping[str, str | None]
    wanted: Mapping[str, str]
    last: Mapping[str, Any] | None
    left: bool = False

    def holds_for(self, past: Sequence[Mapping[str, Any]]) -> bool:
        """Whether no run has come to its end on the host since, as its history tells."""
        if self.last is None:
            later = past
        elif self.last in past:
            later = past[past.index(self.last) + 1 :]
        else:
            return False
        return all(entry.get("result") not in ENDED for entry in later)


def note_what_runs(host_run: HostRun) -> Before:
    """What the host runs, or ran before the run that was interrupted there."""
    past = host_run.answers[PAST_RUNS]
    noted = _read_note(host_run.session)
    if noted and noted.holds_for(past):
        return replace(noted, left=True)
    wanted = {"": host_run.artifact.id, **{name: app.id for name, app in host_run.artifact.apps}}
    ran = what_runs(host_run.resources, host_run.session.ask)
    before = Before(ran, host_run.before, wanted, past[-1] if past else None)
    content = zlib.compress(msgspec.json.encode(before)).hex().encode()
    own = {"owner": "root", "group": "root"}
    steps = (
        Operation("directory", {"path": FOLDER, **own, "mode": "0750"}),
        Operation("file", {"path": NOTE, **own, "mode": "0600"}, content),
    )
    *_, outcome = host_run.session.apply(steps)
    if outcome.error:
        problem = f"what it runs is not noted, for a run that this one may leave: {outcome.error}"
        host_run.report.say(f"{host_run.name}: {problem}")
    return before


def find_ran(session: Session, track: ReleaseTrack, id: str) -> Ran | None:
    """What the host ran with this release, if that is what the last run that changed it left."""
    noted = _read_note(session)
    return noted.ran if noted and noted.used.get(track.app) == id else None


def _read_note(session: Session) -> Before | None:
    """The last note; one that cannot be read, as of another version, counts for nothing."""
    found = session.ask([_question])[_question]
    try:
        packed = bytes.fromhex(found["content"])
        unpacked = zlib.decompressobj().decompress(packed, NOTE_LIMIT)
        return msgspec.json.decode(unpacked, type=Before)
    except (KeyError, TypeError, ValueError, zlib.error):
        return None
