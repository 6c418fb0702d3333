"""The text commands for operators, answered byte for byte as gearmand answers them.

Lists are sorted where gearmand has the order of its hash table.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter

from gearman_py.broker import failed_commands, job_changes, schedule_commands, steering
from gearman_py.broker.job_listing import list_jobs, show_job
from gearman_py.broker.moving import is_moved, move_jobs
from gearman_py.broker.results import show_result
from gearman_py.broker.returning import drain
from gearman_py.broker.rules import Rules
from gearman_py.broker.sliced_sort import sort_in_slices
from gearman_py.broker.state import Function, Peer
from gearman_py.broker.stats import find_function, list_stats, show_function
from gearman_py.broker.submitters import list_submitters
from gearman_py.protocol.numbers import decimal
from gearman_py.protocol.text import END, OK, error, escape_name, listing_row, printable, value

# A listing is sent in parts of at most this many rows, or of this many bytes and one row.
PART_ROWS = 500
PART_BYTES = 16 * 1024

MAX_AUDITED = 1000  # bytes of a command

Rows = Iterator[bytes] | Iterator[bytes | None]
Command = Callable[[Rules, Peer, Sequence[bytes]], bytes | Rows | None]
"""Answers a line, given its words; the first is the command as typed, in any letter case.

Returns None if it has sent the answer itself. A listing may have None among its rows: it is not
sent, but counts as work of its part.
"""


def answer(broker: Rules, peer: Peer, arguments: Sequence[bytes]) -> None:
    """Answer one line from a peer."""
    words = arguments[0].split(b" ")
    while words and not words[-1]:
        words.pop()
    words = [words[0], *(word for word in words[1:] if word)] if words else [b""]
    name = words[0].lower()
    reply: bytes | Rows | None
    command = (OPERATORS if peer.operator and name in OPERATORS else COMMANDS).get(name)
    if command is None:
        reply = _unknown_command(words[0])
    elif command in CHANGES and broker.restricted and not peer.operator:
        reply = error(b"PERMISSION", b"Only on the admin socket: " + name)
    else:
        reply = command(broker, peer, words)
    refused = isinstance(reply, bytes) and reply.startswith(b"ERR ")
    if command in AUDITED and not refused and words[:2] != [b"move", b"job"]:
        broker.on_change(peer, printable(b" ".join(words))[:MAX_AUDITED])
    if isinstance(reply, bytes):
        peer.send(reply)
    elif reply is not None:
        peer.send_listing(_split_listing(reply))


def _split_listing(rows: Rows) -> Iterator[tuple[bytes, bool]]:
    """The parts of a listing, which ends in a full stop, each with whether more follow."""
    part: list[bytes] = []
    size = seen = 0
    for row in rows:
        seen += 1
        if row is not None:
            part.append(listing_row(row))
            size += len(part[-1])
        if size >= PART_BYTES or seen == PART_ROWS:
            yield b"".join(part), True
            part, size, seen = [], 0, 0
    yield b"".join([*part, END]), False


def _unknown_command(word: bytes) -> bytes:
    return error(b"UNKNOWN_COMMAND", b"Unknown server command" + printable(word))


def _incomplete_command(command: bytes) -> bytes:
    text = b"An incomplete set of arguments was sent to this command " + command
    return error(b"INVALID_ARGUMENTS", text)


def _show_version(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes:
    return value(broker.version.encode())


def _show_pid(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes:
    return value(b"%d" % os.getpid())


def _show_log_level(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes:
    return value(broker.log_level.encode())


def _sort_functions(broker: Rules) -> Iterator[Function | None]:
    queues = broker.queues
    for function in sort_in_slices(queues.functions.values(), attrgetter("name")):
        if function is None or queues.functions.get(function.name) is function:
            yield function


def _list_status(broker: Rules, peer: Peer, words: Sequence[bytes]) -> Iterator[bytes | None]:
    for function in _sort_functions(broker):
        if function is None:
            yield None
            continue
        counts = function.total, function.running, len(function.workers)
        yield escape_name(function.name) + b"\t%d\t%d\t%d" % counts


def _priority_status(broker: Rules, peer: Peer, words: Sequence[bytes]) -> Iterator[bytes | None]:
    for function in _sort_functions(broker):
        if function is None:
            yield None
            continue
        high, normal, low = function.waiting
        counts = high, normal + function.scheduled, low, len(function.workers)
        yield escape_name(function.name) + b"\t%d\t%d\t%d\t%d" % counts


def _list_workers(broker: Rules, peer: Peer, words: Sequence[bytes]) -> Iterator[bytes]:
    return (
        b"%d %b %b :%b"
        % (
            peer.number,
            peer.address.encode(),
            printable(peer.client_id),
            b"".join(b" " + escape_name(function.name) for function in peer.order),
        )
        for peer in _present_peers(broker)
    )


def _present_peers(broker: Rules) -> Iterator[Peer]:
    """Those that are connected now, less those that leave before their turn to be listed."""
    return (peer for peer in list(broker.peers) if peer in broker.peers)


def _list_connections(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes | Iterator[bytes]:
    if words[1:]:
        return error(b"UNKNOWN_ARGUMENTS")
    return (
        b"%d\taddress=%b\tclient_id=%b\tseconds=%.0f"
        % (
            peer.number,
            peer.address.encode(),
            printable(peer.client_id),
            max(0.0, broker.now - peer.since),
        )
        for peer in _present_peers(broker)
    )


def _max_queue(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes:
    """maxqueue FUNCTION [LIMIT | HIGH NORMAL | HIGH NORMAL LOW]; without a number: unlimited."""
    command, *words = words
    if not words:
        return _incomplete_command(command)
    word, *numbers = words
    known = find_function(broker.queues.functions, word)
    name = known.name if known else word
    limits = [max(0, decimal(number)) for number in numbers[:3]]
    if len(limits) == 1:
        limits *= 3
    queues = broker.queues
    if why := queues.refuses_settings(name) if any(limits) else queues.refuses(name):
        return error(b"QUEUE_ERROR", why)
    function = queues.function(name)
    function.limits = [*limits, 0, 0, 0][:3]
    queues.disuse(function)
    return OK


def _create_function(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes:
    if len(words) != 3 or words[1].lower() != b"function":
        return _incomplete_command(words[0])
    if why := broker.queues.refuses(words[2]):
        return error(b"QUEUE_ERROR", why)
    if not find_function(broker.queues.functions, words[2]):
        broker.queues.function(words[2])
    return OK


def _drop_function(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes:
    if len(words) != 3 or words[1].lower() != b"function":
        return _incomplete_command(words[0])
    function = find_function(broker.queues.functions, words[2])
    if function is None:
        return b"ERR function not found\r\n"
    if function.workers or function.total:
        return b"ERR there are still connected workers or executing clients\r\n"
    broker.queues.forget_function(function)
    return OK


def _cancel_job(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes:
    if len(words) < 3:
        return _unknown_command(words[0])
    if len(words) > 3 or words[1].lower() != b"job":
        return error(b"UNKNOWN_ERROR")
    return OK if broker.cancel(words[2]) else error(b"UNKNOWN_JOB")


def _show_jobs(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes | Iterator[bytes]:
    """List jobs: handle, retries, whether it will be dropped, whether it is a background job."""
    match [word.lower() for word in words[1:]]:
        case [b"jobs"]:
            handle = broker.queues.handle
            return (
                b"%b\t%d\t%d\t%d"
                % (handle(job), job.retries, not (job.background or job.clients), job.background)
                for job in broker.queues.jobs
            )
        case [b"unique", b"jobs"]:
            return (printable(job.unique) for job in broker.queues.jobs)
        case []:
            return _unknown_command(words[0])
        case _:
            return error(b"UNKNOWN_SHOW_ARGUMENTS")


def _shut_down(broker: Rules, peer: Peer, words: Sequence[bytes]) -> bytes:
    """shutdown [graceful | moved]"""
    if [word.lower() for word in words[1:]] == [b"moved"]:
        drain(broker, broker.now, until=peer)
        if not is_moved(broker):
            return error(b"JOBS_LEFT", b"background jobs are queued, or jobs run")
        if broker.on_moved:
            broker.on_moved()
        return OK
    graceful = [word.lower() for word in words[1:]] == [b"graceful"]
    if words[1:] and not graceful:
        return error(b"UNKNOWN_ARGUMENTS")
    if broker.on_shutdown:
        broker.on_shutdown(graceful)
    return OK


COMMANDS: dict[bytes, Command] = {
    b"version": _show_version,
    b"getpid": _show_pid,
    b"verbose": _show_log_level,
    b"status": _list_status,
    b"prioritystatus": _priority_status,
    b"workers": _list_workers,
    b"maxqueue": _max_queue,
    b"create": _create_function,
    b"drop": _drop_function,
    b"cancel": _cancel_job,
    b"show": _show_jobs,
    # Not in the C server:
    b"connections": _list_connections,
    b"stats": list_stats,
    b"pause": steering.pause,
    b"resume": steering.resume,
    b"pauses": steering.list_pauses,
    b"limit": steering.limit,
    b"purge": steering.purge,
    b"retry": failed_commands.retry,
    b"discard": failed_commands.discard,
    b"result": show_result,
    b"prioritize": job_changes.prioritize,
    b"reschedule": job_changes.reschedule,
    b"function": show_function,
    b"submitters": list_submitters,
    b"jobs": list_jobs,
    b"job": show_job,
    b"server": steering.server,
    b"schedule": schedule_commands.schedule,
    b"schedules": schedule_commands.list_schedules,
}

# The C server dropped shutdown in 1.1.15, since anyone could send it.
OPERATORS: dict[bytes, Command] = {
    b"shutdown": _shut_down,
    b"move": move_jobs,  # not in the C server
}
# What only operators may do if the broker is restricted: changes, and reading workloads.
CHANGES = {
    *(_max_queue, _create_function, _drop_function, _cancel_job, show_job, show_result),
    *(steering.pause, steering.resume, steering.limit, steering.purge),
    *(failed_commands.retry, failed_commands.discard),
    *(job_changes.prioritize, job_changes.reschedule),
    *(schedule_commands.schedule, schedule_commands.list_schedules),
}
# What is told to those that keep a record of changes; jobs are moved by the thousand.
AUDITED = CHANGES - {show_job, show_result, schedule_commands.list_schedules} | {
    *OPERATORS.values()
}
