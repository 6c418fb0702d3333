"""The job server's rules: what each packet from each peer does.

No socket, no clock, no event loop: callers bring messages and the time, and carry away
what the peers' outboxes hold. Every request that has an answer gets exactly one, in the
order of the requests (libgearman matches JOB_CREATED and ERROR to submissions by order
alone).
"""

from collections.abc import Callable, Iterable, Sequence

from gearman_py.broker.job import HIGH, LOW, NORMAL, Function, Job, Key
from gearman_py.broker.peer import Peer
from gearman_py.broker.queues import Queues
from gearman_py.protocol.codec import response
from gearman_py.protocol.packets import HIGHEST, Packet

# The C server refuses a unique of more than 64 bytes; other arguments it bounds by its
# 8 KiB read buffer.
MAX_UNIQUE = 64
MAX_ARGUMENT = 8192
# An epoch beyond this (the year 9999) is a mistake; so is a time limit of that many ms.
MAX_EPOCH = 253402300799

NO_JOB = response(Packet.NO_JOB)

Handler = Callable[[Peer, int, Sequence[bytes]], None]

SUBMITS = {
    Packet.SUBMIT_JOB: (NORMAL, False),
    Packet.SUBMIT_JOB_BG: (NORMAL, True),
    Packet.SUBMIT_JOB_HIGH: (HIGH, False),
    Packet.SUBMIT_JOB_HIGH_BG: (HIGH, True),
    Packet.SUBMIT_JOB_LOW: (LOW, False),
    Packet.SUBMIT_JOB_LOW_BG: (LOW, True),
}
# By packet number: an enum's members hash by name, so its numbers find nothing in a dict.
_SUBMITS = [(NORMAL, False)] * (HIGHEST + 1)
for _packet, _kind in SUBMITS.items():
    _SUBMITS[_packet] = _kind


