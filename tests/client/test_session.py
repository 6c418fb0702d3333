"""The session of a client, without a socket: what it writes, and the effect of answers."""

from typing import Literal

import pytest

from gearman_py.client.arguments import as_unique
from gearman_py.client.job import MAX_RETURNS, ClientJob, JobState
from gearman_py.client.question import Question, read_status
from gearman_py.client.session import ClientSession
from gearman_py.errors import (
    ArgumentTooLarge,
    ConnectionLost,
    GearmanError,
    JobException,
    JobFailed,
    ProtocolError,
    QueueFull,
    SubmitError,
)
from gearman_py.protocol.codec import Decoder, response
from gearman_py.protocol.packets import Packet


def submitted(session: ClientSession, *, background: bool = False) -> ClientJob:
    job = ClientJob("wc", b"some\0thing", {"background": background})
    session.submit_job(job)
    return job


def created(session: ClientSession, handle: bytes = b"H:1") -> ClientJob:
    job = submitted(session)
    session.receive_data(response(Packet.JOB_CREATED, handle))
    return job


def sent(session: ClientSession) -> list[tuple[int, list[bytes]]]:
    return Decoder().feed(session.take_output())


def test_exceptions_are_asked_for_before_anything_else() -> None:
    session = ClientSession("s")
    submitted(session)
    assert sent(session) == [
        (Packet.OPTION_REQ, [b"exceptions"]),
        (Packet.SUBMIT_JOB, [b"wc", b"", b"some\0thing"]),
    ]


@pytest.mark.parametrize(
    ("priority", "background", "packet"),
    [
        ("low", False, Packet.SUBMIT_JOB_LOW),
        ("high", False, Packet.SUBMIT_JOB_HIGH),
        ("low", True, Packet.SUBMIT_JOB_LOW_BG),
        ("normal", True, Packet.SUBMIT_JOB_BG),
        ("high", True, Packet.SUBMIT_JOB_HIGH_BG),
    ],
)
def test_each_priority_has_its_packet(
    priority: Literal["low", "normal", "high"], background: bool, packet: Packet
) -> None:
    session = ClientSession("s")
    session.submit_job(ClientJob("f", b"", {"priority": priority, "background": background}))
    assert sent(session)[-1][0] == packet


def test_a_job_lives_from_created_to_complete() -> None:
    session = ClientSession("s")
    job = created(session)
    assert (job.handle, job.server, job.state) == ("H:1", "s", JobState.CREATED)
    session.receive_data(
        response(Packet.WORK_DATA, b"H:1", b"a")
        + response(Packet.WORK_WARNING, b"H:1", b"w")
        + response(Packet.WORK_STATUS, b"H:1", b"1", b"2")
    )
    assert (job.data, job.warnings, job.status) == ([b"a"], [b"w"], (1, 2))
    assert job.state is JobState.RUNNING
    session.receive_data(response(Packet.WORK_COMPLETE, b"H:1", b"x\0y"))
    assert job.done()
    assert job._result_or_raise() == b"x\0y"


def test_jobs_that_share_a_handle_take_turns() -> None:
    session = ClientSession("s")
    jobs = [created(session), created(session)]
    for packet, payload in ((Packet.WORK_DATA, b"d"), (Packet.WORK_COMPLETE, b"r")):
        session.receive_data(response(packet, b"H:1", payload) * 2)
    assert [(job.data, job._result_or_raise()) for job in jobs] == [([b"d"], b"r")] * 2


def test_a_forgotten_job_keeps_its_turn() -> None:
    session = ClientSession("s")
    first, second = created(session), created(session)
    session.forget_job(first)
    session.receive_data(response(Packet.WORK_DATA, b"H:1", b"d") * 2)
    session.receive_data(response(Packet.WORK_COMPLETE, b"H:1", b"r") * 2)
    assert (first.done(), second.data, second._result_or_raise()) == (False, [b"d"], b"r")


def test_the_nul_after_a_failed_handle_is_dropped() -> None:
    session = ClientSession("s")
    job = created(session)
    session.receive_data(response(Packet.WORK_FAIL, b"H:1\0"))
    assert isinstance(job.error, JobFailed)


def test_a_failure_after_an_exception_is_ignored() -> None:
    session = ClientSession("s")
    job = created(session)
    session.receive_data(
        response(Packet.WORK_EXCEPTION, b"H:1", b"ValueError: no")
        + response(Packet.WORK_FAIL, b"H:1")
    )
    assert isinstance(job.error, JobException)
    assert job.error.text == "ValueError: no"
    assert session.error is None


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (b"QUEUE_ERROR", b"Job queue is full", QueueFull),
        (b"QUEUE_ERROR", b"QUEUE_ERROR", SubmitError),
        (b"ARGUMENT_TOO_LARGE", b"Unique value too large", ArgumentTooLarge),
        (b"INVALID_COMMAND", b"Command not expected", SubmitError),
    ],
)
def test_an_error_answers_the_oldest_submit(
    code: bytes, text: bytes, kind: type[SubmitError]
) -> None:
    session = ClientSession("s")
    first, second = submitted(session), submitted(session)
    session.receive_data(response(Packet.ERROR, code, text) + response(Packet.JOB_CREATED, b"H:2"))
    assert type(first.error) is kind
    assert second.handle == "H:2"


