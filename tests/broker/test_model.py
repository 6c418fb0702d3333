"""The broker against a model so small that it is obviously right, driven at random.

The model is a dict of jobs, each with what must be true of it: who waits, who runs it and until
when, whether it must be done, how often it was lost, which jobs are kept as failed, and of which
the results are kept. After
every step: no job is lost, none runs
twice at once, every waiting client was answered exactly as often as it should be, the counts of
the text commands are right, and a worker was given the job that it should be given. With a
durable queue the server may restart, and its disk may fail: what was acknowledged is there again.
It is run by test_scheduled_model.py, which adds schedules.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from math import inf

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gearman_py.broker import admin_commands, counts
from gearman_py.broker.broker import Broker
from gearman_py.broker.failed_jobs import FAILED_NAME, FailedJobs, parse_failed_record
from gearman_py.broker.kept_results import RESULT_NAME, KeptResults, parse_result_record
from gearman_py.broker.limits import MAX_OVERDUE, MAX_TIMEOUTS
from gearman_py.broker.queues import Queues
from gearman_py.broker.restriction_records import RECORD_NAME
from gearman_py.broker.schedules import SCHEDULE_NAME
from gearman_py.broker.state import Peer
from gearman_py.broker.stored_jobs import restore_record
from gearman_py.protocol.codec import RESPONSE, Decoder
from gearman_py.protocol.packets import Packet
from gearman_py.store.base import Record
from tests.broker.snapshots import hand_over
from tests.broker.test_schedules import next_run

FUNCTIONS = [b"f", b"g"]
UNIQUES = [b"", b"u", b"v:1", b"v:2", b"-"]
WORKLOADS = [b"", b"w"]
HIGH, NORMAL, LOW = range(3)
SUBMITS = [
    (Packet.SUBMIT_JOB, NORMAL, False),
    (Packet.SUBMIT_JOB_BG, NORMAL, True),
    (Packet.SUBMIT_JOB_HIGH, HIGH, False),
    (Packet.SUBMIT_JOB_HIGH_BG, HIGH, True),
    (Packet.SUBMIT_JOB_LOW, LOW, False),
    (Packet.SUBMIT_JOB_LOW_BG, LOW, True),
    (Packet.SUBMIT_JOB_EPOCH, NORMAL, True),
    (Packet.SUBMIT_REDUCE_JOB, NORMAL, False),
    (Packet.SUBMIT_REDUCE_JOB_BACKGROUND, NORMAL, True),
]
GRABS = {
    Packet.GRAB_JOB: Packet.JOB_ASSIGN,
    Packet.GRAB_JOB_UNIQ: Packet.JOB_ASSIGN_UNIQ,
    Packet.GRAB_JOB_ALL: Packet.JOB_ASSIGN_UNIQ,
}
ENDS = (
    *(counts.FAILED, counts.EXCEPTION, counts.ATTEMPTS),
    *(counts.CANCELLED, counts.DROPPED, counts.NOT_STORED),
)
KEPT_SECONDS = 10.0  # how long failed jobs are kept
RESULT_SECONDS = {b"f": 5.0, b"g": 2.0}  # and results
RATES = {"1/s": (1, 1.0), "2/3s": (2, 3.0)}  # starts, period
Heard = list[tuple[int, list[bytes]]]


@dataclass
class ModelJob:
    """What the model knows of a job."""

    function: bytes
    unique: bytes
    workload: bytes
    priority: int
    turn: int  # grows with each step: when it was queued, or taken
    reducer: bytes = b""
    due: float = 0.0
    background: bool = False
    clients: list[int] = field(default_factory=list)
    worker: int | None = None
    deadline: float = inf
    lost: int = 0
    failed: float = 0.0

    @property
    def key(self) -> tuple[bytes, bytes, bytes] | None:
        if self.unique == b"-":
            return (self.function, b"-", self.workload) if self.workload else None
        return (self.function, self.unique, b"") if self.unique else None

    @property
    def limited_by(self) -> bytes:
        """What it has in common with others that a limit per key counts together."""
        return b"" if self.unique == b"-" else self.unique.split(b":")[0]

    @property
    def wanted(self) -> bool:
        return self.background or bool(self.clients)


def hear(peer: Peer) -> Heard:
    """What a peer was sent, but for being woken."""
    heard = Decoder(RESPONSE).feed(b"".join(peer.take())) if peer.owed else []
    return [(kind, arguments) for kind, arguments in heard if kind != Packet.NOOP]


class BrokerAgainstModel(RuleBasedStateMachine):
    @initialize(
        retries=st.sampled_from([-1, 1, 2]),
        durable=st.booleans(),
        keep=st.sampled_from([0, 2, 50]),
        keep_results=st.booleans(),
    )
    def begin(self, retries: int, durable: bool, keep: int, keep_results: bool) -> None:
        self.retries = retries
        self.keep_failed = keep
        self.keep_results = keep_results
        self.results: dict[bytes, tuple[bytes, float]] = {}  # and when each was there
        self.failed: dict[bytes, ModelJob] = {}
        self.durable = durable
        self.disk: dict[int, Record] = {}
        self.disk_fails = False
        self.jobs: dict[bytes, ModelJob] = {}
        # What pauses and limits outlive a restart.
        self.kept: tuple[set[bytes], dict[bytes, int], dict[bytes, str]] = set(), {}, {}
        self.per_key_kept: dict[bytes, int] = {}
        self.server_stays_paused = False
        self.now = 1000.0
        self.turn = self.first_turn = 0
        self.first_number = 1
        self.start()

    def start(self) -> None:
        """A server begins; everybody connects."""
        queues = Queues(
            b"H",
            first=self.first_number,
            durable=self.durable,
            failed=FailedJobs(self.keep_failed, KEPT_SECONDS),
            results=KeptResults(RESULT_SECONDS) if self.keep_results else None,
        )
        for _, record in sorted(self.disk.items()):
            restore_record(queues, record, self.now)
        self.broker = Broker(
            queues,
            job_retries=self.retries,
            time_of_day=lambda: self.now,
            next_run=next_run,
        )
        self.first_number += 1000  # as a server's, by the clock: a number is not given again
        self.broker_began()
        self.server_paused = self.server_stays_paused
        self.paused, self.most_running = set(self.kept[0]), dict(self.kept[1])
        self.most_per_key = dict(self.per_key_kept)
        self.rates, self.starts = dict(self.kept[2]), defaultdict[bytes, list[float]](list)
        self.withheld: dict[bytes, None] | None = None  # in order, while the lease is over
        self.withholding = False  # from the first grab after it on
        self.peers: dict[int, Peer] = {}
        self.limits: dict[int, dict[bytes, float]] = {}  # by peer: its functions' time limits
        self.overdue: dict[int, list[bytes]] = {}  # by peer: what it ran over them
        self.told_attempts: set[int] = set()  # peers that have asked for that
        self.may_ask_results: set[int] = set()
        for number in range(3):
            self.connect(number)

    def broker_began(self) -> None:
        """For what else is kept; see test_scheduled_model."""

    def settle(self) -> None:
        """The store does what it is told, if it can."""
        changes = self.broker.queues.changes
        assert self.durable or changes.empty
        if changes.empty:
            return
        group = changes.take(deliveries=True)
        if self.disk_fails:
            self.broker.refused(group, "no space left", self.now)
            return
        for record in group.changes.added:
            assert record.number not in self.disk, "numbers are not reused"
            self.disk[record.number] = record
        for known, count in group.changes.delivered.items():
            self.disk[known] = self.disk[known]._replace(deliveries=count)
        for known in group.changes.removed:
            self.disk.pop(known, None)
        for record in group.changes.rewritten:
            self.disk[record.number] = record
        self.broker.stored(group, self.now)

    @precondition(lambda self: self.durable)
    @rule()
    def disk_fails_or_works_again(self) -> None:
        self.disk_fails = not self.disk_fails
        self.settle()

    @precondition(lambda self: self.durable)
    @rule()
    def lease_ends_or_begins_again(self) -> None:
        """Perhaps another server has the stored jobs; then it is known that none has."""
        if self.withheld is None:
            self.broker.queues.lease = 0.0
            self.withheld = {}
            return
        for handle in self.withheld:
            if handle in self.jobs:
                self.jobs[handle].turn = self.next_turn()
        self.broker.queues.extend(inf, self.now)
        self.withheld = None
        self.withholding = False

    def withhold(self) -> None:
        if self.withheld is not None and self.withholding:
            for handle, job in sorted(self.jobs.items(), key=lambda item: item[1].turn):
                if job.background and job.worker is None and job.due <= self.now:
                    self.withheld.setdefault(handle)

    @precondition(lambda self: self.durable)
    @rule()
    def restart(self) -> None:
        """What the disk has is there again; what has ended while it failed, too."""
        acknowledged = {
            number(handle): job.lost + (job.worker is not None)
            for handle, job in self.jobs.items()
            if job.background
        }
        assert acknowledged.keys() <= self.disk.keys()
        assert {number(handle) for handle in self.failed} <= self.disk.keys(), "never neither"
        records = [each for each in self.disk.values() if each.function == FAILED_NAME]
        results = [each for each in self.disk.values() if each.function == RESULT_NAME]
        schedules = [each for each in self.disk.values() if each.function == SCHEDULE_NAME]
        others = RECORD_NAME, FAILED_NAME, RESULT_NAME, SCHEDULE_NAME
        jobs = [each for each in self.disk.values() if each.function not in others]
        if not self.disk_fails:
            assert {record.number: record.deliveries for record in jobs} == acknowledged
            for record in jobs:
                due = self.jobs[b"H:%d" % record.number].due
                assert due <= self.now or due <= record.due < due + 1
            limits = [each for kept in (*self.kept[1:], self.per_key_kept) for each in kept.items()]
            restricted = self.kept[0] | {name for name, most in limits if most}
            settings = len(restricted) + self.server_stays_paused + len(schedules)
            assert len(self.disk) == len(jobs) + settings + len(records) + len(results)
            assert {each.number for each in results} == {number(one) for one in self.results}
            assert {each.number for each in records} == {number(handle) for handle in self.failed}
        kept = [parse_result_record(each, b"H:%d" % each.number) for each in results]
        self.results = {each.handle: (each.function, each.when) for each in kept}
        failed = [parse_failed_record(each, b"H:%d" % each.number) for each in sorted(records)]
        self.failed = {
            each.handle: ModelJob(
                *(each.function, each.unique, each.workload, each.priority),
                turn=0,
                reducer=each.reducer,
                background=True,
                lost=each.attempts,
                failed=each.when,
            )
            for each in sorted(failed, key=lambda each: each.when)
        }
        for function in FUNCTIONS:
            self.forget_oldest(function)
        self.jobs = {
            b"H:%d" % record.number: ModelJob(
                *(record.function, record.unique, record.workload, record.priority),
                turn=self.next_turn(),
                reducer=record.reducer,
                due=record.due,
                background=True,
                lost=record.deliveries,
            )
            for record in sorted(jobs)
        }
        self.start()
        self.forget_expired()

    def forget_oldest(self, function: bytes) -> None:
        """Those that failed last are kept."""
        self.failed = dict(sorted(self.failed.items(), key=lambda item: item[1].failed))
        own = [handle for handle, job in self.failed.items() if job.function == function]
        for handle in own[: max(0, len(own) - self.keep_failed)]:
            del self.failed[handle]

    def forget_expired(self) -> None:
        self.failed = {
            handle: job
            for handle, job in self.failed.items()
            if job.failed + KEPT_SECONDS > self.now
        }
        self.results = {
            handle: (function, when)
            for handle, (function, when) in self.results.items()
            if when + RESULT_SECONDS[function] > self.now
        }

    def fail_for_good(self, handle: bytes, job: ModelJob, attempts: int) -> None:
        """A job that must be done is kept when it fails."""
        if job.background:
            job.failed, job.lost, job.clients, job.worker = self.now, attempts, [], None
            self.failed[handle] = job
            self.forget_oldest(job.function)

    def retry_all(self, handles: Iterable[bytes]) -> list[bytes]:
        """Queue failed jobs again, but for those whose uniques are queued; return which."""
        queued = []
        for handle in handles:
            job = self.failed[handle]
            if job.key and any(job.key == other.key for other in self.jobs.values()):
                continue
            again = replace(job, lost=0, due=0.0, deadline=inf, turn=self.next_turn())
            self.jobs[handle] = again
            queued.append(handle)
        if self.durable and self.disk_fails:
            for handle in queued:
                del self.jobs[handle]
                job = self.failed[handle] = self.failed.pop(handle)
                self.forget_oldest(job.function)
        else:
            for handle in queued:
                del self.failed[handle]
        return queued

    @precondition(lambda self: self.failed)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        handle = data.draw(st.sampled_from(sorted(self.failed)))
        answer = self.answer(b"retry job " + handle)
        if self.retry_all([handle]) and not (self.durable and self.disk_fails):
            assert answer == b"OK\r\n"
        else:
            assert answer.startswith(b"ERR QUEUE_ERROR")

    @rule(function=st.sampled_from(FUNCTIONS))
    def retry_those_of_a_function(self, function: bytes) -> None:
        answer = self.answer(b"retry jobs function=" + function)
        own = [handle for handle, job in self.failed.items() if job.function == function]
        queued = self.retry_all(own)
        if queued and self.durable and self.disk_fails:
            assert answer.startswith(b"ERR QUEUE_ERROR")
        else:
            assert answer.split(b"\n")[:-2] == queued

    @precondition(lambda self: self.failed)
    @rule(data=st.data(), all_of_it=st.booleans())
    def discard(self, data: st.DataObject, all_of_it: bool) -> None:
        handle = data.draw(st.sampled_from(sorted(self.failed)))
        function = self.failed[handle].function
        if not all_of_it:
            assert self.answer(b"discard job " + handle) == b"OK\r\n"
            del self.failed[handle]
            return
        own = [each for each, job in self.failed.items() if job.function == function]
        assert self.answer(b"discard jobs function=" + function).split(b"\n")[:-2] == own
        self.failed = {each: job for each, job in self.failed.items() if each not in own}

    @rule(
        handle=st.sampled_from([b"H:0", b"nonsense"]), what=st.sampled_from([b"retry", b"discard"])
    )
    def what_has_not_failed_is_unknown(self, handle: bytes, what: bytes) -> None:
        live = min(self.jobs, default=handle)
        for each in (handle, live):
            assert self.answer(what + b" job " + each).startswith(b"ERR UNKNOWN_JOB")

    @rule()
    def reload(self) -> None:
        """Another process goes on from here: no peer can tell."""
        if self.broker.queues.changes.replies:
            return
        self.broker, peers = hand_over(self.broker, list(self.peers.values()))
        self.peers = dict(zip(self.peers, peers, strict=True))

    def connect(self, number: int) -> None:
        """A connection comes; all but one are workers, or most of what follows would be idle."""
        self.peers[number] = self.broker.join(number, "")
        self.limits[number] = {}
        self.overdue[number] = []
        self.told_attempts.discard(number)
        self.may_ask_results.discard(number)
        if number:
            for function in FUNCTIONS:
                self.can_do_within(number, function, 0)

    def next_turn(self) -> int:
        self.turn += 1
        return self.turn

    def tell(self, number: int, packet: Packet, *arguments: bytes) -> None:
        """Speak for a peer; as after every read, the broker looks at the clock."""
        self.broker.receive(self.peers[number], [(packet, list(arguments))], self.now)
        self.settle()
        self.broker.tick(self.now, self.now)

    def ask(self, number: int, packet: Packet, *arguments: bytes) -> Heard:
        self.tell(number, packet, *arguments)
        return hear(self.peers[number])

    peer = st.integers(0, 2)

    submission = st.tuples(
        peer,
        st.sampled_from(SUBMITS),
        st.sampled_from(FUNCTIONS),
        st.sampled_from(UNIQUES),
        st.sampled_from(WORKLOADS),
        st.integers(-2, 4),
    )

    @rule(submissions=st.lists(submission, min_size=1, max_size=3))
    def submissions(
        self, submissions: list[tuple[int, tuple[Packet, int, bool], bytes, bytes, bytes, int]]
    ) -> None:
        for submission in submissions:
            self.submit(*submission)

    def submit(
        self,
        peer: int,
        submit: tuple[Packet, int, bool],
        function: bytes,
        unique: bytes,
        workload: bytes,
        wait: int,
    ) -> None:
        packet, priority, background = submit
        new = ModelJob(function, unique, workload, priority, self.next_turn())
        between = []
        if packet == Packet.SUBMIT_JOB_EPOCH:
            new.due = int(self.now) + wait
            between = [b"%d" % new.due]
        elif packet in (Packet.SUBMIT_REDUCE_JOB, Packet.SUBMIT_REDUCE_JOB_BACKGROUND):
            new.reducer = b"r"
            between = [new.reducer, b""]
        ((kind, (handle, *_)),) = self.ask(peer, packet, function, unique, *between, workload)
        same = [one for one, job in self.jobs.items() if job.key and job.key == new.key]
        stored = bool(same) and self.jobs[same[0]].background
        if kind == Packet.ERROR:
            assert background and self.disk_fails and not stored, "only what cannot be stored"
            return
        assert kind == Packet.JOB_CREATED
        assert not (background and self.disk_fails) or stored, "nothing is promised in vain"
        if same:
            assert [handle] == same, "a live job of this unique is joined"
        else:
            assert handle not in self.jobs, "handles are not reused"
            self.jobs[handle] = new
        job = self.jobs[handle]
        if background:
            job.background = True
            self.withhold()
        else:
            job.clients.append(peer)

    @rule(peer=peer, function=st.sampled_from(FUNCTIONS), limit=st.sampled_from([0, 1, 1500]))
    def can_do(self, peer: int, function: bytes, limit: int) -> None:
        self.can_do_within(peer, function, limit)

    def can_do_within(self, peer: int, function: bytes, limit: int) -> None:
        if limit:
            assert self.ask(peer, Packet.CAN_DO_TIMEOUT, function, b"%d" % limit) == []
        else:
            assert self.ask(peer, Packet.CAN_DO, function) == []
        self.limits[peer][function] = max(limit / 1000, 1.0) if limit else inf

    @rule(peer=peer, function=st.sampled_from([*FUNCTIONS, None]))
    def cant_do(self, peer: int, function: bytes | None) -> None:
        if function is None:
            self.tell(peer, Packet.RESET_ABILITIES)
        else:
            self.tell(peer, Packet.CANT_DO, function)
        given_up = [function] if function else FUNCTIONS
        for name in given_up:
            self.limits[peer].pop(name, None)
        self.lose(handle for handle in self.held(peer) if self.jobs[handle].function in given_up)

    def held(self, peer: int) -> list[bytes]:
        """The jobs that a worker runs, in the order in which it took them."""
        running = [handle for handle, job in self.jobs.items() if job.worker == peer]
        return sorted(running, key=lambda handle: self.jobs[handle].turn)

    def lose(self, handles: Iterable[bytes], *, late: bool = False, delay: float = 0.0) -> None:
        """Running jobs lose their workers: they go back to their queues, fail, or are unwanted."""
        failed: dict[int, list[bytes]] = {number: [] for number in self.peers}
        for handle in handles:
            job = self.jobs[handle]
            job.worker, job.deadline = None, inf
            job.lost += 1
            job.due = self.now + (delay if job.background else 0.0)
            job.turn = self.next_turn()
            too_late = late and not job.background and job.lost >= MAX_TIMEOUTS
            if not job.wanted or 0 < self.retries <= job.lost or too_late:
                del self.jobs[handle]
                for client in job.clients:
                    failed[client].append(handle)
                self.fail_for_good(handle, job, job.lost)
        for number, fails in failed.items():
            heard = hear(self.peers[number])
            assert sorted(heard) == sorted((Packet.WORK_FAIL, [handle]) for handle in fails)

    @rule(peer=peer)
    def sleep(self, peer: int) -> None:
        assert self.ask(peer, Packet.PRE_SLEEP) == []

    @rule(packets=st.lists(st.tuples(peer, st.sampled_from(sorted(GRABS))), min_size=1, max_size=3))
    def grabs(self, packets: list[tuple[int, Packet]]) -> None:
        for peer, packet in packets:
            self.grab(peer, packet)

    def grab(self, peer: int, packet: Packet) -> None:
        *announced, (kind, arguments) = self.ask(peer, packet)
        waiting = {
            handle: job
            for handle, job in self.jobs.items()
            if job.worker is None and job.due <= self.now
        }
        if self.withheld is not None:
            self.withholding = True
            self.withhold()
            waiting = {handle: job for handle, job in waiting.items() if not job.background}
        runnable = {
            handle: job
            for handle, job in waiting.items()
            if job.function in self.limits[peer]
            and self.may_run(job.function)
            and self.key_has_room(job)
        }
        if kind == Packet.NO_JOB:
            assert not runnable and not announced, "no job is kept from a worker that can do it"
            return
        handle, *told = arguments
        assert handle in runnable, "what is given out was waiting"
        job = runnable[handle]
        if peer in self.told_attempts and job.background:
            assert announced == [(Packet.JOB_ATTEMPT, [handle, b"%d" % (job.lost + 1)])]
        else:
            assert not announced
        assert job.priority == min(other.priority for other in runnable.values())
        rivals = [
            other.turn
            for other in runnable.values()
            if (other.function, other.priority) == (job.function, job.priority)
        ]
        assert job.turn == min(rivals), "the oldest of its priority"
        expected = [job.function, job.unique, job.workload]
        if packet == Packet.GRAB_JOB_ALL and job.reducer:
            assert (kind, told) == (Packet.JOB_ASSIGN_ALL, [*expected[:2], b"r", expected[2]])
        elif packet == Packet.GRAB_JOB:
            assert (kind, told) == (Packet.JOB_ASSIGN, [expected[0], expected[2]])
        else:
            assert (kind, told) == (Packet.JOB_ASSIGN_UNIQ, expected)
        job.worker, job.turn = peer, self.next_turn()
        self.starts[job.function].append(self.now)
        job.deadline = self.now + self.limits[peer][job.function]

    def may_run(self, function: bytes) -> bool:
        running = sum(
            job.function == function and job.worker is not None for job in self.jobs.values()
        )
        most = self.most_running.get(function, 0)
        if rate := self.rates.get(function):
            starts, period = RATES[rate]
            if sum(start + period > self.now for start in self.starts[function]) >= starts:
                return False
        paused = self.server_paused or function in self.paused
        return not paused and (not most or running < most)

    def key_has_room(self, job: ModelJob) -> bool:
        most, key = self.most_per_key.get(job.function, 0), job.limited_by
        running = sum(
            (each.function, each.limited_by) == (job.function, key) and each.worker is not None
            for each in self.jobs.values()
        )
        return not most or not key or running < most

    @rule(paused=st.sampled_from([True, False, False]))
    def pause_or_resume_the_server(self, paused: bool) -> None:
        self.server_paused = paused
        answer = self.answer(b"server pause" if paused else b"server resume")
        if self.durable and self.disk_fails:
            assert answer.startswith(b"ERR QUEUE_ERROR")
        else:
            assert answer == b"OK\r\n"
            self.server_stays_paused = self.durable and paused

    @rule(function=st.sampled_from(FUNCTIONS))
    def pause(self, function: bytes) -> None:
        self.paused.add(function)
        self.keep(b"pause " + function, function)

    @rule(function=st.sampled_from(FUNCTIONS))
    def resume(self, function: bytes) -> None:
        self.paused.discard(function)
        if function in self.broker.queues.functions:
            self.keep(b"resume " + function, function)
        else:
            assert self.answer(b"resume " + function).startswith(b"ERR UNKNOWN_FUNCTION")

    @rule(function=st.sampled_from(FUNCTIONS), most=st.integers(0, 2))
    def limit_running(self, function: bytes, most: int) -> None:
        self.most_running[function] = most
        self.keep(b"limit %b running=%d" % (function, most), function)

    @rule(function=st.sampled_from(FUNCTIONS), rate=st.sampled_from(["", *RATES]))
    def limit_rate(self, function: bytes, rate: str) -> None:
        self.rates[function], self.starts[function] = rate, []
        self.keep(b"limit %b rate=%b" % (function, rate.encode() or b"0"), function)

    @rule(function=st.sampled_from(FUNCTIONS), most=st.integers(0, 2))
    def limit_per_key(self, function: bytes, most: int) -> None:
        self.most_per_key[function] = most
        self.keep(b"limit %b per-key=%d" % (function, most), function)

    @rule(
        function=st.sampled_from(FUNCTIONS),
        uniques=st.lists(
            st.sampled_from([b"v:1", b"v:2", b"v:3", b"v", b"w:1", b""]), min_size=3, max_size=6
        ),
        most=st.integers(1, 2),
        then=st.sampled_from(["", "restart", "reload", "finish"]),
    )
    def jobs_of_few_keys(self, function: bytes, uniques: list[bytes], most: int, then: str) -> None:
        """More than may run at a time; few histories would have any otherwise."""
        self.limit_per_key(function, most)
        for place, unique in enumerate(uniques):
            self.submit(0, SUBMITS[place % 6], function, unique, b"w", 0)
        for peer in (1, 2, 1):
            self.grab(peer, Packet.GRAB_JOB)
        if then == "restart" and self.durable:
            self.restart()
        elif then == "reload":
            self.reload()
        elif then == "finish":
            for handle in self.held(1):
                self.report(handle, self.jobs[handle], Packet.WORK_COMPLETE)
        for peer in (1, 2, 1, 2):
            self.grab(peer, Packet.GRAB_JOB)

    def keep(self, command: bytes, function: bytes) -> None:
        """A restriction is kept if the command is answered by OK."""
        answer = self.answer(command)
        if self.durable and self.disk_fails:
            assert answer.startswith(b"ERR QUEUE_ERROR")
            return
        assert answer == b"OK\r\n"
        if self.durable:
            paused, most_running, rates = self.kept
            (paused.add if function in self.paused else paused.discard)(function)
            most_running[function] = self.most_running.get(function, 0)
            rates[function] = self.rates.get(function, "")
            self.per_key_kept[function] = self.most_per_key.get(function, 0)

    @rule(function=st.sampled_from(FUNCTIONS))
    def purge(self, function: bytes) -> None:
        """What waits is cancelled, what runs goes on."""
        answer = self.answer(b"purge " + function)
        waiting = [
            handle
            for handle, job in self.jobs.items()
            if job.function == function and job.worker is None
        ]
        if not answer.startswith(b"ERR UNKNOWN_FUNCTION"):
            assert sorted(answer.split(b"\n")[:-2]) == sorted(waiting)
        self.settle()
        ended = {handle: self.jobs.pop(handle) for handle in waiting}
        for number, peer in self.peers.items():
            told = [
                (Packet.WORK_FAIL, [handle])
                for handle, job in ended.items()
                for _ in range(job.clients.count(number))
            ]
            assert sorted(hear(peer)) == sorted(told)

    @precondition(lambda self: self.jobs)
    @rule(
        data=st.data(),
        how=st.sampled_from([b"high", b"normal", b"low", b"now", 0.5, 2.0, 3600.0]),
    )
    def change_a_waiting_job(self, data: st.DataObject, how: bytes | float) -> None:
        """Its priority, or when it is due."""
        handle = data.draw(st.sampled_from(sorted(self.jobs)))
        job = self.jobs[handle]
        if isinstance(how, float):
            due = self.now + how
            answer = self.answer(b"reschedule job %b %.3f" % (handle, due))
        elif how == b"now":
            due = 0.0
            answer = self.answer(b"reschedule job %b now" % handle)
        else:
            due = job.due
            answer = self.answer(b"prioritize job %b %b" % (handle, how))
        refused = answer.startswith(b"ERR QUEUE_ERROR")
        unaware = isinstance(how, float) and not job.background
        if job.worker is not None or unaware or (self.withholding and job.background):
            assert refused
            return
        assert refused == (self.durable and self.disk_fails and job.background)
        if isinstance(how, float):
            job.due = float(b"%.3f" % due)
        elif how == b"now":
            self.first_turn -= 1
            job.due, job.turn = due, self.first_turn
        elif job.due <= self.now:
            job.turn = self.next_turn()
        if isinstance(how, bytes) and how != b"now":
            job.priority = [b"high", b"normal", b"low"].index(how)

    def a_running_job(self, data: st.DataObject) -> tuple[bytes, ModelJob]:
        running = sorted(handle for handle, job in self.jobs.items() if job.worker is not None)
        handle = data.draw(st.sampled_from(running))
        return handle, self.jobs[handle]

    some_run = precondition(lambda self: any(job.worker is not None for job in self.jobs.values()))

    @some_run
    @rule(
        data=st.data(),
        packet=st.sampled_from([Packet.WORK_COMPLETE, Packet.WORK_FAIL, Packet.WORK_EXCEPTION]),
    )
    def finish(self, data: st.DataObject, packet: Packet) -> None:
        self.report(*self.a_running_job(data), packet)

    @rule(
        function=st.sampled_from(FUNCTIONS),
        unique=st.sampled_from(UNIQUES),
        packet=st.sampled_from([Packet.WORK_FAIL, Packet.WORK_EXCEPTION]),
        then=st.sampled_from(["", "restart", "retry", "disk fails"]),
    )
    def background_jobs_fail(
        self, function: bytes, unique: bytes, packet: Packet, then: str
    ) -> None:
        """All that a worker is given; few histories would have any otherwise."""
        self.submit(0, (Packet.SUBMIT_JOB_BG, NORMAL, True), function, unique, b"w", 0)
        self.grab(1, Packet.GRAB_JOB)
        for handle in self.held(1):
            self.report(handle, self.jobs[handle], packet)
        if then == "restart" and self.durable:
            self.restart()
        elif then == "retry":
            self.retry_those_of_a_function(function)
        elif then == "disk fails" and self.durable:
            self.disk_fails_or_works_again()

    def report(self, handle: bytes, job: ModelJob, packet: Packet) -> None:
        arguments = [handle, b"r"][: len(packet.arguments)]
        assert job.worker is not None
        self.tell(job.worker, packet, *arguments)
        failed = packet != Packet.WORK_COMPLETE
        if not failed:
            self.keep_result(handle, job)
        if packet == Packet.WORK_EXCEPTION:  # no client here asked for exceptions
            packet, arguments = Packet.WORK_FAIL, [handle]
        self.ends(handle, packet, arguments)
        if failed:
            self.fail_for_good(handle, job, job.lost + 1)

    def keep_result(self, handle: bytes, job: ModelJob) -> None:
        if job.background and self.keep_results:
            self.results[handle] = job.function, self.now

    @rule(peer=peer, data=st.data())
    def asks_for_a_result(self, peer: int, data: st.DataObject) -> None:
        """It is sent what has ended, and else waits for it like who submitted the job."""
        if peer not in self.may_ask_results:
            ((kind, _),) = self.ask(peer, Packet.GET_RESULT, b"H:0")
            assert kind == Packet.ERROR
            assert self.ask(peer, Packet.OPTION_REQ, b"results") == [
                (Packet.OPTION_RES, [b"results"])
            ]
            self.may_ask_results.add(peer)
        background = [handle for handle, job in self.jobs.items() if job.background]
        known = sorted([*background, *self.results, *self.failed])
        others = sorted(self.jobs.keys() - set(background))
        handle = data.draw(st.sampled_from([*known, *others, b"H:0", b"nonsense"]))
        heard = self.ask(peer, Packet.GET_RESULT, handle)
        if handle in background:
            job = self.jobs[handle]
            assert heard == [(Packet.JOB_FOUND, [handle, b"0", job.function])]
            job.clients.append(peer)
        elif handle in self.results:
            found = (Packet.JOB_FOUND, [handle, b"1", self.results[handle][0]])
            assert heard == [found, (Packet.WORK_COMPLETE, [handle, heard[1][1][1]])]
            assert heard[1][1][1] in (b"r", b"late")
        elif handle in self.failed:
            found = (Packet.JOB_FOUND, [handle, b"1", self.failed[handle].function])
            assert heard == [found, (Packet.WORK_FAIL, [handle])]
        else:
            ((kind, (code, _)),) = heard
            assert (kind, code) == (Packet.ERROR, b"UNKNOWN_JOB")

    @rule(
        function=st.sampled_from(FUNCTIONS),
        peer=peer,
        then=st.sampled_from(["", "restart", "reload", "wait"]),
        data=st.data(),
    )
    def background_jobs_are_done(
        self, function: bytes, peer: int, then: str, data: st.DataObject
    ) -> None:
        """All that a worker is given; few histories would have any otherwise."""
        self.submit(0, (Packet.SUBMIT_JOB_BG, NORMAL, True), function, b"", b"w", 0)
        self.asks_for_a_result(peer, data)
        self.grab(1, Packet.GRAB_JOB)
        for handle in self.held(1):
            self.report(handle, self.jobs[handle], Packet.WORK_COMPLETE)
        if then == "restart" and self.durable:
            self.restart()
        elif then == "reload":
            self.reload()
        elif then == "wait":
            self.wait(3.0)
        self.asks_for_a_result(peer, data)

    @rule(peer=peer)
    def asks_to_be_told_attempts(self, peer: int) -> None:
        assert self.ask(peer, Packet.OPTION_REQ, b"retries") == [(Packet.OPTION_RES, [b"retries"])]
        self.told_attempts.add(peer)

    @some_run
    @rule(data=st.data(), milliseconds=st.sampled_from([0, 1, 999, 1500, 3000]))
    def postpone(self, data: st.DataObject, milliseconds: int) -> None:
        """A worker gives a job back, to be tried again later."""
        handle, job = self.a_running_job(data)
        assert job.worker is not None
        if job.worker not in self.told_attempts:
            self.asks_to_be_told_attempts(job.worker)
        self.tell(job.worker, Packet.WORK_RETRY, handle, b"%d" % milliseconds, b"why")
        self.lose([handle], delay=milliseconds / 1000)

    @rule(
        function=st.sampled_from(FUNCTIONS),
        milliseconds=st.sampled_from([0, 1500]),
        then=st.sampled_from(["", "restart", "reload", "disk fails"]),
    )
    def background_jobs_are_postponed(self, function: bytes, milliseconds: int, then: str) -> None:
        """All that a worker is given; few histories would have any otherwise."""
        self.submit(0, (Packet.SUBMIT_JOB_BG, NORMAL, True), function, b"", b"w", 0)
        self.grab(2, Packet.GRAB_JOB_UNIQ)
        self.asks_to_be_told_attempts(2)
        for handle in self.held(2):
            self.tell(2, Packet.WORK_RETRY, handle, b"%d" % milliseconds, b"why")
            self.lose([handle], delay=milliseconds / 1000)
        if then == "restart" and self.durable:
            self.restart()
        elif then == "reload":
            self.reload()
        elif then == "disk fails" and self.durable:
            self.disk_fails_or_works_again()

    @some_run
    @rule(data=st.data(), packet=st.sampled_from([Packet.WORK_DATA, Packet.WORK_WARNING]))
    def progress(self, data: st.DataObject, packet: Packet) -> None:
        handle, job = self.a_running_job(data)
        assert job.worker is not None
        self.tell(job.worker, packet, handle, b"part")
        self.everyone_hears(job, packet, [handle, b"part"])

    @some_run
    @rule(data=st.data(), peer=peer)
    def a_stranger_finishes_nothing(self, data: st.DataObject, peer: int) -> None:
        handle, job = self.a_running_job(data)
        if job.worker != peer:
            ((kind, _),) = self.ask(peer, Packet.WORK_COMPLETE, handle, b"forged")
            assert kind == Packet.ERROR

    @precondition(lambda self: any(self.overdue.values()))
    @rule(data=st.data())
    def late_result(self, data: st.DataObject) -> None:
        """It counts while the job waits, whoever took and lost it since; and once."""
        late = [(peer, handle) for peer, some in self.overdue.items() for handle in some]
        peer, handle = data.draw(st.sampled_from(late))
        job = self.jobs.get(handle)
        if job is not None and job.worker == peer:
            return  # it has taken the job again: its result is not late
        self.overdue[peer].remove(handle)
        withheld = job is not None and job.background and self.withholding
        if job is not None and job.worker is None and not withheld:
            self.tell(peer, Packet.WORK_COMPLETE, handle, b"late")
            self.keep_result(handle, job)
            self.ends(handle, Packet.WORK_COMPLETE, [handle, b"late"])
        else:
            ((kind, _),) = self.ask(peer, Packet.WORK_COMPLETE, handle, b"late")
            assert kind == Packet.ERROR

    def ends(self, handle: bytes, packet: Packet, arguments: list[bytes]) -> None:
        """Every submission that waited is told once, and no peer is told anything else."""
        self.everyone_hears(self.jobs.pop(handle), packet, arguments)

    def everyone_hears(self, job: ModelJob, packet: Packet, arguments: list[bytes]) -> None:
        for number, peer in self.peers.items():
            assert hear(peer) == [(packet, arguments)] * job.clients.count(number)

    def disconnect(self, peer: int) -> None:
        running = self.held(peer)
        self.broker.gone(self.peers.pop(peer), self.now)
        self.settle()
        for handle, job in list(self.jobs.items()):
            job.clients = [client for client in job.clients if client != peer]
            if not job.wanted and job.worker is None:
                del self.jobs[handle]
        self.connect(peer)
        self.lose(running)

    @rule(peer=peer)
    def anybody_leaves(self, peer: int) -> None:
        self.disconnect(peer)

    @some_run
    @rule(data=st.data())
    def worker_dies(self, data: st.DataObject) -> None:
        _, job = self.a_running_job(data)
        assert job.worker is not None
        self.disconnect(job.worker)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        handle = data.draw(st.sampled_from([*sorted(self.jobs), b"H:0"]))
        assert self.broker.cancel(handle) == (handle in self.jobs)
        self.settle()
        if handle in self.jobs:
            self.ends(handle, Packet.WORK_FAIL, [handle])

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        before = self.now
        self.now += seconds
        self.broker.tick(self.now, self.now)
        self.settle()
        expired = [handle for handle, job in self.jobs.items() if job.deadline <= self.now]
        late = sorted(expired, key=lambda handle: (self.jobs[handle].deadline, number(handle)))
        for handle in late:
            worker = self.jobs[handle].worker
            assert worker is not None
            kept = [other for other in self.overdue[worker] if other != handle]
            self.overdue[worker] = [*kept, handle][-MAX_OVERDUE:]
        self.lose(late, late=True)
        self.forget_expired()
        released = [handle for handle, job in self.jobs.items() if before < job.due <= self.now]
        for handle in sorted(released, key=lambda handle: (self.jobs[handle].due, number(handle))):
            self.jobs[handle].turn = self.next_turn()

    @rule(peer=peer, data=st.data())
    def ask_for_status(self, peer: int, data: st.DataObject) -> None:
        handles = sorted([*self.jobs, *self.results, *self.failed])
        handle = data.draw(st.sampled_from([*handles, b"H:0", b"nonsense"]))
        ((_, answer),) = self.ask(peer, Packet.GET_STATUS, handle)
        job = self.jobs.get(handle)
        known, running = int(job is not None), job is not None and job.worker is not None
        if peer in self.may_ask_results and job is None:
            known = 2 if handle in self.results else 3 if handle in self.failed else 0
        assert answer == [handle, b"%d" % known, b"%d" % running, b"0", b"0"]

    @invariant()
    def every_job_is_known_as_it_is(self) -> None:
        queues = self.broker.queues
        jobs = {queues.handle(job): job for job in queues.jobs}
        assert jobs.keys() == self.jobs.keys()
        for handle, job in self.jobs.items():
            theirs = jobs[handle]
            running = None if theirs.worker is None else theirs.worker.number
            assert (theirs.background, running) == (job.background, job.worker)
            assert sorted(client.number for client in theirs.clients) == sorted(job.clients)

    @invariant()
    def pauses_are_listed(self) -> None:
        assert {name for name, _, _ in self.rows(b"pauses")} == self.paused

    @invariant()
    def failed_jobs_are_listed(self) -> None:
        rows = self.rows(b"jobs failed limit=1000")
        assert [handle for handle, *_ in rows] == list(self.failed)[::-1]
        for handle, *pairs in rows:
            facts, job = dict(pair.split(b"=", 1) for pair in pairs), self.failed[handle]
            assert facts[b"function"] == job.function
            assert facts[b"unique"] == job.unique
            assert int(facts[b"attempts"]) == job.lost
            assert int(facts[b"bytes"]) == len(job.workload)

    def answer(self, command: bytes) -> bytes:
        peer = Peer(9, "", lambda _: None)
        admin_commands.answer(self.broker, peer, [command])
        while peer.listing:
            peer.continue_listing()
        self.settle()
        return b"".join(peer.take())

    def rows(self, command: bytes) -> list[list[bytes]]:
        return [row.split(b"\t") for row in self.answer(command).splitlines()[:-1]]

    @invariant()
    def counts_are_right(self) -> None:
        self.withhold()
        for name, total, running, workers in self.rows(b"status"):
            jobs = [job for job in self.jobs.values() if job.function == name]
            assert int(total) == len(jobs)
            assert int(running) == sum(job.worker is not None for job in jobs)
            assert int(workers) == sum(name in limits for limits in self.limits.values())
        for name, *queued, _ in self.rows(b"prioritystatus") if not self.withheld else ():
            for priority, count in enumerate(queued):
                waiting = [
                    job
                    for job in self.jobs.values()
                    if (job.function, job.worker) == (name, None)
                    and priority == (job.priority if job.due <= self.now else NORMAL)
                ]
                assert int(count) == len(waiting)

    @invariant()
    def counters_add_up(self) -> None:
        """Each job came in one way and ended in one way, each run too, or is still there."""
        queues = self.broker.queues
        for counted in queues.counts.functions.values():
            function = queues.functions.get(counted.name)
            live, running = (function.total, function.running) if function else (0, 0)
            came = counted.accepted + counted[counts.RESTORED] + counted[counts.ADOPTED]
            came += counted[counts.RETRIED]
            assert came == live + counted.completed + sum(counted[way] for way in ENDS)
            started, ended = (each.total + len(each) for each in (counted.waits, counted.runs))
            assert started == running + ended

    @invariant()
    def nobody_sleeps_unwoken_beside_a_job(self) -> None:
        """A sleeping worker has no job to do, or another was woken for it a moment ago."""
        for function in self.broker.queues.functions.values():
            waiting = [
                job
                for job in self.jobs.values()
                if (job.function, job.worker) == (function.name, None) and job.due <= self.now
            ]
            free = self.may_run(function.name) and any(map(self.key_has_room, waiting))
            assert free or self.broker.queues.holds_back(function), "no worker is woken in vain"
            if function.queued and function.sleepers and free:
                awake = [peer for peer in function.workers if not peer.sleeping]
                due = self.broker.queues.next_event
                assert any(peer.woken for peer in awake) or due < inf


def number(handle: bytes) -> int:
    return int(handle.rpartition(b":")[2])
