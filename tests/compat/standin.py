"""Stands in for what pygearman's tests mock, so that they drive gearman_py.compat by sockets.

Their tests hold one end of each conversation: ``recv_command`` is a packet from the server,
``assert_sent_command`` one that it was sent. Here a listening socket is that server. What their
``_core_testing`` (which their distribution lacks) offers is offered under its names, and the
modules of pygearman that are not in gearman_py.compat have what the tests import from them.
"""

import os
import sys
import types
import unittest
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from socket import SHUT_RDWR, create_server, socket
from threading import Condition, Thread, current_thread, main_thread
from typing import Any

from gearman_py import compat
from gearman_py.net.servers import ServerAddress
from gearman_py.protocol.codec import REQUEST, Decoder, response
from gearman_py.protocol.packets import TEXT, Packet

LIMIT = 60.0  # seconds in which anything awaited must come about
TEXT_COMMAND = 9999
NAMES = {"handle": "job_handle", "function": "task", "workload": "data", "id": "client_id"}
TELLING = {Packet.OPTION_REQ, Packet.SET_CLIENT_ID, Packet.CAN_DO, Packet.GRAB_JOB_UNIQ}


def random_bytes() -> bytes:
    return os.urandom(8).hex().encode()


class MockGearmanConnection(ServerAddress):
    """An address, and the server that listens there."""

    def __new__(cls, host: object = None, port: object = None) -> "MockGearmanConnection":
        listener = create_server(("127.0.0.1", 0))
        self = super().__new__(cls, "127.0.0.1", listener.getsockname()[1])
        self.listener, self.peer = listener, None
        self.changed = Condition()
        self._outgoing_commands = deque()
        self.told = []
        self.on_activity = lambda: None
        Thread(target=self.serve, daemon=True).start()
        return self

    listener: socket
    peer: socket | None
    changed: Condition
    _outgoing_commands: deque[tuple[int, list[bytes]]]  # what the server has been sent
    told: list[tuple[int, list[bytes]]]  # what a worker has said of itself on this connection
    on_activity: Callable[[], object]

    def serve(self) -> None:
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            with self.changed:
                self.peer, self.told = peer, []
                self.changed.notify_all()
            decoder = Decoder(REQUEST, text=True)
            with suppress(OSError):
                while data := peer.recv(2**16):
                    if self.take(decoder.feed(data)):
                        self.on_activity()
            peer.close()

    def take(self, messages: list[tuple[int, list[bytes]]]) -> bool:
        """Keep what has come; whether the tests are to know of it."""
        with self.changed:
            for number, arguments in messages:
                if number in TELLING:
                    self.told.append((number, arguments))
                if number == Packet.GRAB_JOB_UNIQ and self.peer is not None:
                    self.peer.sendall(response(Packet.NO_JOB))
                elif number not in (*TELLING, Packet.PRE_SLEEP):
                    self._outgoing_commands.append((number, arguments))
            self.changed.notify_all()
        return any(number not in TELLING for number, _ in messages)

    def send(self, data: bytes) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.peer is not None, LIMIT)
            assert self.peer is not None
            self.peer.sendall(data)

    def sent(self) -> tuple[int, list[bytes]]:
        """What the server was sent next."""
        with self.changed:
            assert self.changed.wait_for(lambda: bool(self._outgoing_commands), LIMIT)
            return self._outgoing_commands.popleft()

    @property
    def connected(self) -> bool:
        return self.peer is not None

    @connected.setter
    def connected(self, value: bool) -> None: ...

    def drop(self) -> None:
        if self.peer is not None:
            with suppress(OSError):
                self.peer.shutdown(SHUT_RDWR)
            self.peer = None

    def close(self) -> None:
        with suppress(OSError):
            self.listener.shutdown(SHUT_RDWR)
        self.listener.close()
        self.drop()

    @property
    def _fail_on_bind(self) -> bool:
        return self.listener.fileno() < 0

    @_fail_on_bind.setter
    def _fail_on_bind(self, value: bool) -> None:
        if value:
            self.close()


class MockGearmanConnectionManager(compat.connection_manager.GearmanConnectionManager):
    polls = 0

    def handle_connection_activity(self, readable: Any, writable: Any, failed: Any) -> Any:
        """Tests put a function here: what the server does when it hears something."""

    def handle_error(self, connection: MockGearmanConnection) -> None:
        connection.drop()

    def establish_request_connection(self, request: Any) -> None: ...

    def after_poll(self, any_activity: bool) -> bool:
        """A worker's work() is one round."""
        self.polls += 1
        return self.polls % 2 == 1


