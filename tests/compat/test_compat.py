"""gearman_py.compat as programs written for pygearman use it, on our server and on the C one."""

import json
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gearman_py import Client, JobException, JobFailed, QueueFull
from gearman_py import compat as gearman
from gearman_py.testing import Server
from gearman_py.testing import server as our_server
from tests.job_servers import C_GEARMAND, running_server
from tests.waiting import await_true

LIMIT = 60.0  # seconds in which what a test waits for must come about


@pytest.fixture(
    scope="module",
    params=["ours", pytest.param("C", marks=pytest.mark.interop)],
)
def address(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A job server of ours, then the C one."""
    if request.param == "ours":
        with our_server() as jobs:
            yield jobs.address
    else:
        if not Path(*C_GEARMAND).exists():
            pytest.skip("needs Debian's gearman-job-server")
        with running_server(C_GEARMAND, tmp_path_factory.mktemp("gearmand")) as (host, port):
            yield f"{host}:{port}"


class StoppableWorker(gearman.GearmanWorker):
    stopping = False

    def after_poll(self, any_activity: bool) -> bool:
        return not self.stopping


@contextmanager
def at_work(worker: StoppableWorker) -> Iterator[StoppableWorker]:
    """The worker works, in a thread, until the block ends."""
    thread = threading.Thread(target=partial(worker.work, 0.05))
    thread.start()
    try:
        yield worker
    finally:
        worker.stopping = True
        thread.join(LIMIT)
        assert not thread.is_alive()


def serving(address: str, **tasks: Callable[..., Any]) -> AbstractContextManager[StoppableWorker]:
    worker = StoppableWorker([address])
    for name, task in tasks.items():
        worker.register_task(name, task)
    return at_work(worker)


def reverse(worker: gearman.GearmanWorker, job: gearman.GearmanJob) -> bytes:
    return bytes(reversed(job.data))


def refuse(worker: gearman.GearmanWorker, job: gearman.GearmanJob) -> bytes:
    raise ValueError("no")


def test_submit_job_without_a_timeout_waits_for_the_result(address: str) -> None:
    with serving(address, reverse=reverse):
        request = gearman.GearmanClient([address]).submit_job("reverse", "Hello World!")
    assert (request.state, request.result) == (gearman.JOB_COMPLETE, b"!dlroW olleH")
    assert request.complete
    assert not request.timed_out


@pytest.mark.parametrize("name", ["as_text", b"as_bytes"])
def test_names_are_str_or_bytes_and_come_back_as_registered(
    address: str, name: str | bytes
) -> None:
    seen: list[gearman.GearmanJob] = []
    worker = StoppableWorker([address])

    def see(worker: gearman.GearmanWorker, job: gearman.GearmanJob) -> bytes:
        seen.append(job)
        return b"done"

    worker.register_task(name, see)
    with at_work(worker):
        request = gearman.GearmanClient([address]).submit_job(name, b"x", unique=b"one")
    (job,) = seen
    assert (job.task, job.unique, job.data) == (name, b"one", b"x")
    assert job.handle == request.job.handle


def test_many_jobs_are_in_flight_at_once_and_come_in_order(address: str) -> None:
    jobs = [
        {"task": "reverse", "data": f"{number:04}", "priority": priority}
        for number in range(1000)
        for priority in (None, gearman.PRIORITY_HIGH)
    ]
    with serving(address, reverse=reverse):
        requests = gearman.GearmanClient([address]).submit_multiple_jobs(jobs, poll_timeout=LIMIT)
    assert [request.result for request in requests] == [
        str(job["data"])[::-1].encode() for job in jobs
    ]


def test_job_that_nobody_does_has_timed_out_and_can_be_waited_for(address: str) -> None:
    client = gearman.GearmanClient([address])
    request = client.submit_job("later", b"abc", poll_timeout=1)
    assert (request.state, request.timed_out) == (gearman.JOB_CREATED, True)
    with serving(address, later=reverse):
        client.wait_until_jobs_completed([request], poll_timeout=LIMIT)
    assert (request.result, request.timed_out) == (b"cba", False)


def test_background_job_is_complete_when_accepted_and_its_status_known(address: str) -> None:
    client = gearman.GearmanClient([address])
    request = client.submit_job("waits", b"", background=True, priority=gearman.PRIORITY_LOW)
    assert (request.state, request.complete) == (gearman.JOB_CREATED, True)
    status = client.get_job_status(request, poll_timeout=LIMIT).status
    assert (status["known"], status["running"], status["handle"]) == (
        True,
        False,
        request.job.handle,
    )


def test_status_is_asked_with_a_request_made_by_hand(address: str) -> None:
    client = gearman.GearmanClient([address])
    handle = client.submit_job("waits", b"", background=True).job.handle
    connection = client.establish_connection(client.connection_list[0])
    job = gearman.job.GearmanJob(connection, handle.decode(), None, None, None)
    request = gearman.job.GearmanJobRequest(job)
    request.state = gearman.JOB_CREATED
    assert client.get_job_status(request).status["known"]


def test_updates_of_a_running_job_are_kept(address: str) -> None:
    def tell(worker: gearman.GearmanWorker, job: gearman.GearmanJob) -> str:
        worker.send_job_data(job, b"one")
        worker.send_job_data(job, "two")
        worker.send_job_warning(job, b"careful")
        worker.send_job_status(job, 1, 2)
        return "end"

    with serving(address, tell=tell):
        request = gearman.GearmanClient([address]).submit_job("tell", b"")
    assert list(request.data_updates) == [b"one", b"two"]
    assert list(request.warning_updates) == [b"careful"]
    assert (request.status["numerator"], request.status["denominator"]) == (1, 2)
    assert request.result == b"end"


def test_function_that_raises_fails_its_job_and_the_worker_goes_on(address: str) -> None:
    with serving(address, refuse=refuse, reverse=reverse):
        client = gearman.GearmanClient([address])
        assert client.submit_job("refuse", b"").state == gearman.JOB_FAILED
        assert client.submit_job("reverse", b"ab").result == b"ba"


def test_a_result_over_the_limit_of_a_packet_fails_its_job_alone(address: str) -> None:
    def dump(worker: Any, job: Any) -> bytes:
        return bytes(70_000_000)

    def send(worker: Any, job: Any) -> bytes:
        worker.send_job_data(job, bytes(70_000_000))
        return b"sent"

    tasks = {"dump": dump, "send": send, "echo": lambda worker, job: job.data}
    with serving(address, **tasks), Client(address, timeout=LIMIT) as client:
        with pytest.raises(JobException, match=r"ResultTooLarge: .* limit of 67108864"):
            client.do("dump")
        with pytest.raises(JobFailed):
            client.do("send")
        assert client.do("echo", "next") == b"next"


def test_exception_sent_by_a_hook_reaches_clients_of_both_kinds(address: str) -> None:
    class Telling(StoppableWorker):
        def on_job_exception(self, current_job: gearman.GearmanJob, exc_info: Any) -> bool:
            self.send_job_exception(current_job, str(exc_info[1]))
            return super().on_job_exception(current_job, exc_info)

    worker = Telling([address])
    worker.register_task("refuse", refuse)
    with at_work(worker), Client(address, timeout=LIMIT) as client:
        request = gearman.GearmanClient([address]).submit_job("refuse", b"")
        assert (request.state, request.exception) == (gearman.JOB_FAILED, b"no")
        with pytest.raises(JobException, match="no"):
            client.do("refuse")


def test_hooks_see_a_job_begin_and_end(address: str) -> None:
    told: list[str] = []

    class Hooked(StoppableWorker):
        def on_job_execute(self, current_job: gearman.GearmanJob) -> bool:
            told.append("execute")
            return super().on_job_execute(current_job)

        def on_job_complete(self, current_job: gearman.GearmanJob, job_result: Any) -> bool:
            told.append("complete")
            return super().on_job_complete(current_job, job_result)

        def after_job(self) -> bool:
            told.append("after")
            return True

    worker = Hooked([address])
    worker.register_task("reverse", reverse)
    with at_work(worker):
        client = gearman.GearmanClient([address])
        for _ in range(2):
            client.submit_job("reverse", b"ab")
        await_true(lambda: len(told) == 6)
    assert told == ["execute", "complete", "after"] * 2


def test_after_job_ends_work_with_the_result_delivered(address: str) -> None:
    class Once(gearman.GearmanWorker):
        def after_job(self) -> bool:
            return False

    worker = Once([address])
    worker.register_task("reverse", reverse)
    thread = threading.Thread(target=worker.work)
    thread.start()
    client = gearman.GearmanClient([address])
    assert client.submit_job("reverse", b"ab").result == b"ba"
    thread.join(LIMIT)
    assert not thread.is_alive()
    assert client.submit_job("reverse", b"ab", poll_timeout=0.05).timed_out
    with serving(address, reverse=reverse):  # leave nothing behind
        await_true(
            lambda: not [j for j in _status(address) if j["task"] == "reverse" and j["queued"]]
        )


def test_shutdown_in_a_job_lets_it_finish(address: str) -> None:
    def last(worker: gearman.GearmanWorker, job: gearman.GearmanJob) -> bytes:
        worker.shutdown()
        return b"bye"

    worker = gearman.GearmanWorker([address])
    worker.register_task("last", last)
    thread = threading.Thread(target=worker.work)
    thread.start()
    assert gearman.GearmanClient([address]).submit_job("last", b"").result == b"bye"
    thread.join(LIMIT)
    assert not thread.is_alive()


@pytest.mark.parametrize("seconds", [0, 0.1], ids=["short", "longer-than-poll-timeout"])
def test_functions_change_between_jobs(address: str, seconds: float) -> None:
    def learn(worker: gearman.GearmanWorker, job: gearman.GearmanJob) -> bytes:
        time.sleep(seconds)
        worker.register_task("learned", reverse)
        worker.unregister_task("learn")
        return b"ok"

    with serving(address, learn=learn):
        client = gearman.GearmanClient([address])
        assert client.submit_job("learn", b"").result == b"ok"
        assert client.submit_job("learned", b"ab").result == b"ba"
        await_true(lambda: _workers_of(address, "learn") == 0)


def test_function_that_is_taken_back_is_asked_of_no_other_server() -> None:
    with our_server() as one, our_server() as other:
        worker = StoppableWorker([one.address, other.address])

        def once(worker: gearman.GearmanWorker, job: gearman.GearmanJob) -> bytes:
            worker.register_task("reverse", reverse)
            worker.unregister_task("once")
            return b"ok"

        worker.register_task("once", once)
        clients = [gearman.GearmanClient([jobs.address]) for jobs in (one, other)]
        requests = [client.submit_job("once", b"", wait_until_complete=False) for client in clients]
        with at_work(worker):
            for client in clients:
                assert client.submit_job("reverse", b"ab").result == b"ba"
            for client, request in zip(clients, requests, strict=True):
                client.wait_until_jobs_completed([request], poll_timeout=0)
        assert sorted(request.complete for request in requests) == [False, True]


def test_worker_that_forgets_to_answer_fails_its_job(address: str) -> None:
    class Forgetful(StoppableWorker):
        def on_job_execute(self, current_job: gearman.GearmanJob) -> bool:
            return True

    worker = Forgetful([address])
    worker.register_task("forgotten", reverse)
    with at_work(worker):
        request = gearman.GearmanClient([address]).submit_job("forgotten", b"")
    assert request.state == gearman.JOB_FAILED


class JSONEncoder(gearman.DataEncoder):
    @classmethod
    def encode(cls, encodable_object: Any) -> Any:
        return json.dumps(encodable_object)  # a str

    @classmethod
    def decode(cls, decodable_string: Any) -> Any:
        return json.loads(decodable_string)


class PickleEncoder(gearman.DataEncoder):
    @classmethod
    def encode(cls, encodable_object: Any) -> Any:
        return pickle.dumps(encodable_object)

    @classmethod
    def decode(cls, decodable_string: Any) -> Any:
        return pickle.loads(decodable_string)  # noqa: S301  what pygearman's users write


@pytest.mark.parametrize("encoder", [JSONEncoder, PickleEncoder])
def test_data_encoder_makes_values_of_all_data(
    address: str, encoder: type[gearman.DataEncoder]
) -> None:
    class EncodingClient(gearman.GearmanClient):
        data_encoder = encoder

    class EncodingWorker(StoppableWorker):
        data_encoder = encoder

    def add(worker: gearman.GearmanWorker, job: gearman.GearmanJob) -> Any:
        worker.send_job_data(job, {"so far": job.data[0]})
        return {"sum": sum(job.data)}

    worker = EncodingWorker([address])
    worker.register_task("add", add)
    with at_work(worker):
        request = EncodingClient([address]).submit_job("add", [1, 2])
    assert request.result == {"sum": 3}
    assert list(request.data_updates) == [{"so far": 1}]


def test_data_that_cannot_be_decoded_fails_its_job_and_the_worker_goes_on(address: str) -> None:
    class JSONWorker(StoppableWorker):
        data_encoder = JSONEncoder

    worker = JSONWorker([address])
    worker.register_task("double", lambda worker, job: job.data * 2)
    with at_work(worker):
        client = gearman.GearmanClient([address])
        assert client.submit_job("double", b"{").state == gearman.JOB_FAILED
        assert client.submit_job("double", b"21").result == b"42"


def test_values_that_are_not_bytes_need_an_encoder(address: str) -> None:
    with pytest.raises(TypeError, match="Expecting byte string"):
        gearman.GearmanClient([address]).submit_job("any", {"a": 1})


def test_subclass_waits_for_any_of_its_jobs(address: str) -> None:
    class AnyClient(gearman.GearmanClient):
        def wait_until_any_job_completed(self, requests: Any, poll_timeout: float) -> bool:
            def none_complete(any_activity: bool) -> bool:
                return not any(request.complete for request in requests)

            return self.poll_connections_until_stopped(
                self.connection_list, none_complete, timeout=poll_timeout
            )

    client = AnyClient([address])
    jobs = [{"task": "stays", "data": b""}, {"task": "reverse", "data": b"ab"}]
    requests = list(client.submit_multiple_jobs(jobs, wait_until_complete=False))
    assert client.wait_until_any_job_completed(requests, 0.05), "the time was over"
    with serving(address, reverse=reverse):
        assert not client.wait_until_any_job_completed(requests, LIMIT)
    assert [request.complete for request in requests] == [False, True]


def test_admin_client_tells_what_pygearmans_does(address: str) -> None:
    admin = gearman.GearmanAdminClient([address])
    worker = StoppableWorker([address])
    worker.register_task("listed", reverse)
    worker.set_client_id("a-worker")
    client = gearman.GearmanClient([address])
    queued = client.submit_job("idle", b"", unique="known-by", background=True)
    handle = queued.job.handle.decode()
    with at_work(worker):
        await_true(lambda: _workers_of(address, "listed") == 1)
        assert {"task": "listed", "queued": 0, "running": 0, "workers": 1} in admin.get_status()
        (row,) = [row for row in admin.get_workers() if row["client_id"] == "a-worker"]
        assert (row["ip"], row["tasks"]) == ("127.0.0.1", ("listed",))
        assert row["file_descriptor"].isdigit()
    assert handle in [row["handle"] for row in admin.get_jobs()]
    assert {"unique": ["known-by"]} in admin.get_unique_jobs()
    assert admin.get_version().startswith("OK ")
    assert int(admin.get_pid().removeprefix("OK ")) > 0
    assert 0 < admin.ping_server() < LIMIT
    assert admin.cancel_job(handle) == "OK"
    with pytest.raises(gearman.errors.ProtocolError):
        admin.cancel_job("H:nowhere:1")
    left = [row for row in admin.get_jobs() if row["handle"] == handle]
    assert not [row for row in left if not row["canceled"]], "the C server keeps it, crossed out"


def test_full_queue_is_an_error_and_not_an_endless_wait(address: str) -> None:
    client = gearman.GearmanClient([address])
    client.submit_job("limited", b"1", background=True)
    assert gearman.GearmanAdminClient([address]).send_maxqueue("limited", 1) == "OK"
    with pytest.raises(QueueFull):
        client.submit_job("limited", b"2", background=True, poll_timeout=LIMIT)


def test_program_that_says_import_gearman_runs_as_it_is(address: str) -> None:
    program = f"""
from gearman_py import compat
compat.install()
import gearman
import gearman.errors
from gearman.client import GearmanClient
from gearman.constants import JOB_COMPLETE, PRIORITY_HIGH
from gearman.errors import ServerUnavailable
from gearman.job import JOB_CREATED, GearmanJob
from gearman.connection_manager import DataEncoder
assert gearman.errors.ServerUnavailable is ServerUnavailable
assert DataEncoder is gearman.DataEncoder
request = gearman.GearmanClient(["{address}"]).submit_job("reverse", "ab", priority=PRIORITY_HIGH)
assert (request.state, request.result) == (JOB_COMPLETE, b"ba")
"""
    with serving(address, reverse=reverse):
        subprocess.run([sys.executable, "-c", program], check=True, timeout=LIMIT)


def test_worker_serves_each_of_its_servers(address: str) -> None:
    with our_server() as other:
        worker = StoppableWorker([address, ("127.0.0.1", other.port)])
        worker.register_task("reverse", reverse)
        with at_work(worker):
            for one in (address, other.address):
                assert gearman.GearmanClient([one]).submit_job("reverse", b"ab").result == b"ba"


def test_nobody_there_is_server_unavailable() -> None:
    nobody = _closed()
    worker = gearman.GearmanWorker([nobody])
    worker.register_task("reverse", reverse)
    for use in (
        partial(gearman.GearmanClient([nobody]).submit_job, "reverse", b""),
        partial(gearman.GearmanClient().submit_job, "reverse", b""),
        gearman.GearmanAdminClient([nobody]).get_status,
        gearman.GearmanAdminClient().get_status,
        worker.work,
        gearman.GearmanWorker().work,
    ):
        with pytest.raises(gearman.errors.ServerUnavailable):
            use()


def test_server_lost_under_a_job_is_server_unavailable() -> None:
    jobs = Server()
    client = gearman.GearmanClient([jobs.address])
    request = client.submit_job("stays", b"", wait_until_complete=False)
    jobs.close()
    with pytest.raises(gearman.errors.ServerUnavailable):
        client.wait_until_jobs_completed([request], poll_timeout=LIMIT)
    assert request.state == gearman.JOB_UNKNOWN
    assert not request.complete


def test_server_lost_under_a_worker_is_server_unavailable() -> None:
    jobs = Server()
    worker = gearman.GearmanWorker([jobs.address])
    worker.register_task("reverse", reverse)
    raised: list[BaseException] = []

    def work() -> None:
        try:
            worker.work()
        except gearman.errors.ServerUnavailable as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    jobs.wait_for("reverse", workers=1)
    jobs.close()
    thread.join(LIMIT)
    assert raised


def test_client_passes_over_a_server_that_is_away(address: str) -> None:
    with serving(address, reverse=reverse):
        client = gearman.GearmanClient([_closed(), address])
        for _ in range(5):
            assert client.submit_job("reverse", b"ab").result == b"ba"


@pytest.mark.parametrize(
    ("hosts", "reason"),
    [
        ([{"host": "localhost"}], "Incomplete SSL"),
        ([dict.fromkeys(("host", "port", "keyfile", "certfile", "ca_certs"), "x")], "not a port"),
        ([None], "Expected str, tuple or dict"),
    ],
)
def test_host_that_cannot_be_used_is_refused_with_a_reason(hosts: Any, reason: str) -> None:
    with pytest.raises(gearman.errors.GearmanError, match=reason):
        gearman.GearmanClient(hosts)


def _status(address: str) -> Any:
    return gearman.GearmanAdminClient([address]).get_status()


def _workers_of(address: str, task: str) -> int:
    return sum(row["workers"] for row in _status(address) if row["task"] == task)


def _closed() -> str:
    """An address where nobody listens."""
    jobs = Server()
    jobs.close()
    return jobs.address