class Broker:
    """All peers, all jobs, and the rules between them.

    Handles are ``prefix:number`` with numbers from ``first_handle``; to never reuse one
    across restarts, start each time above any number given before (a clock will do).
    ``job_retries``: how often a job may be attempted, -1 for ever (gearmand --job-retries).
    ``version`` and ``log_level`` are what the text commands version and verbose answer.
    ``queues`` holds the jobs and decides who is given which.
    """

    def __init__(
        self,
        prefix: bytes = b"H:localhost",
        *,
        first_handle: int = 1,
        job_retries: int = -1,
        exceptions: bool = False,
        version: str = "",
        log_level: str = "WARNING",
        queues: Queues | None = None,
    ) -> None:
        self.queues = queues or Queues()
        self.peers: dict[Peer, None] = {}
        self.dirty: list[Peer] = []
        self.version = version
        self.log_level = log_level
        self._prefix = prefix
        self._number = first_handle
        self._job_retries = job_retries
        self._exceptions = exceptions
        self._now = 0.0
        self._handlers: list[Handler] = [self._refuse] * (HIGHEST + 1)
        for packet, handler in self._table():
            self._handlers[packet] = handler

    def _table(self) -> Iterable[tuple[Packet, Handler]]:
        yield from ((packet, self._submit) for packet in SUBMITS)
        yield Packet.SUBMIT_JOB_EPOCH, self._submit_epoch
        yield Packet.SUBMIT_REDUCE_JOB, self._submit_reduce
        yield Packet.SUBMIT_REDUCE_JOB_BACKGROUND, self._submit_reduce
        yield Packet.GET_STATUS, self._get_status
        yield Packet.GET_STATUS_UNIQUE, self._get_status_unique
        yield Packet.ECHO_REQ, self._echo
        yield Packet.OPTION_REQ, self._option
        yield Packet.CAN_DO, self._can_do
        yield Packet.CAN_DO_TIMEOUT, self._can_do_timeout
        yield Packet.CANT_DO, self._cant_do
        yield Packet.RESET_ABILITIES, self._reset_abilities
        yield Packet.SET_CLIENT_ID, self._set_client_id
        yield Packet.PRE_SLEEP, self._pre_sleep
        yield Packet.GRAB_JOB, self._grab
        yield Packet.GRAB_JOB_UNIQ, self._grab
        yield Packet.GRAB_JOB_ALL, self._grab
        yield Packet.WORK_DATA, self._work_progress
        yield Packet.WORK_WARNING, self._work_progress
        yield Packet.WORK_STATUS, self._work_status
        yield Packet.WORK_COMPLETE, self._work_complete
        yield Packet.WORK_FAIL, self._work_fail
        yield Packet.WORK_EXCEPTION, self._work_exception

    # The doors.

    def join(self, number: int, address: str) -> Peer:
        """A connection came in."""
        peer = Peer(number, address, self.dirty.append)
        peer.exceptions = self._exceptions
        self.peers[peer] = None
        return peer

    def receive(self, peer: Peer, number: int, arguments: Sequence[bytes], now: float) -> None:
        """A packet came from a peer. ``now`` is any clock that never goes back, in seconds."""
        self._now = now
        self._handlers[number](peer, number, arguments)

    def gone(self, peer: Peer, now: float) -> None:
        """A connection is lost: its jobs go back to their queues, what it waited for ends."""
        self._now = now
        del self.peers[peer]
        for job in list(peer.waiting):
            job.clients = [client for client in job.clients if client is not peer]
            if not job.clients and not job.background and job.worker is None:
                self.queues.forget(job)
        peer.waiting.clear()
        running = list(peer.running.values())
        self.queues.remove_worker(peer, now)
        for job in running:
            self._lost(job)

    def tick(self, now: float, wall: float) -> float | None:
        """Do what is due by now; return seconds until the next time something is, or None.

        ``wall`` is the time of day (seconds since 1970): epoch jobs go by it, time limits
        by ``now``.
        """
        self._now = now
        for job in self.queues.expired(now):
            self._lost(job)
        self.queues.release_due(now, wall)
        return self.queues.next_event(now, wall)

    def cancel(self, handle: bytes) -> bool:
        """An operator ends a job: its clients hear WORK_FAIL, its worker's result is refused."""
        job = self.queues.jobs.get(handle)
        if job is None:
            return False
        self._fail(job)
        return True

    # Clients.

    def _submit(self, peer: Peer, number: int, arguments: Sequence[bytes]) -> None:
        name, unique, workload = arguments
        self._accept(peer, name, unique, workload, *_SUBMITS[number])

    def _submit_epoch(self, peer: Peer, number: int, arguments: Sequence[bytes]) -> None:
        name, unique, epoch, workload = arguments
        due = _decimal(epoch)
        if due > MAX_EPOCH:
            self._error(peer, b"INVALID_ARGUMENT", b"not a time in seconds since 1970: " + epoch)
        else:
            self._accept(peer, name, unique, workload, NORMAL, background=True, due=due)

    def _submit_reduce(self, peer: Peer, number: int, arguments: Sequence[bytes]) -> None:
        name, unique, reducer, _, workload = arguments
        background = number == Packet.SUBMIT_REDUCE_JOB_BACKGROUND
        if len(reducer) > MAX_UNIQUE:
            self._error(peer, b"ARGUMENT_TOO_LARGE", b"Reducer value too large")
        else:
            self._accept(peer, name, unique, workload, NORMAL, background, reducer=reducer)

    def _accept(
        self,
        peer: Peer,
        name: bytes,
        unique: bytes,
        workload: bytes,
        priority: int,
        background: bool,
        *,
        due: float = 0,
        reducer: bytes = b"",
    ) -> None:
        """Make a job of a submission, or let it join the live one of the same unique."""
        if len(unique) > MAX_UNIQUE:
            return self._error(peer, b"ARGUMENT_TOO_LARGE", b"Unique value too large")
        if len(name) > MAX_ARGUMENT:
            return self._error(peer, b"ARGUMENT_TOO_LARGE", b"Function name too large")
        function = self.queues.function(name)
        key = _key(unique, workload)
        job = self.queues.find(function, key)
        joined = job is not None
        if job is None:
            limit = function.limits[priority]
            if limit and function.total >= limit:
                return self._error(peer, b"QUEUE_ERROR", b"Job queue is full")
            handle = b"%b:%d" % (self._prefix, self._number)
            self._number += 1
            job = Job(handle, function, unique, workload, priority, key)
            job.reducer = reducer
        if background:
            job.background = True
        else:
            job.clients.append(peer)
            peer.waiting.add(job)
        peer.send(response(Packet.JOB_CREATED, job.handle))
        if joined:
            return None
        # Also one that is due already: the next tick, at once, finds it.
        return self.queues.add_later(job, due) if due > 0 else self.queues.add(job, self._now)

    def _get_status(self, peer: Peer, number: int, arguments: Sequence[bytes]) -> None:
        handle = arguments[0].partition(b"\0")[0]
        status = _status(self.queues.jobs.get(handle))
        peer.send(response(Packet.STATUS_RES, handle, *status))

    def _get_status_unique(self, peer: Peer, number: int, arguments: Sequence[bytes]) -> None:
        unique = arguments[0]
        found = (function.uniques.get(unique) for function in self.queues.functions.values())
        job = next((job for job in found if job is not None), None)
        clients = b"%d" % (len(job.clients) if job else 0)
        peer.send(response(Packet.STATUS_RES_UNIQUE, unique, *_status(job), clients))

    def _echo(self, peer: Peer, number: int, arguments: Sequence[bytes]) -> None:
        peer.send(response(Packet.ECHO_RES, arguments[0]))

    def _option(self, peer: Peer, number: int, arguments: Sequence[bytes]) -> None:
        if arguments[0].removesuffix(b"\0").lower() == b"exceptions":
            peer.exceptions = True
            peer.send(response(Packet.OPTION_RES, arguments[0]))
        else:
            self._error(peer, b"UNKNOWN_OPTION", b"Server does not recognize given option")

    # Workers.

    def _can_do(self, peer: Peer, number: int, arguments: Sequence[bytes]) -> None:
        self._register(peer, arguments[0], None)

    def _can_do_timeout(self, peer: Peer, number: int, arguments: Sequence[bytes]) -> None:
        name, milliseconds = arguments
        limit = min(_decimal(milliseconds), MAX_EPOCH)
        # The C server raises what is less than a second to one; 0 and nonsense are no limit.
        self._register(peer, name, max(limit / 1000, 1.0) if limit > 0 else None)

    def _register(self, peer: Peer, name: bytes, limit: float | None) -> None:
        if len(name) > MAX_ARGUMENT:
            return self._error(peer, b"ARGUMENT_TOO_LARGE", b"Function name too large")
        function = self.queues.function(name.removesuffix(b"\0"))
        return self.queues.register(peer, function, limit, self._now)

    def _cant_do(self, peer: Peer, number: int, arguments: Sequence[bytes]) -> None:
        function = self.queues.functions.get(arguments[0].removesuffix(b"\0"))
        if function in peer.abilities:
            self._unregister(peer, function)

    def _reset_abilities(self, peer: Peer, number: int, arguments: Sequence[bytes]) -> None:
        for function in list(peer.abilities):
            self._unregister(peer, function)

    def _unregister(self, peer: Peer, function: Function) -> None:
        self.queues.unregister(peer, function)
        for job in list(peer.running.values()):
            if job.function is function:
                self._lost(job)

    def _set_client_id(self, peer: Peer, number: int, arguments: Sequence[bytes]) -> None:
        peer.client_id = arguments[0][:127]

    def _pre_sleep(self, peer: Peer, number: int, arguments: Sequence[bytes]) -> None:
        self.queues.sleep(peer)

    def _grab(self, peer: Peer, number: int, arguments: Sequence[bytes]) -> None:
        self.queues.awake(peer)
        job = self.queues.take(peer, self._now)
        if job is None:
            peer.send(NO_JOB)
        elif number == Packet.GRAB_JOB:
            peer.send(response(Packet.JOB_ASSIGN, job.handle, job.function.name, job.workload))
        elif number == Packet.GRAB_JOB_ALL and job.reducer:
            names = job.handle, job.function.name, job.unique, job.reducer
            peer.send(response(Packet.JOB_ASSIGN_ALL, *names, job.workload))
        else:
            names_ = job.handle, job.function.name, job.unique
            peer.send(response(Packet.JOB_ASSIGN_UNIQ, *names_, job.workload))

    def _work_progress(self, peer: Peer, number: int, arguments: Sequence[bytes]) -> None:
        job = peer.running.get(arguments[0])
        if job is None:
            return self._error(peer, b"JOB_NOT_FOUND", b"Job does not exist on server")
        return self._tell(job, response(number, *arguments))

    def _work_status(self, peer: Peer, number: int, arguments: Sequence[bytes]) -> None:
        job = peer.running.get(arguments[0])
        if job is None:
            return self._error(peer, b"JOB_NOT_FOUND", b"Job given in work result not found")
        job.numerator, job.denominator = (
            b"%d" % (_decimal(value) % 2**32) for value in arguments[1:]
        )
        return self._tell(job, response(number, *arguments))

    def _work_complete(self, peer: Peer, number: int, arguments: Sequence[bytes]) -> None:
        job = peer.running.get(arguments[0])
        if job is None:
            return self._error(peer, b"JOB_NOT_FOUND", b"Job given in work result not found")
        if job.clients:
            self._tell(job, response(number, *arguments))
        return self.queues.forget(job)

    def _work_fail(self, peer: Peer, number: int, arguments: Sequence[bytes]) -> None:
        handle = arguments[0].removesuffix(b"\0")
        job = peer.running.get(handle)
        if job is not None:
            self._fail(job)
        elif handle != peer.excepted:
            self._error(peer, b"JOB_NOT_FOUND", b"Job given in work result not found")
        # Workers written for Perl's server send WORK_FAIL after their WORK_EXCEPTION, and die
        # of an ERROR in answer: that one WORK_FAIL is swallowed.
        peer.excepted = None

    def _work_exception(self, peer: Peer, number: int, arguments: Sequence[bytes]) -> None:
        handle = arguments[0]
        job = peer.running.get(handle)
        if job is None:
            text = b"An exception was received for a job that does not exist"
            return self._error(peer, b"JOB_NOT_FOUND", text)
        told, failed = response(number, *arguments), response(Packet.WORK_FAIL, handle)
        for client in job.clients:
            client.send(told if client.exceptions else failed)
        peer.excepted = handle
        return self.queues.forget(job)

    # Endings.

    def _lost(self, job: Job) -> None:
        """A worker lost a running job (died, ran out of time, gave the function up)."""
        if not job.clients and not job.background:
            self.queues.forget(job)
        elif 0 <= self._job_retries <= job.retries + 1:
            self._fail(job)
        else:
            self.queues.give_back(job, self._now)

    def _fail(self, job: Job) -> None:
        self._tell(job, response(Packet.WORK_FAIL, job.handle))
        self.queues.forget(job)

    def _tell(self, job: Job, packet: bytes) -> None:
        """Send a packet for each submission that waits for the job, also two of one client."""
        for client in job.clients:
            client.send(packet)

    def _refuse(self, peer: Peer, number: int, arguments: Sequence[bytes]) -> None:
        self._error(peer, b"INVALID_COMMAND", b"Command not expected")

    def _error(self, peer: Peer, code: bytes, text: bytes) -> None:
        peer.send(response(Packet.ERROR, code, text))


def _key(unique: bytes, workload: bytes) -> Key | None:
    if unique != b"-":
        return unique or None
    return (workload,) if workload else None


def _decimal(text: bytes) -> int:
    """A decimal number as C's atoi reads it, of any size: 0 when it does not begin with one."""
    digits = text.lstrip()
    sign = -1 if digits[:1] == b"-" else 1
    digits = digits.lstrip(b"+-")[:20]
    length = next((i for i, byte in enumerate(digits) if not 48 <= byte <= 57), len(digits))
    return sign * int(digits[:length] or 0)


def _status(job: Job | None) -> tuple[bytes, bytes, bytes, bytes]:
    """known, running, numerator, denominator."""
    if job is None:
        return b"0", b"0", b"0", b"0"
    if job.worker is None:
        return b"1", b"0", b"0", b"0"
    return b"1", b"1", job.numerator, job.denominator
