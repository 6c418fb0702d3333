"""The packets of workers: functions, requests for jobs, and reports about them."""

from collections.abc import Callable, Sequence

from gearman_py.broker import counts
from gearman_py.broker.limits import MAX_ARGUMENT, MAX_FUNCTIONS_OF_WORKER, NAMES_OF_WORKER
from gearman_py.broker.queues import Queues
from gearman_py.broker.results import end_complete
from gearman_py.broker.rules import Rules
from gearman_py.broker.state import BrokerJob, Peer
from gearman_py.protocol.codec import response, response_parts
from gearman_py.protocol.numbers import MAX_EPOCH, decimal
from gearman_py.protocol.packets import JOB_ASSIGN, JOB_ASSIGN_UNIQ, WORK_COMPLETE, Packet

NO_JOB = response(Packet.NO_JOB)

Handler = Callable[[Rules, Peer, Sequence[bytes]], None]


def _can_do(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
    _register_function(broker, peer, arguments[0], None)


def _can_do_timeout(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
    name, milliseconds = arguments
    limit = min(decimal(milliseconds), MAX_EPOCH)
    # Like the C server: less than a second becomes a second; 0, or not a number, sets none.
    _register_function(broker, peer, name, max(limit / 1000, 1.0) if limit > 0 else None)


def _register_function(broker: Rules, peer: Peer, name: bytes, limit: float | None) -> None:
    if len(name) > MAX_ARGUMENT:
        return peer.refuse(b"ARGUMENT_TOO_LARGE", b"Function name too large")
    name = name.removesuffix(b"\0")
    if why := broker.queues.refuses(name):
        return peer.refuse(b"QUEUE_ERROR", why)
    is_new = broker.queues.functions.get(name) not in peer.abilities
    if is_new and len(name) * (len(peer.abilities) + 1) > NAMES_OF_WORKER:
        text = b"Function name too large for a worker with %d functions" % len(peer.abilities)
        return peer.refuse(b"ARGUMENT_TOO_LARGE", text)
    if is_new and len(peer.abilities) >= MAX_FUNCTIONS_OF_WORKER:
        text = b"A worker may register %d functions at most" % MAX_FUNCTIONS_OF_WORKER
        return peer.refuse(b"ARGUMENT_TOO_LARGE", text)
    return broker.queues.register(peer, broker.queues.function(name), limit, broker.now)


def _cant_do(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
    function = broker.queues.functions.get(arguments[0].removesuffix(b"\0"))
    if function in peer.abilities:
        broker.queues.unregister(peer, function)
        jobs = [each for each in peer.running.values() if each.function is function]
        broker.lost_jobs.add(jobs, counts.UNREGISTERED)


def _reset_abilities(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
    broker.queues.reset_abilities(peer, broker.now)
    broker.lost_jobs.add(peer.running.values(), counts.UNREGISTERED)


def _set_client_id(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
    peer.client_id = arguments[0][:127]


def _pre_sleep(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
    broker.queues.sleep(peer)


def _handle_grab(*, unique: bool, reducer: bool) -> Handler:
    """``unique`` and ``reducer``: what the assignment tells the worker about the job."""

    def grab(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
        queues = broker.queues
        if peer.sleeping or peer.woken:
            queues.awake(peer)
        taken = queues.take(peer, broker.now)
        if taken is None:
            queues.counts.empty_grabs += 1
            return peer.send(NO_JOB)
        handle, job = taken
        if peer.retries and job.background:
            peer.send(response(Packet.JOB_ATTEMPT, handle, b"%d" % (job.retries + 1)))
        function, workload = job.function.name, job.workload
        if reducer and job.reducer:
            facts = handle, function, job.unique, job.reducer, workload
            return peer.send(*response_parts(Packet.JOB_ASSIGN_ALL, *facts))
        if unique:
            facts_ = handle, function, job.unique, workload
            return peer.send(*response_parts(JOB_ASSIGN_UNIQ, *facts_))
        return peer.send(*response_parts(JOB_ASSIGN, handle, function, workload))

    return grab


def _handle_progress(packet: Packet) -> Handler:
    """WORK_DATA and WORK_WARNING."""

    def progress(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
        job = _find_job(broker, peer, arguments[0])
        if job is None:
            peer.refuse(b"JOB_NOT_FOUND", b"Job does not exist on server")
        elif job.clients:
            broker.tell(job, *response_parts(packet, *arguments))

    return progress


def _work_status(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
    handle, numerator, denominator = arguments
    job = _find_job(broker, peer, handle)
    if job is None:
        return _not_found(peer)
    if job.worker is peer:
        broker.queues.progress[job] = _as_uint32(numerator), _as_uint32(denominator)
    return broker.tell(job, response(Packet.WORK_STATUS, *arguments))


def _as_uint32(number: bytes) -> bytes:
    """As the C server keeps it: an unsigned number of 32 bits."""
    return b"%d" % (decimal(number) % 2**32)


def _find_job(broker: Rules, peer: Peer, handle: bytes) -> BrokerJob | None:
    """The job that a worker reports about.

    A worker may do so after the time limit of the job, if it still waits, perhaps for a later
    time: what it then sends of a result, and the end of it, are taken or refused alike.
    """
    job = peer.running.get(handle)
    if job is None and handle in peer.overdue:
        job = broker.queues.job(handle)
        return job if job is not None and _waits(broker.queues, job) else None
    return job


def _waits(queues: Queues, job: BrokerJob) -> bool:
    """Whether no worker has a job, also none of another server that may have taken it over."""
    if job.queued or job.worker is not None:
        return job.queued
    return job not in queues.changes.replies and not (queues.lease_over and job.background)


def _end_run(broker: Rules, peer: Peer, handle: bytes) -> BrokerJob | None:
    """The job that a worker reports about, which neither runs nor waits any longer."""
    job = broker.queues.finish(peer, handle, broker.now, erase=False)
    if job is None and (job := _find_job(broker, peer, handle)) is not None:
        job.function.counts[counts.LATE] += 1
        job.function.drop(job)
    peer.overdue.pop(handle, None)
    return job


def _work_complete(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
    queues, handle = broker.queues, arguments[0]
    kept = queues.results is not None
    job = queues.finish(peer, handle, broker.now, erase=not kept)
    if job is None:
        if (job := _end_run(broker, peer, handle)) is None:
            return _not_found(peer)
        kept = True
    if kept:
        end_complete(broker, job, arguments[1])
    if job.clients:
        broker.tell(job, *response_parts(WORK_COMPLETE, *arguments))
    return None


def _work_fail(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
    handle = arguments[0].removesuffix(b"\0")
    job = _end_run(broker, peer, handle)
    if job is not None:
        broker.tell(job, response(Packet.WORK_FAIL, handle))
        broker.end_failed(job, peer, counts.FAILED, b"its worker reported a failure")
    elif handle != peer.excepted:
        _not_found(peer)
    # Workers written for Perl's server send WORK_FAIL after WORK_EXCEPTION and do not survive
    # an ERROR in answer: that one WORK_FAIL is ignored.
    peer.excepted = None


def _work_exception(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
    handle, reason = arguments
    job = _end_run(broker, peer, handle)
    if job is None:
        text = b"An exception was received for a job that does not exist"
        return peer.refuse(b"JOB_NOT_FOUND", text)
    told, failed = response(Packet.WORK_EXCEPTION, *arguments), response(Packet.WORK_FAIL, handle)
    for client in job.clients:
        client.send(told if client.exceptions else failed)
    peer.excepted = handle
    return broker.end_failed(job, peer, counts.EXCEPTION, reason)


def _work_retry(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
    handle, milliseconds, reason = arguments
    if not peer.retries:
        return peer.refuse(b"INVALID_COMMAND", b"Command not expected")
    job = peer.running.get(handle)
    if job is None:
        return _not_found(peer)
    return broker.postpone(job, min(decimal(milliseconds) / 1000, MAX_EPOCH), reason)


def oversized(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
    """A report is larger than a packet may be: its job fails, as it would in every attempt."""
    handle, *_, text = arguments
    if _find_job(broker, peer, handle):
        _work_exception(broker, peer, [handle, text])
    else:
        _not_found(peer)


def _not_found(peer: Peer) -> None:
    peer.refuse(b"JOB_NOT_FOUND", b"Job given in work result not found")


HANDLERS: dict[Packet, Handler] = {
    Packet.CAN_DO: _can_do,
    Packet.CAN_DO_TIMEOUT: _can_do_timeout,
    Packet.CANT_DO: _cant_do,
    Packet.RESET_ABILITIES: _reset_abilities,
    Packet.SET_CLIENT_ID: _set_client_id,
    Packet.PRE_SLEEP: _pre_sleep,
    Packet.GRAB_JOB: _handle_grab(unique=False, reducer=False),
    Packet.GRAB_JOB_UNIQ: _handle_grab(unique=True, reducer=False),
    Packet.GRAB_JOB_ALL: _handle_grab(unique=True, reducer=True),
    Packet.WORK_DATA: _handle_progress(Packet.WORK_DATA),
    Packet.WORK_WARNING: _handle_progress(Packet.WORK_WARNING),
    Packet.WORK_STATUS: _work_status,
    Packet.WORK_COMPLETE: _work_complete,
    Packet.WORK_FAIL: _work_fail,
    Packet.WORK_EXCEPTION: _work_exception,
    Packet.WORK_RETRY: _work_retry,
}
