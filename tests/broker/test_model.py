"""The broker against a model so small that it is obviously right, driven at random.

The model is a dict of jobs, each with what must be true of it: who waits, who runs it,
whether it must be done. After every step: no job is lost, none runs twice at once, every
waiting client was answered exactly as often as it should be, and the counts are right.
"""

from dataclasses import dataclass, field
from math import inf

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gearman_py.broker import commands
from gearman_py.broker.broker import Broker
from gearman_py.broker.peer import Peer
from gearman_py.broker.queues import Queues
from gearman_py.protocol.codec import RESPONSE, Decoder
from gearman_py.protocol.packets import Packet

FUNCTIONS = [b"f", b"g"]
UNIQUES = [b"", b"u", b"v", b"-"]
WORKLOADS = [b"", b"w"]
SUBMITS = [
    (Packet.SUBMIT_JOB, False),
    (Packet.SUBMIT_JOB_BG, True),
    (Packet.SUBMIT_JOB_HIGH, False),
    (Packet.SUBMIT_JOB_HIGH_BG, True),
    (Packet.SUBMIT_JOB_LOW, False),
    (Packet.SUBMIT_JOB_LOW_BG, True),
]


@dataclass
class Job:
    """What the model knows of a job."""

    function: bytes
    key: tuple[bytes, bytes] | None
    background: bool = False
    clients: list[int] = field(default_factory=list)
    worker: int | None = None


def hear(peer: Peer) -> list[tuple[int, list[bytes]]]:
    """What a peer was sent, but for being woken."""
    heard = Decoder(RESPONSE).feed(b"".join(peer.take())) if peer.owed else []
    return [(kind, arguments) for kind, arguments in heard if kind != Packet.NOOP]


