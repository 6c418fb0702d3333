"""Errors can be copied and pickled, with the facts about their job; clients cannot."""

import asyncio
import copy
import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import pytest

import gearman_py
from gearman_py import (
    AdminClient,
    AdminError,
    ArgumentTooLarge,
    AsyncAdminClient,
    AsyncClient,
    Client,
    ConnectionLost,
    DataTooLarge,
    GearmanError,
    JobException,
    JobFailed,
    JobSnapshot,
    JobState,
    JobTimeout,
    ProtocolError,
    QueueFull,
    Requeue,
    ResultsUnsupported,
    ResultTooLarge,
    ServerUnavailable,
    SubmitError,
    TimeLimit,
    TLSError,
    UnknownJob,
    Worker,
    WorkerJob,
)
from gearman_py.client.job import ClientJob
from tests.waiting import LIMIT

JOB = ClientJob("f")
ERRORS = [
    ServerUnavailable([("a:1", "refused"), ("b:2", "gone")]),
    ConnectionLost("a:1", "it went", handle="H:1"),
    ProtocolError("what"),
    SubmitError("CODE", "text"),
    QueueFull("CODE", "text"),
    ArgumentTooLarge("CODE", "text"),
    JobFailed(JOB),
    JobException(JOB, b"\xffwhy"),
    ResultTooLarge(JOB, "too many bytes"),
    DataTooLarge("too many bytes"),
    JobTimeout("late"),
    AdminError("no"),
    UnknownJob("H:1", "not known"),
    ResultsUnsupported("H:1", ["a:1", "b:1"]),
    TLSError("no such file"),
    Requeue(3.0),
    TimeLimit("late"),
]


def _pickled(error: Any, protocol: int) -> Any:
    return pickle.loads(pickle.dumps(error, protocol))  # noqa: S301  it is our own


COPIES: list[Callable[[Any], Any]] = [
    copy.copy,
    copy.deepcopy,
    *(partial(_pickled, protocol=number) for number in range(pickle.HIGHEST_PROTOCOL + 1)),
]


def _public_errors() -> Iterator[type[BaseException]]:
    for name in gearman_py.__all__:
        kind = getattr(gearman_py, name)
        if isinstance(kind, type) and issubclass(kind, BaseException):
            yield kind


def test_every_error_is_among_them() -> None:
    assert set(_public_errors()) - {type(error) for error in ERRORS} == {GearmanError}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_copy_says_and_knows_the_same(error: Exception) -> None:
    for copied in (make(error) for make in COPIES):
        assert type(copied) is type(error)
        assert str(copied) == str(error)
        facts = {name: known for name, known in vars(error).items() if name != "job"}
        assert facts.items() <= vars(copied).items()
        if isinstance(error, JobFailed):
            assert vars(copied)["job"] == JOB.snapshot()


def _raise(address: str) -> None:
    with Client(address, timeout=LIMIT) as client:
        client.do("errors-fail", "x", unique="u")


@pytest.fixture
def failing(shared_gearmand: Any, serve_worker: Any) -> str:
    worker = Worker(shared_gearmand.address)

    @worker.function("errors-fail")
    def fails(job: WorkerJob) -> None:
        job.send_data(b"half")
        job.send_warning("careful")
        raise ValueError("boom")

    serve_worker(worker)
    return str(shared_gearmand.address)


def _check(error: JobException) -> None:
    job = error.job
    assert isinstance(job, JobSnapshot)
    assert (job.function, job.workload, job.unique, job.state) == (
        *("errors-fail", b"x", "u"),
        JobState.FAILED,
    )
    assert (job.data, job.warnings, error.text) == ([b"half"], [b"careful"], "ValueError: boom")
    assert job.handle in str(error)


@pytest.mark.slow
def test_a_pool_hears_why_a_job_failed(failing: str) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool, pytest.raises(JobException) as pooled:
        pool.apply_async(_raise, [failing]).get(timeout=30)
    _check(pooled.value)
    executor = ProcessPoolExecutor(1, mp_context=context)
    with executor, pytest.raises(JobException) as executed:
        executor.submit(_raise, failing).result(timeout=30)
    _check(executed.value)


def test_an_async_client_raises_the_same_error(failing: str) -> None:
    async def use() -> None:
        async with AsyncClient(failing, timeout=LIMIT) as client:
            with pytest.raises(JobException) as error:
                await client.do("errors-fail", "x", unique="u")
            _check(_pickled(error.value, pickle.HIGHEST_PROTOCOL))

    asyncio.run(use())


@pytest.mark.parametrize("make", COPIES)
@pytest.mark.parametrize("kind", [Client, AsyncClient, AdminClient, AsyncAdminClient])
def test_a_client_says_that_it_cannot_be_copied(
    kind: Callable[[str], Any], make: Callable[[Any], Any]
) -> None:
    expected = f"{kind.__name__} cannot be copied or pickled: create one in each process"
    with pytest.raises(TypeError, match=expected):
        make(kind("127.0.0.1:1"))


@pytest.mark.parametrize("make", COPIES)
def test_a_job_says_that_it_cannot_be_copied(make: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"cannot be copied or pickled: pass on its handle"):
        make(JOB)


def test_messages_say_what_was_not_done() -> None:
    with Client("127.0.0.1:1") as client:
        with pytest.raises(ArgumentTooLarge, match="the job was not submitted: a unique of 65"):
            client.do("f", unique="u" * 65)
        with pytest.raises(ValueError, match="a background job sends nothing back"):
            client.do_background("f", on_data=print)


def test_do_in_the_background_names_the_right_method(gearmand: Any) -> None:
    expected = r"this waits for a result.*use do_background\(\)"
    with Client(gearmand.address) as client, pytest.raises(GearmanError, match=expected):
        client.do("f", background=True)
