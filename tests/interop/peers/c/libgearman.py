"""Debian's libgearman.so.8, driven as a C program drives it.

What is here is what the peers beside it use: handles are opaque, results are return codes.
"""

import sys
from collections.abc import Callable
from ctypes import (
    CDLL,
    CFUNCTYPE,
    POINTER,
    Structure,
    byref,
    c_bool,
    c_char_p,
    c_int,
    c_int64,
    c_size_t,
    c_uint32,
    c_void_p,
    create_string_buffer,
    string_at,
)
from typing import Any

Return = int
SUCCESS, EXCEPTION, FAIL, TIMEOUT = 0, 23, 24, 47  # enum gearman_return_t
FOR_EVER = -1  # as a timeout

TaskFunction = CFUNCTYPE(c_int, c_void_p)
JobFunction = CFUNCTYPE(c_int, c_void_p, c_void_p)
Aggregator = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p)


class Attributes(Structure):
    """gearman_task_attr_t: foreground or background, priority, time."""

    _fields_ = [("kind", c_int), ("priority", c_int), ("epoch", c_int64)]


class Argument(Structure):
    """gearman_argument_t: a workload with its name."""

    _fields_ = [("words", c_size_t * 4)]


class Function(Structure):
    """gearman_function_t: what a worker calls for a job."""

    _fields_ = [("kind", c_int), ("functions", c_void_p * 2)]


library = CDLL("libgearman.so.8")


def _declare(result: Any, name: str, *arguments: Any) -> Callable[..., Any]:
    function = library[name]
    function.restype, function.argtypes = result, arguments
    return function


_text = c_char_p, c_size_t
_void = c_void_p

strerror = _declare(c_char_p, "gearman_strerror", c_int)

client_create = _declare(_void, "gearman_client_create", _void)
client_add_servers = _declare(c_int, "gearman_client_add_servers", _void, c_char_p)
client_set_timeout = _declare(None, "gearman_client_set_timeout", _void, c_int)
client_set_option = _declare(c_bool, "gearman_client_set_server_option", _void, *_text)
client_echo = _declare(c_int, "gearman_client_echo", _void, *_text)
client_run_tasks = _declare(c_int, "gearman_client_run_tasks", _void)
client_job_status = _declare(
    *(c_int, "gearman_client_job_status", _void, c_char_p),
    *(POINTER(c_bool), POINTER(c_bool), POINTER(c_uint32), POINTER(c_uint32)),
)

_adding = (_void, _void, _void, c_char_p, c_char_p, *_text, POINTER(c_int))
client_add_task = {
    "high": _declare(_void, "gearman_client_add_task_high", *_adding),
    "normal": _declare(_void, "gearman_client_add_task", *_adding),
    "low": _declare(_void, "gearman_client_add_task_low", *_adding),
}
_queueing = _void, c_char_p, c_char_p, *_text, c_char_p
client_do_background = {
    "high": _declare(c_int, "gearman_client_do_high_background", *_queueing),
    "normal": _declare(c_int, "gearman_client_do_background", *_queueing),
    "low": _declare(c_int, "gearman_client_do_low_background", *_queueing),
}
_client_do = _declare(
    *(_void, "gearman_client_do", _void, c_char_p, c_char_p),
    *(*_text, POINTER(c_size_t), POINTER(c_int)),
)
_executing = *_text, *_text, POINTER(Attributes), POINTER(Argument), _void
execute = _declare(_void, "gearman_execute", _void, *_executing)
execute_by_partition = _declare(_void, "gearman_execute_by_partition", _void, *_text, *_executing)
argument_make = _declare(Argument, "gearman_argument_make", *_text, *_text)
attributes = _declare(Attributes, "gearman_task_attr_init", c_int)
attributes_epoch = _declare(Attributes, "gearman_task_attr_init_epoch", c_int64, c_int)

task_job_handle = _declare(c_char_p, "gearman_task_job_handle", _void)
task_numerator = _declare(c_uint32, "gearman_task_numerator", _void)
task_denominator = _declare(c_uint32, "gearman_task_denominator", _void)
task_return = _declare(c_int, "gearman_task_return", _void)
_task_data = _declare(_void, "gearman_task_data", _void)
_task_data_size = _declare(c_size_t, "gearman_task_data_size", _void)
_task_result = _declare(_void, "gearman_task_result", _void)
_next = _declare(_void, "gearman_next", _void)
_result_value = _declare(_void, "gearman_result_value", _void)
_result_size = _declare(c_size_t, "gearman_result_size", _void)
result_store = _declare(c_int, "gearman_result_store_value", _void, *_text)

