"""A rolling upgrade: staged and tried everywhere, then host by host, each seen to do its work.

First the release is put on all hosts, and does a job of each kind there, in a worker that serves
no other: a release that does not work is found before anything that runs is touched. Then,
group by group, one host goes first, and batches follow. A worker is reloaded, a new one beside
the old, so no function is without a worker meanwhile. A host on which the new release does not
do its work is put back; after more of them than allowed, so are those that were upgraded.

What is true is on the hosts: an upgrade that was interrupted goes on when it is run again.
"""

from functools import partial
from pathlib import Path

from provision.errors import HostFailed, RolledBack, ToolkitError, Unreachable
from provision.fleet import health_check
from provision.fleet import pool as hosts
from provision.fleet.accelerator import tell_pure_hosts
from provision.fleet.bad_releases import mark_bad
from provision.fleet.before_change import Before, note_what_runs
from provision.fleet.begin import begin_changes, lock_hosts
from provision.fleet.changed_servers import serves_before, try_switch
from provision.fleet.choice import previous_release, this_tree
from provision.fleet.deploy import DEFAULT
from provision.fleet.desired_state import Roles
from provision.fleet.health_check import (
    Unhealthy,
    Unserved,
    blames_release,
    check_running,
    check_staged,
    untried_functions,
    with_evidence,
)
from provision.fleet.host_run import HostRun, restart_instead
from provision.fleet.interrupts import tell_interrupt
from provision.fleet.left_servers import refuse_moves
from provision.fleet.origin import left_releases, origins_of, upgraded_before
from provision.fleet.past_runs import BEGUN, PUT_BACK, is_unfinished
from provision.fleet.release_track import ReleaseTrack
from provision.fleet.returned_workers import awaiting_workers
from provision.fleet.rollout_policy import RolloutPolicy
from provision.fleet.run import Connect, Run
from provision.fleet.waves import Waves
from provision.options import Options
from provision.report.events import PutBack, Skipped, Tried, Upgraded
from provision.report.folding import fold_hosts, fold_names
from provision.resources.kept import as_kept, as_ran, without_new_workers
from provision.resources.release import OldReleases

CAREFUL = RolloutPolicy()
OLDER_THAN_WORKER = (
    "try: if the release is from before this worker, take it out of the inventory, deploy, and "
    "roll back again"
)


def roll_out(
    folder: Path,
    roles: Roles,
    options: Options = DEFAULT,
    policy: RolloutPolicy = CAREFUL,
    *,
    to: str | None = None,
    back: bool = False,
    app: str = "",
    connect: Connect = hosts.connect,
) -> int:
    """Bring every host to release ``to``, or to this tree's. Returns an exit status.

    With ``app`` it is that app's release, or of its files as they are, and the rest stays.
    With ``back`` it is by default the one that the host ran before this one; and the release that
    is left is marked as bad: no deploy brings it back unasked.
    """
    track = ReleaseTrack(app)
    named = previous_release if back else this_tree
    choose = named if to is None else lambda name, fleet, track: to
    with Run(folder, roles, options, connect, choose, track) as run:
        run.goes_back = back
        rollout: Rollout

        def prepare() -> int | None:
            nonlocal rollout
            run.plan_hosts()
            rollout = Rollout(run, policy, blame=back)
            rollout.refuse_unsafe()
            refuse_moves(run)
            if not (to or back or app):
                tell_pure_hosts(run)
            run.report.recap(run.seconds)
            if unchecked := [each.name for each in run.pending if not each.plan.changes]:
                left = "an interrupted run did not check whether it works"
                run.report.say(f"{fold_names(unchecked)}: {left}")
            if not run.pending:
                rollout.finish_marks()
            return None if run.pending and rollout.may_begin() else run.status

        ended = begin_changes(run, "Roll back" if back else "Upgrade", prepare)
        if ended is not None:
            return ended
        try:
            status = rollout.upgrade_fleet()
        except KeyboardInterrupt:
            rollout.tell_releases()
            tell_interrupt(run)
            raise
        run.report.end(run.seconds, limit=status != RolledBack.status and run.takes_limit)
        rollout.tell_releases()
        return status


