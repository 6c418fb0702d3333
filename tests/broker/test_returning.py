"""What the clients of a draining server hear from its broker."""

import json

from gearman_py.broker.broker import Broker
from gearman_py.broker.queues import Queues
from gearman_py.broker.restore import Restorer
from gearman_py.broker.returning import drain, is_settled, return_jobs
from gearman_py.broker.snapshot import take_snapshot
from gearman_py.broker.state import Peer
from gearman_py.protocol.packets import Packet
from tests.broker.test_rules import Heard, Table

REASON = b"the job server is being drained"


def returned(*handles: bytes) -> Heard:
    return [("WORK_RETRY", handle, b"0", REASON) for handle in handles]


def mobile_client(table: Table) -> Peer:
    peer = table.peer()
    assert table.say(peer, Packet.OPTION_REQ, b"resubmits") == [("OPTION_RES", b"resubmits")]
    return peer


def test_jobs_that_wait_are_given_back_in_their_order_and_forgotten() -> None:
    table = Table()
    client, worker = mobile_client(table), table.worker(b"f")
    handles = [table.submit(client) for _ in range(4)]
    assert table.grab(worker) == handles[0]
    return_jobs(table.broker, client)
    assert table.hear(client) == returned(*handles[1:])
    assert table.ask(b"status") == b"f\t1\t1\t1\n.\n"
    assert table.grab(worker) is None
    assert not is_settled(client), "one of its jobs runs"
    table.say(worker, Packet.WORK_COMPLETE, handles[0], b"done")
    assert table.hear(client) == [("WORK_COMPLETE", handles[0], b"done")]
    assert is_settled(client)


def test_a_job_that_others_wait_for_or_that_must_be_done_stays() -> None:
    table = Table()
    client, other = mobile_client(table), table.peer()
    shared = table.submit(client, unique=b"shared")
    assert table.submit(client, unique=b"shared") == shared
    assert table.submit(other, unique=b"shared") == shared
    promised = table.submit(client, unique=b"promised")
    assert table.submit(other, Packet.SUBMIT_JOB_BG, unique=b"promised") == promised
    return_jobs(table.broker, client)
    assert table.hear(client) == returned(shared, shared), "once for each submission"
    assert not is_settled(client), "the job that must be done is done here"
    worker = table.worker(b"f")
    assert [table.grab(worker), table.grab(worker)] == [shared, promised]
    table.say(worker, Packet.WORK_COMPLETE, shared, b"r")
    assert table.hear(other) == [("WORK_COMPLETE", shared, b"r")]
    assert table.hear(client) == []


def test_the_server_drains_for_good_or_while_its_operator_is_connected() -> None:
    table = Table()
    told: list[bool] = []
    table.broker.on_drain = lambda: told.append(bool(table.broker.draining))
    operator = table.peer()
    drain(table.broker, table.now, until=operator)
    table.broker.gone(table.peer(), table.now)
    assert table.broker.draining
    table.broker.gone(operator, table.now)
    assert not table.broker.draining
    drain(table.broker, table.now)
    drain(table.broker, table.now, until=(operator := table.peer()))
    table.broker.gone(operator, table.now)
    assert table.broker.draining, "for good"
    assert told == [True, True]


def test_another_process_knows_who_resubmits_and_an_old_state_says_that_none_does() -> None:
    table = Table()
    peers = [mobile_client(table), table.peer()]
    sections = json.loads(json.dumps(list(take_snapshot(table.broker, peers, table.now))))
    assert [peer.resubmits for peer in _restored(sections)] == [True, False]
    for section in sections:
        for facts in section["peers"] if isinstance(section.get("peers"), list) else ():
            del facts["resubmits"]
    assert [peer.resubmits for peer in _restored(sections)] == [False, False]


def _restored(sections: list[dict[str, object]]) -> list[Peer]:
    restorer = Restorer(Broker(Queues(b"H:test")))
    for section in sections:
        restorer.read(section, 1000.0)
    return restorer.peers