worker_create = _declare(_void, "gearman_worker_create", _void)
worker_add_servers = _declare(c_int, "gearman_worker_add_servers", _void, c_char_p)
worker_define = _declare(
    *(c_int, "gearman_worker_define_function", _void, *_text),
    *(Function, c_uint32, _void),
)
worker_work = _declare(c_int, "gearman_worker_work", _void)
function_create = _declare(Function, "gearman_function_create", JobFunction)
function_create_partition = _declare(
    Function, "gearman_function_create_partition", JobFunction, Aggregator
)
_job_workload = _declare(_void, "gearman_job_workload", _void)
_job_workload_size = _declare(c_size_t, "gearman_job_workload_size", _void)
job_send_data = _declare(c_int, "gearman_job_send_data", _void, *_text)
job_send_warning = _declare(c_int, "gearman_job_send_warning", _void, *_text)
job_send_status = _declare(c_int, "gearman_job_send_status", _void, c_uint32, c_uint32)
job_send_complete = _declare(c_int, "gearman_job_send_complete", _void, *_text)
job_send_exception = _declare(c_int, "gearman_job_send_exception", _void, *_text)


def on(client: int, event: str, callback: Callable[[int], None]) -> None:
    """Call back with the task at each such event: created, data, warning, status ..."""

    def call(task: int) -> Return:
        callback(task)
        return SUCCESS

    function = TaskFunction(call)
    _kept.append(function)
    library[f"gearman_client_set_{event}_fn"](c_void_p(client), function)


_kept: list[object] = []  # what C holds a pointer to must not be collected


def task_data(task: int) -> bytes:
    return string_at(_task_data(task), _task_data_size(task)) if _task_data(task) else b""


def task_results(task: int) -> list[bytes]:
    """The result of this task and of those after it."""
    results = []
    following: int | None = task
    while following:
        result = _task_result(following)
        value = _result_value(result) if result else None
        results.append(string_at(value, _result_size(result)) if value else b"")
        following = _next(following)
    return results


def job_workload(job: int) -> bytes:
    size = _job_workload_size(job)
    return string_at(_job_workload(job), size) if size else b""


def client(servers: str) -> int:
    """A new client of these servers (HOST:PORT,...)."""
    made: int = client_create(None)
    check(client_add_servers(made, servers.encode()))
    return made


def add_task(made: int, priority: str, function: str, unique: str, workload: bytes) -> int:
    """Add a foreground job; run_tasks sends it."""
    code = c_int()
    names = function.encode(), unique.encode() or None
    add = client_add_task[priority]
    task: int = add(made, None, None, *names, workload or None, len(workload), byref(code))
    check(code.value)
    return task


def do_background(made: int, priority: str, function: str, unique: str, workload: bytes) -> bytes:
    """Queue a background job; its handle."""
    handle = create_string_buffer(64)
    names = function.encode(), unique.encode() or None
    check(client_do_background[priority](made, *names, workload, len(workload), handle))
    return handle.value


def do(made: int, function: str, workload: bytes) -> bytes | None:
    """Run a foreground job; None if it failed or the server was lost."""
    size, code = c_size_t(), c_int()
    arguments = function.encode(), None, workload, len(workload)
    result = _client_do(made, *arguments, byref(size), byref(code))
    return string_at(result, size.value) if code.value == SUCCESS else None


def job_status(made: int, handle: str) -> tuple[int, ...]:
    """known, running, numerator, denominator."""
    known, running, numerator, denominator = c_bool(), c_bool(), c_uint32(), c_uint32()
    answers = byref(known), byref(running), byref(numerator), byref(denominator)
    check(client_job_status(made, handle.encode(), *answers))
    return int(known.value), int(running.value), numerator.value, denominator.value


def define(
    worker: int,
    name: str,
    function: Callable[[int, int], Return],
    limit: int,
    aggregator: Callable[[int, int, int], Return] | None,
) -> None:
    """Let a worker do a function, each job within ``limit`` ms; see libgearman's for the rest."""
    calls: list[Any] = [JobFunction(function)]
    if aggregator is None:
        made = function_create(*calls)
    else:
        calls.append(Aggregator(aggregator))
        made = function_create_partition(*calls)
    _kept.extend(calls)
    check(worker_define(worker, name.encode(), len(name), made, limit, None))


def check(code: Return) -> None:
    """End the program, saying why, when a call has failed."""
    if code != SUCCESS:
        sys.exit(strerror(code).decode())


def say(*words: bytes) -> None:
    """Print a line, at once."""
    sys.stdout.buffer.write(b" ".join(words) + b"\n")
    sys.stdout.buffer.flush()
