"""Who submits jobs of a function is known, of open connections and of the last closed ones."""

from gearman_py.broker.limits import MAX_FORMER_SUBMITTERS, MAX_SUBMITTED
from gearman_py.protocol.packets import Packet
from tests.broker.test_rules import Table, table

__all__ = ["table"]  # a fixture


def read_submitters(table: Table, function: bytes = b"f") -> list[list[bytes]]:
    """Rows of the answer: address, client id, connections, submissions, seconds."""
    *rows, end = table.ask(b"submitters " + function).splitlines()
    assert end == b".", end
    return [
        [address, *(pair.partition(b"=")[2] for pair in pairs)]
        for address, *pairs in (row.split(b"\t") for row in rows)
    ]


def test_submissions_of_open_and_closed_connections_are_added_up(table: Table) -> None:
    one, other, web = table.peer(), table.peer(), table.broker.join(9, "10.0.0.9")
    table.say(web, Packet.SET_CLIENT_ID, b"shop")
    table.submit(one, unique=b"u")
    table.submit(one, Packet.SUBMIT_JOB_BG, unique=b"u")  # it joins the first
    table.submit(one, function=b"g")
    table.submit(other, Packet.SUBMIT_JOB_HIGH_BG)
    for _ in range(5):
        table.submit(web, Packet.SUBMIT_JOB_LOW_BG)
    assert read_submitters(table) == [
        [b"10.0.0.9", b"shop", b"1", b"5", b"0"],
        [b"127.0.0.1", b"-", b"2", b"3", b"0"],
    ]
    for peer in (web, one, other):
        table.broker.gone(peer, table.now)
    table.tick(60)
    assert read_submitters(table) == [
        [b"10.0.0.9", b"shop", b"0", b"5", b"60"],
        [b"127.0.0.1", b"-", b"0", b"3", b"60"],
    ]
    again = table.broker.join(9, "10.0.0.9")
    table.say(again, Packet.SET_CLIENT_ID, b"shop")
    table.submit(again)
    assert read_submitters(table)[0] == [b"10.0.0.9", b"shop", b"1", b"6", b"0"]
    assert read_submitters(table, b"g") == [[b"127.0.0.1", b"-", b"0", b"1", b"60"]]


def test_what_is_remembered_is_bounded(table: Table) -> None:
    for number in range(MAX_FORMER_SUBMITTERS + 3):
        peer = table.peer()
        table.say(peer, Packet.SET_CLIENT_ID, b"%d-" % number + b"x" * 1000)
        table.submit(peer)
        table.broker.gone(peer, table.now)
    ids = [row[1] for row in read_submitters(table)]
    assert len(ids) == MAX_FORMER_SUBMITTERS
    assert all(len(each) == 64 for each in ids)
    assert b"0-" + b"x" * 62 not in ids
    many = table.peer()
    for number in range(MAX_SUBMITTED + 1):
        table.submit(many, function=b"many-%d" % number)
    assert len(many.submissions) <= MAX_SUBMITTED
    table.submit(many, function=b"many-0")
    assert read_submitters(table, b"many-0") == [[b"127.0.0.1", b"-", b"1", b"2", b"0"]]


def test_unknown_function_is_an_error(table: Table) -> None:
    assert table.ask(b"submitters none").startswith(b"ERR UNKNOWN_FUNCTION")