def test_an_unknown_option_does_not_fail_a_submit() -> None:
    session = ClientSession("s")
    job = submitted(session)
    session.receive_data(response(Packet.ERROR, b"UNKNOWN_OPTION", b"?"))
    assert job.error is None


def test_a_lost_connection_ends_all_jobs_and_questions() -> None:
    session = ClientSession("s")
    waiting, unanswered = created(session), submitted(session)
    question: Question = session.ask_echo(b"p")
    session.lose_connection("it closed the connection")
    assert isinstance(waiting.error, ConnectionLost)
    assert waiting.error.handle == "H:1"
    assert isinstance(unanswered.error, ConnectionLost)
    assert unanswered.error.handle == ""
    assert waiting.state is unanswered.state is JobState.LOST
    with pytest.raises(ConnectionLost):
        question.result()


def test_another_protocol_is_a_protocol_error() -> None:
    session = ClientSession("s")
    job = created(session)
    session.receive_data(b"HTTP/1.1 400 Bad Request\r\n")
    assert isinstance(session.error, ProtocolError)
    assert isinstance(job.error, ProtocolError)


def test_any_status_of_a_worker_is_parsed() -> None:
    assert read_status([b"H:1", b"1", b"1", b"3", b"4"]).fraction == 0.75
    assert read_status([b"H:1", b"1", b"0", b"abc", b"0"]).fraction == 0.0


def test_uniques_are_checked_before_they_are_sent() -> None:
    assert (as_unique(True), as_unique(None), as_unique(b"k")) == ("-", "", "k")
    with pytest.raises(ArgumentTooLarge, match="65 bytes"):
        as_unique("x" * 65)
    with pytest.raises(ValueError, match="NUL"):
        as_unique("a\0b")


DRAINED = b"the job server is being drained"


def test_jobs_that_a_drained_server_gives_back_are_submitted_to_another() -> None:
    session = ClientSession("s", resubmits=True)
    sent(session)
    again: list[tuple[str, str]] = []
    jobs = [movable(again, unique) for unique in ("runs", "waits", "on its way", "queued")]
    for job in jobs[:2]:
        session.submit_job(job)
        session.receive_data(response(Packet.JOB_CREATED, job.unique.encode()))
    session.receive_data(response(Packet.WORK_DATA, b"waits", b"of a worker that died"))
    session.receive_data(response(Packet.WORK_RETRY, b"waits", b"0", DRAINED))
    assert again == [("waits", "s")]
    assert (jobs[1].state, jobs[1].handle, jobs[1].data) == (JobState.SUBMITTED, "", [])
    session.receive_data(response(Packet.WORK_COMPLETE, b"runs", b"done"))
    assert jobs[0].state is JobState.COMPLETE
    session.submit_job(jobs[2])
    session.submit_job(jobs[3])
    session.receive_data(response(Packet.WORK_RETRY, b"", b"0", DRAINED))
    assert again[1:] == [("on its way", "s"), ("queued", "s")]
    assert isinstance(session.error, ConnectionLost)
    assert session.in_flight == 0


def test_a_job_that_is_given_back_by_all_servers_again_and_again_fails() -> None:
    again: list[tuple[str, str]] = []
    job = movable(again, "u")
    while not job.done():
        session = ClientSession("s", resubmits=True)
        session.submit_job(job)
        session.receive_data(response(Packet.WORK_RETRY, b"", b"0", DRAINED))
    assert len(again) == MAX_RETURNS
    assert str(job.error) == f"the job was refused: {DRAINED.decode()} (QUEUE_ERROR)"


def movable(again: list[tuple[str, str]], unique: str) -> ClientJob:
    """A job of a client with another server; ``again`` gets it when it is submitted again."""

    class Job(ClientJob):
        def _submit_again(self, error: GearmanError) -> None:
            again.append((self.unique, self._refused_by))

    job = Job("f", b"", {"unique": unique})
    job.others = 1
    return job


def test_only_a_client_with_other_servers_says_that_it_resubmits() -> None:
    assert sent(ClientSession("s", resubmits=True)) == [
        (Packet.OPTION_REQ, [b"exceptions"]),
        (Packet.OPTION_REQ, [b"resubmits"]),
    ]


@pytest.mark.parametrize("code", [b"UNKNOWN_OPTION", b"unknown_option"], ids=["C", "Perl"])
def test_a_server_that_does_not_know_the_options_is_used_without(code: bytes) -> None:
    session = ClientSession("s", resubmits=True)
    job = submitted(session)
    session.receive_data(response(Packet.ERROR, code, b"") * 2)
    session.receive_data(response(Packet.JOB_CREATED, b"H:1"))
    assert (job.handle, job.error) == ("H:1", None)