class Rollout:
    """One upgrade of the hosts of a run. ``blame``: what they leave is bad."""

    def __init__(self, run: Run, policy: RolloutPolicy, *, blame: bool) -> None:
        self._run = run
        self._policy = policy
        self._blame = blame
        self._pending = run.pending
        self._waves = Waves(run, policy)
        self._upgraded: list[HostRun] = []
        self._between: dict[str, tuple[str | None, str]] = {}  # of hosts that are being changed
        self._returned: dict[str, HostRun] = {}  # put back, and not yet asked whether it works
        self._put_back_any = False
        self._stuck: dict[str, ToolkitError] = {}  # neither upgraded nor put back
        self._away: set[str] = set()  # hosts that could not be reached, and need not be
        self._guilty = False  # the release, and not the host, was why one failed
        self._before: dict[str, Before] = {}  # of hosts that are changed
        self._origin = origins_of(run.host_runs, back=blame)
        self._earlier = upgraded_before(run.host_runs, self._pending, self._origin)
        self._running = {each.name: each.release_before for each in run.host_runs}

    def refuse_unsafe(self) -> None:
        """Find what should not be begun: it is told as the failure of its host."""
        for host_run in self._pending:
            if self._origin[host_run.name] is None:
                self._run.fail(host_run.name, HostFailed(host_run.track.absence))
        for host_run, function in self._waves.gaps():
            problem = (
                f"{function} would have no worker while this host restarts the only one "
                "(its unit file changes): add a worker, or say --gap"
            )
            self._run.fail(host_run.name, HostFailed(problem))

    def may_begin(self) -> bool:
        """Whether what failed until now is within --max-fail; what to do if not is told."""
        if self._earlier:
            names = fold_names([each.name for each in self._earlier])
            self._run.report.say(f"{names}: changed by an earlier run; goes back too if this fails")
        failed = self._run.failed
        self._away = {name for name, each in failed.items() if isinstance(each, Unreachable)}
        if failed.keys() == self._away and len(failed) <= self._policy.max_fail:
            return True
        told = "nothing was changed"
        if len(failed) < len(self._run.inventory.hosts):
            others = ",".join(filter(None, [self._run.options.limit, *(f"!{n}" for n in failed)]))
            told += f"; without {fold_names(list(failed))}: --limit '{others}'"
        self._run.report.say(told)
        return False

    def tell_releases(self) -> None:
        """Where the fleet stands."""
        for id in sorted(filter(None, set(self._running.values()))):
            runs_it = (name for name, runs in self._running.items() if runs == id)
            if names := [name for name in runs_it if name not in self._between]:
                where = fold_hosts(names, len(self._run.inventory.everyone))
                self._run.report.say(f"{id} runs on {where}")
        for name, (before, after) in self._between.items():
            both = f"{before} and {after}" if before != after else "its settings and the new ones"
            self._run.report.say(f"{name} is between {both}")

    # -- the upgrade ----------------------------------------------------------------------

    def upgrade_fleet(self) -> int:
        """Returns the exit status."""
        run = self._run
        run.for_each(self._pending, HostRun.recheck_plan)
        if run.failed.keys() - self._away:
            return run.status
        first = self._waves.first_hosts()
        run.for_each(first, self._stage_host)
        if not run.failed.keys() - self._away:
            run.for_each([each for each in self._pending if each not in first], self._stage_host)
        if run.failed.keys() - self._away:
            status = self._give_up()
            return status if self._guilty else run.status
        for wave in self._waves:
            run.for_each(wave, self._upgrade_host)
            if self._stuck or len(run.failed) > self._policy.max_fail:
                return self._give_up()
            self._check_returned(alone=True)
            if self._stuck:
                return self._give_up()
        if self._blame:
            self._mark_left()
        return run.status

    def finish_marks(self) -> None:
        """Where an earlier rollback changed all hosts, and no more."""
        left = left_releases(self._run, self._origin, []) if self._blame else {}
        if left:
            where = fold_names([each.name for each in left])
            ids = ", ".join(sorted({*left.values()}))
            self._run.report.say(f"{where}: came from {ids} by a rollback that was interrupted")
            if self._run.confirm(f"Mark {ids} as bad there"):
                lock_hosts(self._run)
                self._mark_left()

    def _mark_left(self) -> None:
        """Mark what hosts left in this rollback, and before, if it was interrupted."""
        who = hosts.describe_operator()["who"]
        for host_run, id in left_releases(self._run, self._origin, self._upgraded).items():
            mark_bad(host_run, id, f"rolled back by {who}")

    def _stage_host(self, host_run: HostRun) -> None:
        try:
            host_run.stage_changes()
            check_staged(host_run)
        except HostFailed as error:
            self._guilty = self._guilty or blames_release(error)
            host_run.workers_failed = isinstance(error, Unserved)
            self._run.record(host_run, error)
            if self._blame and isinstance(error, Unhealthy):
                raise HostFailed(f"{error}\n{OLDER_THAN_WORKER}") from None
            raise
        untried = untried_functions(host_run)
        self._run.report.show(Tried(host_run.name, host_run.release, self._run.seconds, untried))

    def _upgrade_host(self, host_run: HostRun) -> None:
        if serves_before(host_run):
            self._before[host_run.name] = note_what_runs(host_run)
            try_switch(self._run, host_run)
        self._run.record(host_run, result=BEGUN)
        self._between[host_run.name] = host_run.release_before, host_run.release
        try:
            if host_run.name not in self._before:
                self._before[host_run.name] = note_what_runs(host_run)
            with awaiting_workers(host_run):
                host_run.finish_changes()
            check_running(host_run, self._policy.settle)
        except ToolkitError as error:
            host_run.go_on()
            excused = isinstance(error, Unreachable | health_check.NotProved)
            self._guilty = self._guilty or not excused
            self._run.fail(host_run.name, with_evidence(host_run, error))
            self._run.record(host_run, error)
            self._put_back(host_run)
            return
        del self._between[host_run.name]
        self._upgraded.append(host_run)
        self._running[host_run.name] = host_run.release
        self._run.record(host_run)
        seconds = self._run.seconds
        self._run.report.show(Upgraded(host_run.name, host_run.release, seconds, self._blame))

    # -- the way back ---------------------------------------------------------------------

    def _give_up(self) -> int:
        """Put back what was upgraded, and mark the release as bad. Returns the exit status."""
        run = self._run
        first, error = next(each for each in run.failed.items() if each[0] not in self._away)
        others = [*self._upgraded, *self._earlier, *self._left_between()]
        for _ in hosts.run_on_each(others, self._put_back, run.options.parallel):
            pass
        self._check_returned()
        begun = {*run.failed, *(each.name for each in others)}
        for host_run in self._pending:
            if host_run.name not in begun:
                run.report.show(Skipped(host_run.name, tuple(run.failed)))
                if host_run.applied:
                    run.record(host_run, result=f"staged, not begun because of {first}")
        reason = f"{first}: {str(error).splitlines()[0]}"
        for host_run in run.host_runs if self._guilty and not self._blame else ():
            if self._origin[host_run.name] != host_run.release:  # else only settings were to change
                mark_bad(host_run, host_run.release, reason)
        if self._stuck:
            run.report.say("not every host works as before")
            return HostFailed.status
        if self._put_back_any:
            run.report.say("rolled back, and every host runs what it ran before")
        else:
            run.report.say("given up, before anything that runs was touched")
        return RolledBack.status

    def _left_between(self) -> list[HostRun]:
        """Those that an earlier run has left half changed, and this one has not begun."""
        return [
            each for each in self._pending if each.name not in self._before and is_unfinished(each)
        ]

    def _put_back(self, host_run: HostRun) -> None:
        run, origin = self._run, self._origin[host_run.name]
        if origin is None:
            return
        host, session, track = host_run.host, host_run.session, host_run.track
        try:
            before = track.with_release(host_run.artifact, origin)
            wanted = run.desired.resources_of(host, before)
            # They are pruned once it is known which of them are bad.
            wanted = [each for each in wanted if not isinstance(each, OldReleases)]
            noted = self._before.get(host.name) or note_what_runs(host_run)
            if noted.wanted.get(track.app) == origin:  # only settings changed
                wanted = as_ran(wanted, noted.ran)
            else:
                kept = as_kept(wanted, session.ask, noted.ran.texts)
                wanted = without_new_workers(kept, noted.ran)
            back = HostRun(host, session, run.report, wanted, host_run.answers, before, track)
            back.release_before = host_run.release
            try:
                back.apply_all()
            except HostFailed:
                # A worker that cannot be reloaded any more can still be restarted.
                back.apply_all(restart_instead)
        except ToolkitError as error:
            self._tell_stuck(host_run.name, origin, error)
            return
        self._returned[host_run.name] = back
        self._put_back_any = True

    def _check_returned(self, *, alone: bool = False) -> None:
        """See that hosts work that were put back: when all are, for one may do another's jobs."""
        returned, self._returned = self._returned, {}
        check = partial(self._check_back, alone=alone)
        for _ in hosts.run_on_each(returned.values(), check, self._run.options.parallel):
            pass

    def _check_back(self, back: HostRun, *, alone: bool) -> None:
        try:
            check_running(back, self._policy.settle, alone=alone, put_back=True)
        except ToolkitError as error:
            self._stuck[back.name] = error
            self._run.report.say(f"{back.name} runs {back.release} again, but not well: {error}")
            return
        finally:
            self._running[back.name] = back.release
            self._between.pop(back.name, None)
        self._run.record(back, result=PUT_BACK)
        self._run.report.show(PutBack(back.name, back.release, self._run.seconds))

    def _tell_stuck(self, name: str, origin: str, error: ToolkitError) -> None:
        self._stuck[name] = error
        self._run.report.say(f"{name} could not be put back to {origin}: {error}")
