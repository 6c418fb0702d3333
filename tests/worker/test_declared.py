"""Invalid declarations are refused where they are written, not by the first job."""

import asyncio
import functools
import math
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from gearman_py import Client, Worker, WorkerJob
from gearman_py.functions.reverse import reverse
from gearman_py.testing import Server, running


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retries": -1}, "retries is -1, and must be at least 0"),
        ({"retries": 1.5}, r"retries is 1\.5; expected a whole number"),
        ({"retries": True}, "retries is True; expected a whole number"),
        ({"timeout": 0}, "timeout is 0; expected seconds, more than 0"),
        ({"timeout": -1}, "timeout is -1; expected seconds"),
        ({"timeout": math.nan}, "timeout is nan; expected seconds"),
        ({"timeout": "30"}, "timeout is '30'; expected seconds"),
        ({"soft_timeout": 0}, "soft_timeout is 0; expected seconds"),
        ({"timeout": 5, "soft_timeout": 5}, "soft_timeout is 5, and must be less than timeout, 5"),
        ({"server_timeout": 0}, "server_timeout is 0; expected seconds"),
        ({"timeout": 1e300}, "timeout is 1e.300; expected seconds"),
        ({"retries": None}, "retries is None; expected a whole number"),
        ({"backoff": -1}, "backoff is -1; expected seconds"),
        ({"backoff": None}, "backoff is None; expected seconds"),
        ({"retry_on": None}, "retry_on contains None, which is not an exception class"),
        (
            {"retry_on": [OSError, "ValueError"]},
            "retry_on contains 'ValueError', which is not",
        ),
        ({"retry_on": ()}, "retry_on is empty"),
        ({"workload": "yes"}, "workload is 'yes'; expected True or False"),
        ({"server_timeout": 0.0001}, r"server_timeout is 0\.0001; servers count milliseconds"),
        ({"retry_on": int}, "retry_on contains <class 'int'>, which is not an exception class"),
    ],
)
def test_an_invalid_option_of_a_function(options: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Worker("localhost").add_function("f", lambda job: None, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "concurrency is 0, and must be at least 1"),
        ({"concurrency": "4"}, "concurrency is '4'; expected a whole number"),
        ({"processes": -1}, "processes is -1, and must be at least 0"),
        ({"timeout": 0}, "timeout is 0; expected seconds, more than 0"),
        ({"drain_timeout": -1}, "drain_timeout is -1; expected seconds, 0 or more"),
        ({"max_packet": 0}, "max_packet is 0, and must be at least 1"),
        ({"max_jobs": 0}, "max_jobs is 0, and must be at least 1"),
        ({"client_id": "my worker"}, "client_id 'my worker' contains a space"),
        ({"client_id": "a\0b"}, "client_id .* cannot be sent"),
        ({"client_id": 7}, "client_id is 7; expected str"),
        ({"address": "a\0b"}, "address .* cannot be sent"),
        ({"concurrency": None}, "concurrency is None; expected a whole number"),
        ({"drain_timeout": None}, "drain_timeout is None; expected seconds"),
        ({"max_packet": None}, "max_packet is None; expected a whole number"),
        ({"max_packet": 2**32}, "max_packet is 4294967296, and must be at most 4294967295"),
    ],
)
def test_an_option_of_a_worker_that_makes_no_sense(options: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Worker("localhost", **options)
    with pytest.raises((TypeError, ValueError), match=message):
        Worker("localhost").configure(**options)


def test_a_decorator_without_parentheses() -> None:
    def shout(job: WorkerJob) -> None: ...

    declare: Any = Worker("localhost").function
    with pytest.raises(TypeError, match=r'write @worker\.function\("NAME"\)'):
        declare(shout)


@pytest.mark.parametrize("name", ["", " ", "a\0b", "a\ud800"])
def test_a_name_that_cannot_be_seen(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a function"):
        Worker("localhost").add_function(name, lambda job: None)


def test_a_name_may_hold_a_space(gearman_server: Server, gearman_client: Client) -> None:
    worker = Worker(gearman_server.address)
    worker.add_function("resize picture", lambda job: job.function)
    with running(worker):
        assert gearman_client.do("resize picture") == b"resize picture"


def test_functions_and_hooks_that_cannot_be_called() -> None:
    worker: Any = Worker("localhost")
    with pytest.raises(TypeError, match=r"takes \(\), and is called with job"):
        worker.add_function("f", lambda: None)
    with pytest.raises(TypeError, match=r"takes \(job, more\), and is called with workload"):
        worker.add_function("f", lambda job, more: None, workload=True)
    with pytest.raises(TypeError, match=r"takes \(job\), and is called with job, outcome"):
        worker.on_outcome(lambda job: None)
    for declare in (worker.on_startup, worker.on_shutdown):
        with pytest.raises(TypeError, match=r"takes \(job\), and is called with no arguments"):
            declare(lambda job: None)
    for fine in (len, bytes.upper, lambda job, more=None: None, lambda *words: None):
        worker.add_function(repr(fine), fine, workload=True)


def test_serializer_that_is_none() -> None:
    wrong: Any = 3
    with pytest.raises(TypeError, match="serializer is 3; expected an object with dumps and loads"):
        Worker("localhost", serializer=wrong)


def test_name_that_no_server_reads() -> None:
    with pytest.raises(ValueError, match="has 8193 bytes; expected at most 8192"):
        Worker("localhost").add_function("f" * 8193, lambda job: None)


def test_limits_of_children_without_children() -> None:
    for name in ("max_jobs_per_child", "max_memory_per_child"):
        options: Any = {name: 5}
        worker = Worker("localhost", **options)
        worker.add_function("f", lambda job: None)
        with pytest.raises(ValueError, match=f"{name}=5 needs child processes"):
            worker.run()


def test_a_prefix_that_cannot_be_sent() -> None:
    with pytest.raises(ValueError, match=r"prefix .* cannot be sent"):
        Worker("localhost", prefix="a\0b")


def test_what_is_not_a_function() -> None:
    worker: Any = Worker("localhost")
    for declare in (worker.on_startup, worker.on_shutdown, worker.on_outcome, worker.around):
        with pytest.raises(TypeError, match="7 is not a function"):
            declare(7)
    with pytest.raises(TypeError, match="7 is not a function"):
        worker.add_function("f", 7)


def test_around_wants_a_context_manager() -> None:
    worker: Any = Worker("localhost")

    def generator(job: WorkerJob) -> Iterator[None]:
        yield

    async def coroutine(job: WorkerJob) -> None: ...

    async def async_generator(job: WorkerJob) -> AsyncIterator[None]:
        yield

    with pytest.raises(TypeError, match="add @contextmanager"):
        worker.around(generator)
    for wrong in (coroutine, async_generator):
        with pytest.raises(TypeError, match="add @asynccontextmanager"):
            worker.around(wrong)


def test_what_does_not_go_together_is_said_before_anything_is_connected() -> None:
    threads_in_processes = Worker("localhost", concurrency=8, processes=2)
    threads_in_processes.add_function("f", lambda job: None)
    with pytest.raises(ValueError, match="concurrency=8 with processes is for async functions"):
        threads_in_processes.run()

    soft_alone = Worker("localhost")
    soft_alone.add_function("f", lambda job: None, soft_timeout=3)
    with pytest.raises(ValueError, match="f: soft_timeout is 3, and needs a longer timeout"):
        soft_alone.run()

    mixed = Worker("localhost")
    mixed.add_function("f", lambda job: None)

    @mixed.around
    @asynccontextmanager
    async def around(job: WorkerJob) -> AsyncIterator[None]:
        yield

    with pytest.raises(ValueError, match="f is not async, and cannot have an async context"):
        mixed.run()


def test_a_list_of_errors_to_try_again_after(
    gearman_server: Server, gearman_client: Client
) -> None:
    worker = Worker(gearman_server.address)

    def second_time(job: WorkerJob) -> str:
        if job.attempt == 1:
            raise OSError
        return f"attempt {job.attempt}"

    worker.add_function("listed", second_time, retries=1, retry_on=[OSError], backoff=0)
    worker.add_function("alone", second_time, retries=1, retry_on=OSError, backoff=0)
    with running(worker):
        assert gearman_client.do("listed") == gearman_client.do("alone") == b"attempt 2"


def test_a_context_manager_that_fails_to_start_fails_the_job(
    gearman_server: Server, gearman_client: Client
) -> None:
    worker = Worker(gearman_server.address)
    worker.add_function("f", lambda job: b"done")

    @worker.around
    @contextmanager
    def swallow(job: WorkerJob) -> Iterator[None]:
        try:
            yield
        except OSError:
            pass

    @worker.around
    @contextmanager
    def begin(job: WorkerJob) -> Iterator[None]:
        if job.workload:
            raise OSError("no database")
        yield

    with running(worker):
        assert "no database" in str(gearman_client.submit("f", "x").exception())
        assert gearman_client.do("f") == b"done"


def test_a_hook_that_would_run_nothing_is_refused() -> None:
    worker = Worker("localhost")

    async def startup() -> AsyncIterator[None]:
        yield

    def shutdown() -> Iterator[None]:
        yield

    for declare, wrong in ((worker.on_startup, startup), (worker.on_shutdown, shutdown)):
        with pytest.raises(TypeError, match="contains a yield, so calling it would not run"):
            declare(wrong)


@pytest.mark.parametrize("processes", [0, 1])
def test_an_async_function_behind_a_plain_decorator_is_named(
    gearman_server: Server, gearman_client: Client, processes: int
) -> None:
    def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any) -> Any:
            return function(*arguments)

        return call

    @decorated
    async def f(job: WorkerJob) -> None: ...

    worker = Worker(gearman_server.address, processes=processes)
    worker.add_function("f", f)
    with running(worker):
        error = str(gearman_client.submit("f").exception())
    assert "f returned a coroutine, which is not awaited; if it is decorated, define" in error


def test_an_async_hook_before_one_that_fails_is_not_left_unawaited() -> None:
    worker = Worker("localhost")
    worker.add_function("f", lambda job: None)

    @worker.on_startup
    async def up() -> None: ...

    @worker.on_startup
    def fail() -> None:
        raise OSError("no database")

    with pytest.raises(Exception) as caught:
        asyncio.run(worker.serve())
    assert str(caught.value.__cause__) == "no database"


def test_a_worker_survives_pickle_with_what_it_was_told(
    gearman_server: Server, gearman_client: Client
) -> None:
    worker = Worker(gearman_server.address, prefix="p.", timeout=5)
    worker.add_function("reverse", reverse, workload=True)
    with running(worker):
        copy = pickle.loads(pickle.dumps(worker))  # noqa: S301  our own
    assert copy.work(timeout=0) == 0
    with running(copy):
        assert gearman_client.do("p.reverse", "abc") == b"cba"