class GearmanClientCommandHandler:
    """A client's side of one connection, as tests push it."""

    def __init__(self, manager: Any, connection: MockGearmanConnection) -> None:
        self.manager, self.connection = manager, connection
        self.requests: list[Any] = []
        self.requests_awaiting_handles = _Awaiting(self)

    @property
    def handle_to_request_map(self) -> dict[Any, Any]:
        return {request.job.handle: request for request in self.requests}

    def send_job_request(self, request: Any) -> None:
        request.connection_attempts = 0
        self.manager.wait_until_jobs_accepted([request], poll_timeout=0)
        self.requests.append(request)
        deque.append(self.requests_awaiting_handles, request)

    def send_get_status_of_job(self, request: Any) -> None:
        self.manager.get_job_status(request, poll_timeout=0)

    def recv_command(self, number: int, **arguments: Any) -> None:
        packet = Packet(number)
        values = [arguments[NAMES.get(name, name)] for name in packet.arguments]
        data = response(packet, *map(_as_bytes, values))
        if current_thread() is not main_thread():
            self.connection.send(data)  # the client waits in the main thread
        elif packet is Packet.STATUS_RES:
            request = self.handle_to_request_map[arguments["job_handle"]]
            with _asking(self.manager.get_job_status, request):
                while self.connection.sent()[0] != Packet.GET_STATUS:
                    pass
                self.connection.send(data)
        elif self.has_ended(arguments.get("job_handle")):
            self.connection.send(data)  # the other thread was faster: it changes nothing
        else:
            before = self.facts()
            self.connection.send(data)
            self.manager.poll_connections_until_stopped(
                [self.connection], lambda _: self.facts() == before, timeout=LIMIT
            )

    def has_ended(self, handle: Any) -> bool:
        request = self.handle_to_request_map.get(handle)
        return request is not None and request.submitted is not None and request.submitted.done()

    def facts(self) -> str:
        return str([{**vars(one), "timed_out": None} for one in self.requests])


class _Awaiting(deque[Any]):
    def __init__(self, handler: GearmanClientCommandHandler) -> None:
        super().__init__()
        self.handler = handler

    def append(self, request: Any) -> None:
        self.handler.send_job_request(request)


class _asking:
    """Calls something that waits for the server, in a thread."""

    def __init__(self, ask: Callable[..., Any], *arguments: Any) -> None:
        self.outcome: list[Any] = []
        self.thread = Thread(target=lambda: self.outcome.append(ask(*arguments)), daemon=True)
        self.thread.start()

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self.thread.join(LIMIT)


class GearmanAdminClientCommandHandler:
    """An admin client's side of its connection."""

    def __init__(self, connection_manager: Any, connection: Any = None) -> None:
        self.manager, self.connection = connection_manager, connection
        self.encode_data, self.decode_data = connection_manager.encode, connection_manager.decode

    def send_text_command(self, command: str) -> None:
        ask = {
            "status": self.manager.get_status,
            "workers": self.manager.get_workers,
            "show jobs": self.manager.get_jobs,
            "show unique jobs": self.manager.get_unique_jobs,
            "shutdown": lambda: self.manager.send_shutdown(graceful=False),
        }[command]
        self._sent_commands = [command]
        self._asked = _asking(ask)

    def recv_command(self, number: int, raw_text: str | bytes | None) -> None:
        self.connection.send(_as_bytes("OK" if raw_text is None else raw_text) + b"\n")
        if self._sent_commands == ["shutdown"] or _as_bytes(raw_text or "") == b".":
            self._asked.thread.join(LIMIT)

    @property
    def response_ready(self) -> bool:
        self._asked.thread.join(0.1)
        return not self._asked.thread.is_alive()

    def pop_response(self) -> tuple[str, Any]:
        if not self.response_ready:
            raise compat.errors.InvalidAdminClientState("it has not answered yet")
        return self._sent_commands[0], self._asked.outcome[0]


class GearmanWorkerCommandHandler:
    """What the server hears of a worker when that works."""

    def __init__(self, manager: Any, connection: MockGearmanConnection) -> None:
        self.manager, self.connection = manager, connection
        # Before a worker works it has no connection, and nothing to be asked of one.
        for packet in (Packet.RESET_ABILITIES, Packet.PRE_SLEEP):
            connection._outgoing_commands.append((packet, []))

    @property
    def _handler_abilities(self) -> list[str]:
        return [arguments[0].decode() for arguments in self.heard(Packet.CAN_DO)]

    @property
    def _client_id(self) -> str | None:
        if self.manager.worker_client_id is None:
            return None
        (arguments,) = self.heard(Packet.SET_CLIENT_ID)
        return arguments[0].decode()

    def heard(self, packet: Packet) -> list[list[bytes]]:
        self.manager.work(poll_timeout=0)
        return [arguments for number, arguments in self.connection.told if number == packet]


