"""Jobs over HTTP (-r http): a request is a submission, and the response is the job's result.

For the broker it is a peer like any other: requests become packets, and the packets that the peer
is owed become responses here. The requests of a connection are handled one after the other.
"""

import asyncio
import time
from http import HTTPStatus

from gearman_py import __version__
from gearman_py.broker.state import Peer
from gearman_py.protocol.codec import RESPONSE, Decoder
from gearman_py.protocol.http import (
    CONTINUE,
    HEAD_LIMIT,
    Reader,
    Refused,
    Request,
    answer,
    is_of_another_site,
)
from gearman_py.protocol.packets import Packet
from gearman_py.server.connection import Connection, log
from gearman_py.server.listener import TURN, Listener

# By priority, then by whether it is a background job.
SUBMITS = {
    "high": (Packet.SUBMIT_JOB_HIGH, Packet.SUBMIT_JOB_HIGH_BG),
    "normal": (Packet.SUBMIT_JOB, Packet.SUBMIT_JOB_BG),
    "low": (Packet.SUBMIT_JOB_LOW, Packet.SUBMIT_JOB_LOW_BG),
}
# The status of a refused submission; any other error code is the client's mistake.
STATUSES = {b"QUEUE_ERROR": HTTPStatus.SERVICE_UNAVAILABLE}
# A response begins with its status, so the data of a job is kept until the job has ended.
RESULT_LIMIT = 64 * 2**20
SERVER = f"Gearman/{__version__}"


class HTTPConnection(Connection):
    """The connection of an HTTP client."""

    def __init__(self, server: Listener, *, known: Peer | None = None) -> None:
        super().__init__(server, known=known)
        self._reader = Reader(server.max_packet)
        self._packets = Decoder(RESPONSE)  # reads the packets of the broker
        self._request: Request | None = None  # in progress
        self._handle: str | None = None
        self._result: list[bytes] = []  # data that came before its end ...
        self._held = 0  # ... and the number of bytes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.peer.exceptions = True

    def data_received(self, data: bytes) -> None:
        self._server.busy_poll.note_read()
        self.received += len(data)
        self._reader.feed(data)
        self._go_on()
        if self._request is not None and self._reader.unread > HEAD_LIMIT:
            self.pause_peer()
        elif self._has_partial_message():
            self._server.weigh_message(self)

    def _go_on(self) -> None:
        """Begin the next request, if there is one and the previous one is done."""
        until = time.monotonic() + TURN
        while self._request is None and not self._paused and not self.transport.is_closing():
            if time.monotonic() > until:
                return self._yield_turn()
            try:
                self._request = self._reader.next()
                if self._request is None:
                    if self._reader.behind:
                        self._yield_turn()
                    elif self._reader.expects_continue:
                        self._reader.continued = True
                        self._write(CONTINUE)
                    return None
                self._begin_request(self._request)
            except Refused as refused:
                self._refuse_request(refused)
        return None

    def _begin_request(self, request: Request) -> None:
        if is_of_another_site(request.headers):
            raise Refused(HTTPStatus.FORBIDDEN, "pages of other sites cannot submit jobs")
        if not request.name:
            if request.method != "HEAD":
                raise Refused(HTTPStatus.NOT_FOUND, "POST to /FUNCTION submits a job")
            return self._send_answer(HTTPStatus.OK)  # a health check
        headers = request.headers
        priority = headers.get("x-gearman-priority", "normal").lower()
        if priority not in SUBMITS:
            raise Refused(HTTPStatus.BAD_REQUEST, f"X-Gearman-Priority: {priority}")
        background = headers.get("x-gearman-background", "false").lower()
        if background not in ("true", "false"):
            raise Refused(HTTPStatus.BAD_REQUEST, f"X-Gearman-Background: {background}")
        packet = SUBMITS[priority][self._is_background(request)]
        unique = headers.get("x-gearman-unique", "-").encode("latin-1")
        if b"\0" in request.name or b"\0" in unique:
            raise Refused(HTTPStatus.BAD_REQUEST, "a NUL in the name of a function or in a unique")
        return self._process_messages([(packet, [request.name, unique, request.body])])

    def _is_background(self, request: Request) -> bool:
        return request.headers.get("x-gearman-background", "").lower() == "true"

    def flush(self) -> None:
        """Turn the packets that the peer is owed into the response to its request."""
        for number, arguments in self._packets.feed(b"".join(self.peer.take())):
            if self._request is not None:
                self._handle_packet(self._request, Packet(number), arguments)
        if self._paused and not self._in_turn and self.stalled_since is None:
            self.resume_peer()
        else:
            self._go_on()

    def _handle_packet(self, request: Request, packet: Packet, arguments: list[bytes]) -> None:
        match packet:
            case Packet.JOB_CREATED:
                self._handle = arguments[0].decode("latin-1")
                if self._is_background(request):
                    self._send_answer(HTTPStatus.OK, command=packet)
            case Packet.WORK_DATA:
                self._result.append(arguments[1])
                self._held += len(arguments[1])
                limit = max(RESULT_LIMIT, self._server.max_packet)
                if self._held > limit:
                    why = f"the result of job {self._handle} is over {limit >> 20} MiB"
                    log.warning("%s: %s: closed", self, why)
                    request.headers["connection"] = "close"  # the rest of it would still arrive
                    self._send_answer(
                        HTTPStatus.INTERNAL_SERVER_ERROR, f"{why}\n".encode("latin-1")
                    )
            case Packet.WORK_COMPLETE:
                self._send_answer(HTTPStatus.OK, b"".join((*self._result, arguments[1])), packet)
            case Packet.WORK_FAIL:
                self._send_answer(HTTPStatus.INTERNAL_SERVER_ERROR, b"".join(self._result), packet)
            case Packet.WORK_EXCEPTION:
                self._send_answer(HTTPStatus.INTERNAL_SERVER_ERROR, arguments[1], packet)
            case Packet.ERROR:
                code, text = arguments
                self._send_answer(STATUSES.get(code, HTTPStatus.BAD_REQUEST), text + b"\n")

    def _send_answer(
        self, status: HTTPStatus, body: bytes = b"", command: Packet | None = None
    ) -> None:
        request, self._request = self._request, None
        data = answer(
            request,
            status,
            body,
            X_Gearman_Job_Handle=self._handle,
            X_Gearman_Command=command.name if command else None,
            Server=SERVER,
        )
        self._handle = None
        self._result.clear()
        self._held = 0
        self._write(data)
        if request is None or not request.keeps_alive:
            self.transport.close()

    def _write(self, data: bytes) -> None:
        self.transport.write(data)
        if self._unsent is not None:
            self._note_unsent((data,))

    def _refuse_request(self, refused: Refused) -> None:
        log.info("refused an HTTP request from %s: %s", self, refused)
        body = f"{refused}\n".encode("latin-1", "replace")
        extra = {"Content-Type": "text/plain", "Server": SERVER, **refused.headers}
        self._write(answer(None, refused.status, body, **extra))
        self.transport.close()

    def held_bytes(self) -> int:
        return super().held_bytes() + self._reader.held + self._held

    def partial_bytes(self) -> int:
        return self._reader.held if self._request is None else 0

    def missing_bytes(self) -> int:
        return self._reader.missing

    def _is_settled(self) -> bool:
        return self._request is None and super()._is_settled()

    def _has_partial_message(self) -> bool:
        return self._reader.partial and self._request is None

    def _resume(self) -> None:
        super()._resume()
        self._go_on()
