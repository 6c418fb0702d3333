"""What another process must know to go on with a connection: see gearman_py.server.reload."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from gearman_py.broker.job_columns import Section
from gearman_py.broker.restore import as_bytes
from gearman_py.broker.state import Peer
from gearman_py.protocol.http import Request
from gearman_py.server.connection import Connection
from gearman_py.server.http_connection import HTTPConnection
from gearman_py.server.listener import Listener
from gearman_py.server.relayed_connection import RelayedConnection, RelayedHTTPConnection
from gearman_py.server.reload_channel import Enclosures
from gearman_py.server.tls_transport import TLSTransport

Pack = Callable[[bytes], str | int]
Unpack = Callable[[str | int], bytes]


def is_alive(connection: Connection) -> bool:
    """Whether neither side has begun to close it."""
    return connection._parted_at is None and not connection.transport.is_closing()


def pack_connection(connection: Connection, enclosures: Enclosures) -> Section:
    """The state of a connection, without that of its peer, and with what is large enclosed."""
    pack = enclosures.pack
    unread, skip, dead = connection._decoder.pack()
    unsent = connection._unsent
    if isinstance(connection.transport, TLSTransport):
        unsent = None  # this process sends it
    facts = {
        "received": connection.received,
        "decoder": [pack(unread), skip, dead],
        "backlog": [
            [number, [pack(each) for each in arguments]]
            for number, arguments in connection._backlog
        ],
        "unsent": pack(unsent.last(connection.unread_bytes())) if unsent else "",
    }
    if isinstance(connection, HTTPConnection):
        facts["http"] = _pack_http(connection, pack)
    if isinstance(connection.transport, TLSTransport):
        facts["relayed"] = 0.0
    elif isinstance(connection, RelayedConnection):
        facts["relayed"] = connection._server.now() - connection.since
    return facts


def _pack_http(connection: HTTPConnection, pack: Pack) -> Section:
    reader = connection._reader
    return {
        "request": _pack_request(connection._request, pack),
        "handle": connection._handle,
        "result": [pack(part) for part in connection._result],
        "unread": pack(bytes(reader._unread)),
        "begun": _pack_request(reader._begun, pack),
        "body": pack(bytes(reader._body)),
        "continued": reader.continued,
        "numbers": [reader._missing, reader._chunked, reader._size, reader.dead],
    }


def _pack_request(request: Request | None, pack: Pack) -> Any:
    if request is None:
        return None
    facts = request.method, request.target, request.minor, request.headers
    return [*facts, pack(request.body)]


def new_connection(listener: Listener, peer: Peer, facts: Section) -> Connection:
    """A connection for a peer that was passed on; `resume_connection` follows."""
    http = "http" in facts
    if "relayed" in facts:
        since = listener.now() - facts["relayed"]
        return (RelayedHTTPConnection if http else RelayedConnection)(listener, peer, since)
    return (HTTPConnection if http else Connection)(listener, known=peer)


def resume_connection(
    connection: Connection, facts: Section, enclosed: Sequence[bytes], early: bytes
) -> None:
    """Go on where the other process was, and with what has come since, once all are made."""
    unpack = partial(_unpack, enclosed)
    unread, skip, dead = facts["decoder"]
    connection.received = facts["received"] + len(early)
    connection._backlog = backlog = [
        (number, [unpack(each) for each in arguments]) for number, arguments in facts["backlog"]
    ]
    if "http" in facts:
        _unpack_http(connection, facts["http"], unpack, early)
    elif skip:
        connection._decoder.unpack(b"", skip, dead)
        backlog += connection._decoder.feed(early)
    else:
        connection._decoder.unpack(unpack(unread) + early, 0, dead)
    if unsent := unpack(facts["unsent"]):
        connection.transport.write(unsent)
        if connection._unsent is not None:
            connection._note_unsent([unsent])
    connection._yield_turn()


def _unpack(enclosed: Sequence[bytes], value: str | int) -> bytes:
    """The inverse of `Enclosures.pack`."""
    return enclosed[value] if isinstance(value, int) else as_bytes(value)


def _unpack_http(connection: Connection, facts: Section, unpack: Unpack, early: bytes) -> None:
    if not isinstance(connection, HTTPConnection):
        return
    connection._request = _unpack_request(facts["request"], unpack)
    connection._handle = facts["handle"]
    connection._result = [unpack(part) for part in facts["result"]]
    connection._held = sum(map(len, connection._result))
    reader = connection._reader
    reader._unread += unpack(facts["unread"]) + early
    reader._begun = _unpack_request(facts["begun"], unpack)
    reader._body += unpack(facts["body"])
    reader.continued = facts.get("continued", True)  # older programs do not say, but did it
    reader._missing, reader._chunked, reader._size, reader.dead = facts["numbers"]


def _unpack_request(facts: Any, unpack: Unpack) -> Request | None:
    if facts is None:
        return None
    method, target, minor, headers, body = facts
    return Request(method, target, minor, headers, unpack(body))
