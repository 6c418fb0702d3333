"""The packets of clients: submissions, questions about jobs, options."""

from collections.abc import Callable, Sequence

from gearman_py.broker import counts
from gearman_py.broker.limits import MAX_ARGUMENT, MAX_UNIQUE
from gearman_py.broker.queues import Queues
from gearman_py.broker.results import find_outcome, get_result
from gearman_py.broker.rules import Rules
from gearman_py.broker.state import HIGH, LOW, NORMAL, BrokerJob, Peer, ReduceJob, coalesces_on
from gearman_py.broker.submitters import note_submitter
from gearman_py.protocol.codec import response
from gearman_py.protocol.numbers import MAX_EPOCH, decimal
from gearman_py.protocol.packets import JOB_CREATED, Packet

Handler = Callable[[Rules, Peer, Sequence[bytes]], None]


def _handle_submit(priority: int, background: bool) -> Handler:
    def submit(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
        name, unique, workload = arguments
        accept(broker, peer, name, unique, workload, priority, background)

    return submit


def _submit_epoch(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
    name, unique, epoch, workload = arguments
    due = decimal(epoch)
    if due > MAX_EPOCH:
        text = b"not a time in seconds since 1970: " + epoch
        _refuse_job(broker, peer, counts.INVALID, b"INVALID_ARGUMENT", text)
    else:
        accept(broker, peer, name, unique, workload, NORMAL, True, due=due)


def _submit_sched(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
    """A job that is due when the minute, hour, day, month and weekday are next as given."""
    name, unique, *times, weekday, workload = arguments
    if weekday.isdigit() and decimal(weekday) < 7:
        weekday = b"%d" % ((decimal(weekday) + 1) % 7)  # 0 is Monday here, and Sunday in a crontab
    elif weekday.isdigit():
        text = b"not a day of the week, from 0 (Monday) to 6: " + weekday[:100]
        return _refuse_job(broker, peer, counts.INVALID, b"INVALID_ARGUMENT", text)
    cron = " ".join(word.decode(errors="replace") or "*" for word in (*times, weekday))
    try:
        due = broker.next_run(cron, "UTC", broker.time_of_day())
    except ValueError as error:
        return _refuse_job(broker, peer, counts.INVALID, b"INVALID_ARGUMENT", str(error).encode())
    return accept(broker, peer, name, unique, workload, NORMAL, True, due=due)


def _submit_reduce(background: bool) -> Handler:
    def submit_reduce(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
        name, unique, reducer, _, workload = arguments
        if len(reducer) > MAX_UNIQUE:
            _refuse_large(broker, peer, b"Reducer value")
        else:
            accept(broker, peer, name, unique, workload, NORMAL, background, reducer=reducer)

    return submit_reduce


def accept(
    broker: Rules,
    peer: Peer,
    name: bytes,
    unique: bytes,
    workload: bytes,
    priority: int,
    background: bool,
    due: float = 0,
    reducer: bytes = b"",
) -> None:
    """Make a job from a submission, or let it join the live job with the same unique."""
    if len(unique) > MAX_UNIQUE:
        return _refuse_large(broker, peer, b"Unique value")
    if len(name) > MAX_ARGUMENT:
        return _refuse_large(broker, peer, b"Function name")
    queues = broker.queues
    function = queues.functions.get(name)
    if function is None:
        if queues.full:
            return _refuse_job(broker, peer, counts.MEMORY, *_NO_MEMORY)
        if why := queues.refuses(name):
            return _refuse_job(broker, peer, counts.FUNCTIONS_FULL, b"QUEUE_ERROR", why)
        function = queues.function(name)
    try:
        peer.submissions[function][0] += 1
    except KeyError:
        note_submitter(peer, function, broker.now)
    key = unique if unique != b"-" else coalesces_on(unique, workload)
    job = queues.uniques.find(key, function) if key and key in queues.uniques else None
    if job is not None:
        function.counts[counts.COALESCED] += 1
        if background and not job.background:
            job.background = True
            if queues.durable:
                queues.changes.add(job)
        return _acknowledge_job(queues, peer, job, background)
    limit = function.limits[priority]
    if limit and function.total >= limit:
        return _refuse_job(broker, peer, counts.QUEUE_FULL, *_QUEUE_IS_FULL)
    if queues.full:
        return _refuse_job(broker, peer, counts.MEMORY, *_NO_MEMORY)
    stored = background and queues.durable
    if stored and queues.changes.refusal:
        return _refuse_job(broker, peer, counts.NOT_STORED, b"QUEUE_ERROR", queues.changes.refusal)
    if queues.closed and broker.stopping and not stored and (background or not peer.resubmits):
        return _refuse_job(broker, peer, counts.STOPPING, *_IS_STOPPING)
    if reducer:
        job = ReduceJob(function, unique, workload, priority, background, reducer)
    else:
        job = BrokerJob(function, unique, workload, priority, background)
    queues.enter(job, key, broker.now)
    if stored:
        queues.hold(job, due)
        return _acknowledge_job(queues, peer, job, background)
    # Answer the client before workers are woken: there may be thousands.
    _acknowledge_job(queues, peer, job, background)
    if due > 0:  # also if it is due already: the next tick finds it, at once
        return queues.add_later(job, due)
    function.push(job)
    return queues.wake(function, broker.now) if function.sleepers else None


_QUEUE_IS_FULL = b"QUEUE_ERROR", b"Job queue is full"
_NO_MEMORY = b"QUEUE_ERROR", b"The job server has no memory left for new jobs"
# Who can, submits a foreground job elsewhere: it is given back (see returning).
_IS_STOPPING = b"QUEUE_ERROR", b"The job server is stopping"


def _refuse_large(broker: Rules, peer: Peer, what: bytes) -> None:
    _refuse_job(broker, peer, counts.TOO_LARGE, b"ARGUMENT_TOO_LARGE", what + b" too large")


def _refuse_job(broker: Rules, peer: Peer, why: str, code: bytes, text: bytes) -> None:
    broker.queues.counts.refusals[why] += 1
    peer.refuse(code, text)


def _acknowledge_job(queues: Queues, peer: Peer, job: BrokerJob, background: bool) -> None:
    """Tell a client the handle of its job; a foreground client waits for the result."""
    created = response(JOB_CREATED, queues.handle(job))
    if not background:
        job.clients += (peer,)
        peer.waiting.add(job)
    elif queues.durable and job in queues.changes.replies:
        return queues.changes.replies[job].append(peer.defer(created))
    return peer.send(created)


def _get_status(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
    handle = arguments[0].partition(b"\0")[0]
    job = broker.queues.job(handle)
    known, *others = _job_status(broker, job)
    if job is None and peer.results:
        known = find_outcome(broker.queues, handle)
    peer.send(response(Packet.STATUS_RES, handle, known, *others))


def _get_status_unique(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
    unique = arguments[0].partition(b"\0")[0]
    job = broker.queues.uniques.find_first(unique)
    clients = b"%d" % (len(job.clients) if job else 0)
    peer.send(response(Packet.STATUS_RES_UNIQUE, unique, *_job_status(broker, job), clients))


def _job_status(broker: Rules, job: BrokerJob | None) -> tuple[bytes, bytes, bytes, bytes]:
    """known, running, numerator, denominator."""
    if job is None:
        return b"0", b"0", b"0", b"0"
    return b"1", b"%d" % (job.worker is not None), *broker.queues.progress.get(job, (b"0", b"0"))


def _handle_echo(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
    peer.send(response(Packet.ECHO_RES, arguments[0]))


def _handle_option(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
    match arguments[0].partition(b"\0")[0].lower():
        case b"exceptions":
            peer.exceptions = True
        case b"retries":
            peer.retries = True
        case b"results":
            peer.results = True
        case b"resubmits":
            peer.resubmits = True
        case _:
            return peer.refuse(b"UNKNOWN_OPTION", b"Server does not recognize given option")
    return peer.send(response(Packet.OPTION_RES, arguments[0]))


HANDLERS: dict[Packet, Handler] = {
    Packet.SUBMIT_JOB: _handle_submit(NORMAL, background=False),
    Packet.SUBMIT_JOB_BG: _handle_submit(NORMAL, background=True),
    Packet.SUBMIT_JOB_HIGH: _handle_submit(HIGH, background=False),
    Packet.SUBMIT_JOB_HIGH_BG: _handle_submit(HIGH, background=True),
    Packet.SUBMIT_JOB_LOW: _handle_submit(LOW, background=False),
    Packet.SUBMIT_JOB_LOW_BG: _handle_submit(LOW, background=True),
    Packet.SUBMIT_JOB_EPOCH: _submit_epoch,
    Packet.SUBMIT_JOB_SCHED: _submit_sched,
    Packet.SUBMIT_REDUCE_JOB: _submit_reduce(background=False),
    Packet.SUBMIT_REDUCE_JOB_BACKGROUND: _submit_reduce(background=True),
    Packet.GET_STATUS: _get_status,
    Packet.GET_STATUS_UNIQUE: _get_status_unique,
    Packet.GET_RESULT: get_result,
    Packet.ECHO_REQ: _handle_echo,
    Packet.OPTION_REQ: _handle_option,
}