class _GearmanAbstractTest(unittest.TestCase):
    connection_class = MockGearmanConnection
    connection_manager_class: type[Any] = MockGearmanConnectionManager
    command_handler_class: type[Any] | None = None
    job_class = compat.GearmanJob

    def setUp(self) -> None:
        self.wrong: list[BaseException] = []  # in the server's thread
        self.setup_connection_manager()
        self.setup_connection()
        self.setup_command_handler()

    def tearDown(self) -> None:
        self.connection_manager.shutdown()
        self.connection.close()
        assert not self.wrong, self.wrong

    def setup_connection_manager(self) -> None:
        base = self.connection_manager_class

        def wait_until_jobs_completed(manager: Any, requests: Any, poll_timeout: Any = None) -> Any:
            manager.handle_connection_activity(set(), set(), set())
            return base.wait_until_jobs_completed(manager, requests, poll_timeout)

        overrides = {
            "after_poll": MockGearmanConnectionManager.after_poll,
            "wait_until_jobs_completed": wait_until_jobs_completed,
        }
        self.connection_manager = type("Testing", (base,), overrides)()

    def setup_connection(self) -> None:
        self.connection = self.connection_class()
        self.connection.on_activity = self.activity
        self.connection_manager.connection_list = [self.connection]

    def activity(self) -> None:
        try:
            self.connection_manager.handle_connection_activity(set(), set(), set())
        except BaseException as error:
            self.wrong.append(error)

    def setup_command_handler(self) -> None:
        if self.command_handler_class is not None:
            self.command_handler = self.command_handler_class(
                self.connection_manager, self.connection
            )

    def generate_job(self) -> compat.GearmanJob:
        data = random_bytes(), b"__test_ability__", random_bytes(), random_bytes()
        return self.job_class(self.connection, *data)

    def generate_job_request(self, priority: Any = None, background: bool = False) -> Any:
        return compat.GearmanJobRequest(self.generate_job(), priority, background)

    def assert_jobs_equal(self, actual: Any, expected: Any) -> None:
        assert actual.to_dict() == expected.to_dict()

    def assert_sent_command(self, expected: int, **arguments: Any) -> None:
        number, values = self.connection.sent()
        if expected == TEXT_COMMAND:
            assert number == TEXT
            assert values == [_as_bytes(arguments["raw_text"]).strip()]
        else:
            names = [NAMES.get(name, name) for name in Packet(number).arguments]
            assert (Packet(number), dict(zip(names, values, strict=True))) == (
                Packet(expected),
                {name: _as_bytes(value) for name, value in arguments.items()},
            )


def _as_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _submit(background: bool, priority: str | None) -> Packet:
    parts = ["SUBMIT_JOB", *([priority] if priority else []), *(["BG"] if background else [])]
    return Packet["_".join(parts)]


def install() -> None:
    """Be pygearman, and its tests' helpers."""
    compat.install()
    commands = ["status", "version", "workers", "maxqueue", "shutdown", "getpid"]
    commands += ["show jobs", "show unique jobs", "cancel job"]
    modules: dict[str, dict[str, Any]] = {
        "protocol": {
            **{f"GEARMAN_COMMAND_{packet.name}": packet for packet in Packet},
            **{f"GEARMAN_SERVER_COMMAND_{c.upper().replace(' ', '_')}": c for c in commands},
            "GEARMAN_COMMAND_TEXT_COMMAND": TEXT_COMMAND,
            "submit_cmd_for_background_priority": _submit,
            "get_command_name": lambda number: Packet(number).name,
        },
        "connection": {"GearmanConnection": ServerAddress},
        "client_handler": {"GearmanClientCommandHandler": GearmanClientCommandHandler},
        "worker_handler": {"GearmanWorkerCommandHandler": GearmanWorkerCommandHandler},
        "admin_client_handler": {
            "GearmanAdminClientCommandHandler": GearmanAdminClientCommandHandler
        },
    }
    for name, contents in modules.items():
        module = sys.modules[f"gearman.{name}"] = types.ModuleType(f"gearman.{name}")
        vars(module).update(contents)
    compat.admin_client.ECHO_STRING = "ping"  # type: ignore[attr-defined]  # the tests import it
    sys.modules["tests._core_testing"] = sys.modules[__name__]


def listed(test: str, names: list[str]) -> bool:
    """Whether a test, or the class that it is in, is among ``names``."""
    test = test.removeprefix("tests/").partition("[")[0]
    return any(test == name or test.startswith(f"{name}::") for name in names)