class BrokerAgainstModel(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.broker = Broker(Queues(b"H"))
        self.peers: dict[int, Peer] = {}
        self.jobs: dict[bytes, Job] = {}
        self.now = 0.0
        for number in range(4):
            self.connect(number)

    def connect(self, number: int) -> None:
        self.peers[number] = self.broker.join(number, "")

    def say(self, number: int, packet: Packet, *arguments: bytes) -> list[tuple[int, list[bytes]]]:
        """Speak for a peer; return what it hears."""
        peer = self.peers[number]
        self.broker.receive(peer, [(packet, list(arguments))], self.now)
        return hear(peer)

    peer = st.integers(0, 3)

    @rule(
        peer=peer,
        submit=st.sampled_from(SUBMITS),
        function=st.sampled_from(FUNCTIONS),
        unique=st.sampled_from(UNIQUES),
        workload=st.sampled_from(WORKLOADS),
    )
    def submit(
        self,
        peer: int,
        submit: tuple[Packet, bool],
        function: bytes,
        unique: bytes,
        workload: bytes,
    ) -> None:
        packet, background = submit
        key = {b"": None, b"-": (b"-", workload) if workload else None}.get(unique, (unique, b""))
        ((kind, (handle,)),) = self.say(peer, packet, function, unique, workload)
        assert kind == Packet.JOB_CREATED
        same = [
            one
            for one, job in self.jobs.items()
            if key is not None and (job.function, job.key) == (function, key)
        ]
        if same:
            assert [handle] == same, "a live job of this unique is joined"
        else:
            assert handle not in self.jobs, "handles are not reused"
            self.jobs[handle] = Job(function, key)
        job = self.jobs[handle]
        if background:
            job.background = True
        else:
            job.clients.append(peer)

    @rule(peer=peer, function=st.sampled_from(FUNCTIONS))
    def can_do(self, peer: int, function: bytes) -> None:
        assert self.say(peer, Packet.CAN_DO, function) == []

    @rule(peer=peer, function=st.sampled_from(FUNCTIONS))
    def cant_do(self, peer: int, function: bytes) -> None:
        assert self.say(peer, Packet.CANT_DO, function) == []
        self.lose([job for job in self.jobs.values() if job.worker == peer], function)

    def lose(self, running: list[Job], function: bytes | None = None) -> None:
        for job in running:
            if function in (None, job.function):
                job.worker = None
        self.jobs = {
            handle: job
            for handle, job in self.jobs.items()
            if job.background or job.clients or job.worker is not None
        }

    @rule(peer=peer)
    def sleep(self, peer: int) -> None:
        assert self.say(peer, Packet.PRE_SLEEP) == []

    @rule(peer=peer)
    def grab(self, peer: int) -> None:
        ((kind, arguments),) = self.say(peer, Packet.GRAB_JOB)
        can = {function.name for function in self.peers[peer].abilities}
        runnable = [
            handle
            for handle, job in self.jobs.items()
            if job.worker is None and job.function in can
        ]
        if kind == Packet.NO_JOB:
            assert not runnable, "no job is kept from a worker that can do it"
        else:
            assert kind == Packet.JOB_ASSIGN
            assert arguments[0] in runnable, "what is given out was waiting"
            self.jobs[arguments[0]].worker = peer

    def a_running_job(self, data: st.DataObject) -> tuple[bytes, Job]:
        running = sorted(handle for handle, job in self.jobs.items() if job.worker is not None)
        handle = data.draw(st.sampled_from(running))
        return handle, self.jobs[handle]

    @precondition(lambda self: any(job.worker is not None for job in self.jobs.values()))
    @rule(data=st.data(), packet=st.sampled_from([Packet.WORK_COMPLETE, Packet.WORK_FAIL]))
    def finish(self, data: st.DataObject, packet: Packet) -> None:
        handle, job = self.a_running_job(data)
        arguments = [handle, b"r"][: len(packet.arguments)]
        assert job.worker is not None
        self.broker.receive(self.peers[job.worker], [(packet, arguments)], self.now)
        self.ends(handle, packet, arguments)

    def ends(self, handle: bytes, packet: Packet, arguments: list[bytes]) -> None:
        """Every submission that waited is told once, and nobody is told anything else."""
        job = self.jobs.pop(handle)
        for number, peer in self.peers.items():
            assert hear(peer) == [(packet, arguments)] * job.clients.count(number)

    @rule(peer=peer)
    def disconnect(self, peer: int) -> None:
        self.broker.gone(self.peers.pop(peer), self.now)
        for job in self.jobs.values():
            job.clients = [client for client in job.clients if client != peer]
        self.lose([job for job in self.jobs.values() if job.worker == peer])
        self.connect(peer)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        handle = data.draw(st.sampled_from([*sorted(self.jobs), b"H:0"]))
        assert self.broker.cancel(handle) == (handle in self.jobs)
        if handle in self.jobs:
            self.ends(handle, Packet.WORK_FAIL, [handle])

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.broker.tick(self.now, self.now)

    @invariant()
    def every_job_is_known_as_it_is(self) -> None:
        queues = self.broker.queues
        jobs = {queues.handle(job): job for job in queues.jobs.values()}
        assert jobs.keys() == self.jobs.keys()
        for handle, job in self.jobs.items():
            theirs = jobs[handle]
            running = None if theirs.worker is None else theirs.worker.number
            assert (theirs.background, running) == (job.background, job.worker)
            assert sorted(client.number for client in theirs.clients) == sorted(job.clients)

    @invariant()
    def counts_are_right(self) -> None:
        peer = Peer(9, "", lambda _: None)
        commands.answer(self.broker, peer, [b"status"])
        rows = [row.split(b"\t") for row in b"".join(peer.take()).splitlines()[:-1]]
        for name, total, running, workers in rows:
            jobs = [job for job in self.jobs.values() if job.function == name]
            assert int(total) == len(jobs)
            assert int(running) == sum(job.worker is not None for job in jobs)
            can = [{function.name for function in one.abilities} for one in self.peers.values()]
            assert int(workers) == sum(name in names for names in can)

    @invariant()
    def nobody_sleeps_unwoken_beside_a_job(self) -> None:
        """A sleeping worker has no job to do, or another was woken for it a moment ago."""
        for function in self.broker.queues.functions.values():
            if function.queued and function.sleepers:
                awake = [peer for peer in function.workers if not peer.sleeping]
                due = self.broker.queues.next_event
                assert any(peer.woken for peer in awake) or due < inf


TestBrokerAgainstModel = BrokerAgainstModel.TestCase
TestBrokerAgainstModel.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
