"""What clients and operators ask about background jobs that have ended, or will.

A client with the option ``results`` may send GET_RESULT for a background job. If the job is not
over, it then waits for it like one that has submitted it in the foreground. The text command

    result HANDLE [OFFSET]    what the job returned, from that byte on (0), in Base64

does not wait. The C server has neither.
"""

from base64 import b64encode
from collections.abc import Iterator, Sequence

from gearman_py.broker.kept_results import KeptResult, make_result_record
from gearman_py.broker.queues import Queues
from gearman_py.broker.rules import Rules
from gearman_py.broker.state import BrokerJob, Peer
from gearman_py.broker.stored_jobs import keep_result
from gearman_py.protocol.codec import response, response_parts
from gearman_py.protocol.numbers import decimal
from gearman_py.protocol.packets import WORK_COMPLETE, Packet
from gearman_py.protocol.text import error, listed_name, printable

UNKNOWN, COMPLETE, FAILED = b"0", b"2", b"3"  # in STATUS_RES: a job that is not over is b"1"
PART_BYTES = 2**20  # of a result, in an answer to a text command


def end_complete(broker: Rules, job: BrokerJob, result: bytes) -> None:
    """A job that is in no queue and does not run is complete: forget it, and keep its result."""
    queues, name = broker.queues, job.function.name
    wanted = job.background and queues.results and queues.results.wants(name, len(result))
    kept = bool(wanted and not queues.full)
    if kept:
        found = KeptResult(job.number, queues.handle(job), name, broker.time_of_day(), result)
        if queues.durable:
            queues.changes.rewrite(make_result_record(found))
        keep_result(queues, found)
    queues.erase(job, stored=kept)


def forget_half(broker: Rules) -> None:
    """Forget half of the results that are kept: memory is scarce."""
    if results := broker.queues.results:
        for kept in results.shrink(results.bytes // 2):
            broker.forget_kept(kept.number)


def get_result(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
    """GET_RESULT: tell the client the end of a background job, when it comes."""
    (handle,) = arguments
    queues = broker.queues
    if not peer.results:
        return peer.refuse(b"INVALID_COMMAND", b"Command not expected")
    job, kept = queues.job(handle), queues.results and queues.results.get(handle)
    if job is not None and job.background:
        peer.send(response(Packet.JOB_FOUND, handle, b"0", job.function.name))
        job.clients += (peer,)
        return peer.waiting.add(job)
    if kept:
        peer.send(response(Packet.JOB_FOUND, handle, b"1", kept.function))
        return peer.send(*response_parts(WORK_COMPLETE, handle, kept.result))
    if failed := queues.failed.get(handle):
        peer.send(response(Packet.JOB_FOUND, handle, b"1", failed.function))
        if peer.exceptions:
            return peer.send(response(Packet.WORK_EXCEPTION, handle, failed.reason))
        return peer.send(response(Packet.WORK_FAIL, handle))
    return peer.refuse(b"UNKNOWN_JOB", _explain_unknown(queues))


def find_outcome(queues: Queues, handle: bytes) -> bytes:
    """What is known of a job that is over."""
    if queues.results and queues.results.get(handle):
        return COMPLETE
    return FAILED if queues.failed.get(handle) else UNKNOWN


def show_result(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes | Iterator[bytes]:
    """result HANDLE [OFFSET]"""
    if len(words) not in (2, 3) or (words[2:] and not words[2].isdigit()):
        return error(b"INVALID_ARGUMENTS", b"expected result HANDLE [OFFSET]")
    queues, handle = broker.queues, words[1]
    if kept := queues.results and queues.results.get(handle):
        start = decimal(words[2]) if words[2:] else 0
        pairs = [
            (b"function", listed_name(kept.function)),
            (b"completed", b"%.3f" % kept.when),
            (b"bytes", b"%d" % len(kept.result)),
            (b"result", b64encode(kept.result[start : start + PART_BYTES])),
        ]
        return iter([b"\t".join([handle, *(b"%b=%b" % pair for pair in pairs)])])
    if failed := queues.failed.get(handle):
        return error(b"JOB_FAILED", printable(failed.reason))
    if queues.job(handle):
        return error(b"JOB_NOT_ENDED", b"the job waits or runs")
    return error(b"UNKNOWN_JOB", _explain_unknown(queues))


def _explain_unknown(queues: Queues) -> bytes:
    if queues.results is None:
        return b"it is neither queued nor failed, and this server keeps no results (--keep-results)"
    return b"it has never existed, or its result is not kept, or not any longer"
