"""From a plan to hosts that are locked: planned, shown, confirmed."""

from collections.abc import Callable, Mapping
from secrets import token_hex
from time import monotonic, sleep

from provision.errors import HostFailed, Locked, ToolkitError
from provision.fleet import pool as hosts
from provision.fleet.host_run import HostRun
from provision.fleet.run import Run
from provision.pki import keep_authority

LOCK_INTERVAL = 1.0  # seconds between two attempts to lock a host

CHANGES_PENDING = 2  # the status of a plan that is not empty, and of one that was not confirmed
NOTHING_CHANGED = "refused: nothing was changed on any host"


def begin_changes(run: Run, verb: str, prepare: Callable[[], int | None]) -> int | None:
    """Plan, ask, and lock the hosts. Returns an exit status if nothing is to be changed.

    ``prepare`` plans the hosts and says what it has to say; its status ends this. After a wait for
    another run, which may have changed the hosts, they are planned again; what differs from what
    was confirmed is asked again.
    """
    run.inventory.refuse_mistakes()
    confirmed = None
    while True:
        status = prepare()
        if status is not None:
            return status
        shown = {each.name: each.operations for each in run.pending}
        try:
            if shown != confirmed and not run.confirm(verb):
                return run.status or CHANGES_PENDING
            confirmed = shown
            run.start_clock()
            if not lock_hosts(run):
                return None
        except KeyboardInterrupt:
            run.report.say("interrupted before any host was changed")
            raise
        run.report.say("the other run may have changed hosts: planning again")


def lock_hosts(run: Run) -> bool:
    """Lock every host, or none: one that someone else has locked raises Locked.

    One that cannot be locked for another reason has failed. Returns whether another run was
    waited for.
    """
    # In one order for every run, so that two runs never have each other's hosts.
    until = monotonic() + run.options.wait
    in_order = sorted(run.host_runs, key=lambda each: each.name)
    nonces = {token_hex(8): each for each in in_order}
    waited = [
        _lock_host(run, each, until, nonce, nonces)
        for nonce, each in nonces.items()
        if run.is_well(each)
    ]
    if made := keep_authority(run.inventory.everyone[0].folder):
        run.report.say(f"the certificate authority of this fleet is new: {made}; keep its key")
    return any(waited)


def _lock_host(
    run: Run, host_run: HostRun, until: float, nonce: str, nonces: Mapping[str, HostRun]
) -> bool:
    """Returns whether it had to wait. ``nonces``: what each host is told alone."""
    told = False
    while True:
        try:
            host_run.session.lock(hosts.lock_holder(nonce))
            return told
        except Locked as error:
            same = nonces.get(error.nonce, host_run)
            if same is not host_run:
                for each, other in ((host_run, same), (same, host_run)):
                    problem = (
                        f"{each.name} is the same machine as {other.name}, which this run has "
                        "locked: leave one of them out of the inventory"
                    )
                    run.fail(each.name, HostFailed(problem))
                return told
            if monotonic() >= until:
                raise
            if not told:
                run.report.say(f"{error}; waiting")
            told = True
            sleep(LOCK_INTERVAL)
        except ToolkitError as error:
            run.fail(host_run.name, error)
            return told
