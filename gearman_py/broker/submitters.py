"""Who submits the jobs of a function: connections that are open, and the last that have left.

    submitters NAME

A submission is counted at its connection, where the accelerator does so too. All else is done
when a connection ends, or when it is asked.
"""

from collections.abc import Iterator, Sequence

from gearman_py.broker.limits import MAX_FORMER_SUBMITTERS, MAX_KEPT_ID, MAX_SUBMITTED
from gearman_py.broker.rules import Rules
from gearman_py.broker.state import Function, Peer
from gearman_py.broker.stats import find_counts, read_name
from gearman_py.protocol.text import error, printable

MAX_LISTED = 100

Rows = Iterator[bytes | None]


def note_submitter(peer: Peer, function: Function, now: float) -> None:
    """A peer submits to a function for the first time."""
    if len(peer.submissions) >= MAX_SUBMITTED:
        keep_submissions(peer, now)
    peer.submissions[function] = [1]


def keep_submissions(peer: Peer, now: float) -> None:
    """Have the functions remember what a peer has submitted, which leaves."""
    who = peer.address, peer.client_id[:MAX_KEPT_ID]
    for function, (count,) in peer.submissions.items():
        former = function.counts.submitters
        before, _ = former.pop(who, (0, 0.0))
        former[who] = before + count, now  # as the last one
        if len(former) > MAX_FORMER_SUBMITTERS:
            del former[next(iter(former))]
    peer.submissions.clear()


def list_submitters(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes | Rows:
    """submitters NAME, percent-encoded: those of most submissions first.

    ADDRESS <TAB> client_id=ID <TAB> connections=2 <TAB> submissions=3 <TAB> seconds=0

    ``seconds``: how long ago the last connection was closed, if none is open.
    """
    if len(words) != 2:
        return error(b"INVALID_ARGUMENTS", b"submitters NAME")
    function, counted = find_counts(broker, read_name(words[1]))
    if counted is None:
        return error(b"UNKNOWN_FUNCTION")
    return _list(broker, function, counted.submitters)


def _list(
    broker: Rules, function: Function | None, former: dict[tuple[str, bytes], tuple[int, float]]
) -> Rows:
    found = {who: [0, count, when] for who, (count, when) in former.items()}
    for peer in list(broker.peers) if function else ():
        yield None
        if function in peer.submissions:
            row = found.setdefault((peer.address, peer.client_id[:MAX_KEPT_ID]), [0, 0, 0.0])
            row[0] += 1
            row[1] += peer.submissions[function][0]
    rows = sorted(found.items(), key=lambda row: (-row[1][1], row[0]))
    for (address, client_id), (connections, count, when) in rows[:MAX_LISTED]:
        seconds = 0.0 if connections else max(0.0, broker.now - when)
        yield b"%b\tclient_id=%b\tconnections=%d\tsubmissions=%d\tseconds=%.0f" % (
            *(address.encode(), printable(client_id), connections, count, seconds),
        )
