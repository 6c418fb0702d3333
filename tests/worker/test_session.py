"""A worker's session without a socket: whose turn it is, and what is written."""

from gearman_py.protocol.codec import Decoder, response
from gearman_py.protocol.packets import Packet
from gearman_py.worker.session import Answer, Assignment, State, WorkerSession

ASSIGN = response(Packet.JOB_ASSIGN_UNIQ, b"H:1", b"wc", b"key", b"work\0load")


def grabbing_session() -> WorkerSession:
    session = WorkerSession(["wc"], "me")
    session.grab_job()
    session.take_output()
    return session


def sent(session: WorkerSession) -> list[tuple[int, list[bytes]]]:
    return Decoder().feed(session.take_output())


def test_it_says_who_it_is_and_what_it_can_do() -> None:
    session = WorkerSession(["wc", "reverse"], "me")
    assert sent(session) == [
        (Packet.OPTION_REQ, [b"retries"]),
        (Packet.SET_CLIENT_ID, [b"me"]),
        (Packet.CAN_DO, [b"wc"]),
        (Packet.CAN_DO, [b"reverse"]),
    ]


def test_it_is_registered_when_the_server_has_answered() -> None:
    session = grabbing_session()
    assert (session.registered, session.state) == (False, State.GRABBING)
    session.receive_data(response(Packet.NO_JOB))
    assert (session.registered, session.state) == (True, State.IDLE)


def test_a_wake_up_that_crosses_a_grab_does_not_answer_it() -> None:
    session = grabbing_session()
    session.receive_data(response(Packet.NOOP))
    assert session.state is State.GRABBING


def test_a_wake_up_ends_sleep() -> None:
    session = grabbing_session()
    session.receive_data(response(Packet.NO_JOB))
    session.pre_sleep()
    assert sent(session) == [(Packet.PRE_SLEEP, [])]
    session.receive_data(response(Packet.NOOP))
    assert session.state is State.IDLE


def test_a_result_and_the_next_grab_leave_together() -> None:
    session = grabbing_session()
    session.receive_data(ASSIGN)
    assert session.assignment == Assignment("H:1", "wc", "key", b"work\0load")
    session.finish_job(Answer(Packet.WORK_COMPLETE, (b"9",)))
    session.grab_job()
    assert sent(session) == [(Packet.WORK_COMPLETE, [b"H:1", b"9"]), (Packet.GRAB_JOB_UNIQ, [])]


def test_a_handle_goes_back_as_it_came() -> None:
    session = grabbing_session()
    session.receive_data(response(Packet.JOB_ASSIGN, b"H:\xff", b"wc", b""))
    session.finish_job(Answer(Packet.WORK_FAIL))
    assert sent(session) == [(Packet.WORK_FAIL, [b"H:\xff"])]


def test_an_error_from_the_server_does_not_change_the_turn() -> None:
    session = grabbing_session()
    session.receive_data(response(Packet.ERROR, b"JOB_NOT_FOUND", b"gone"))
    assert session.state is State.GRABBING
    assert session.fault is None


def test_attempt_is_that_of_the_job_that_was_announced() -> None:
    session = grabbing_session()
    session.receive_data(response(Packet.OPTION_RES, b"retries"))
    session.receive_data(response(Packet.JOB_ATTEMPT, b"H:1", b"3") + ASSIGN)
    assert session.assignment == Assignment("H:1", "wc", "key", b"work\0load", attempt=3)
    session.finish_job(Answer(Packet.WORK_RETRY, (b"1500", b"why")))
    assert sent(session) == [(Packet.WORK_RETRY, [b"H:1", b"1500", b"why"])]
    session.receive_data(response(Packet.JOB_ASSIGN_UNIQ, b"H:2", b"wc", b"", b""))
    assert session.assignment == Assignment("H:2", "wc", "", b"")


def test_refused_option_is_not_a_refusal_of_the_functions() -> None:
    session = grabbing_session()
    session.receive_data(response(Packet.ERROR, b"UNKNOWN_OPTION", b"unknown"))
    assert (session.registered, session.refusal) == (False, "")
    session.receive_data(response(Packet.ERROR, b"QUEUE_ERROR", b"no more functions"))
    assert session.refusal


def test_what_is_not_gearman_is_a_fault() -> None:
    session = grabbing_session()
    session.receive_data(b"SSH-2.0-OpenSSH_9.2p1\r\n")
    assert session.fault
