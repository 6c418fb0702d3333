"""The socket over which a running job server passes its work to a new program.

Each job server listens on an abstract Unix socket that is named after its process, also if another
user has taken the name. Both sides check that the other runs as the same user, and the new program
that the other is the process it means. Messages are JSON objects in Latin-1, each after its
length; descriptors and large bytes follow the message that announces them. Both sides wait for each
other, but never without a limit.
"""

import contextlib
import json
import os
import socket
import time
from collections.abc import Sequence
from math import inf
from struct import Struct
from typing import Self

from gearman_py.broker.job_columns import Section, as_text
from gearman_py.net.abstract_socket import read_owner

FORMAT = 2  # of the messages; that of the state is FORMAT in gearman_py.broker.snapshot
# Seconds for the new program to read its configuration and be ready ...
READY_TIMEOUT = 60.0
# ... and for all of the time in which peers are not served.
PAUSE_TIMEOUT = 10.0
DESCRIPTORS = 250  # in one message: the kernel takes 253
# Bytes that are worth passing as they are: JSON takes up to six for one, and 50 ms for a MiB.
LARGE_BYTES = 4096
# Words of the conversation, in their order.
READY, TAKEN, GO, SERVING, REFUSED = "ready", "taken", "go", "serving", "refused"
HAS_ENDED = "the other program has ended"
NOT_A_MESSAGE = "the other program sent something that is not a message"
_LENGTH = Struct(">Q")
_MOST = 2**33  # bytes of a message


class ReloadError(Exception):
    """The reload failed, and the running server goes on. The message says why."""


class ReloadTimeout(ReloadError):
    """The other program may still be there, and did not answer."""


class ReloadEnded(ReloadError):
    """The other program has ended, or closed the connection."""


def channel_name(process: int) -> str:
    """The abstract name of a job server's socket, or what it begins with."""
    return f"gearmand-reload-{process}"


class Enclosures:
    """Large bytes that follow a message. ``enclosing``: the other program can read them."""

    def __init__(self, *, enclosing: bool) -> None:
        self._least = LARGE_BYTES if enclosing else inf
        self.parts: list[bytes] = []

    def pack(self, data: bytes) -> str | int:
        """What the message has in place of ``data``: its number, or itself if it is small."""
        if len(data) < self._least:
            return as_text(data)
        self.parts.append(data)
        return len(self.parts) - 1


def turn_away(listening: socket.socket, why: str) -> None:
    """Refuse all programs that wait to be answered."""
    with contextlib.suppress(OSError):  # there are no more
        while True:
            connected, _ = listening.accept()
            with contextlib.suppress(ReloadError), ReloadChannel(connected, READY_TIMEOUT) as each:
                each.refuse(why)


class ReloadChannel:
    """One side of the conversation. Its methods raise ReloadError, also when time is up.

    ``encloses``: the other program reads what is enclosed in a message.
    """

    encloses = False

    def __init__(self, connected: socket.socket, seconds: float) -> None:
        self.socket = connected
        self.allow(seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def allow(self, seconds: float) -> None:
        """All that follows may take so long."""
        self._seconds, self._until = seconds, time.monotonic() + seconds

    @property
    def other(self) -> tuple[int, int]:
        """The process and the user at the other end."""
        return read_owner(self.socket)

    def check_user(self) -> None:
        """Accept only the same user."""
        process, user = self.other
        if user != os.geteuid():
            raise ReloadError(
                f"process {process} runs as user {user}, and this one as user {os.geteuid()}: "
                "they must be the same"
            )

    def send(self, section: Section, enclosed: Sequence[bytes] = ()) -> None:
        if enclosed:
            section = section | {"enclosed": [len(part) for part in enclosed]}
        data = json.dumps(section, ensure_ascii=False, separators=(",", ":")).encode("latin-1")
        for part in (_LENGTH.pack(len(data)) + data, *enclosed):
            self._wait()
            try:
                self.socket.sendall(part)
            except OSError as error:
                raise self._explain(error) from error

    def send_word(self, word: str) -> None:
        self.send({"word": word})

    def receive(self) -> Section:
        """The next message; what is ``enclosed`` in it is bytes.

        Raises ReloadError, also if the other program refuses.
        """
        (size,) = _LENGTH.unpack(self._receive_bytes(_LENGTH.size))
        try:
            section: Section = dict(json.loads(self._receive_bytes(size).decode("latin-1")))
            sizes = map(int, section.get("enclosed", ()))
            section["enclosed"] = [self._receive_bytes(each) for each in sizes]
        except (ValueError, TypeError) as error:
            raise ReloadError(NOT_A_MESSAGE) from error
        if section.get("word") == REFUSED:
            raise ReloadError(section["why"])
        return section

    def expect(self, word: str) -> None:
        if self.receive().get("word") != word:
            raise ReloadError(f"the other program did not say {word!r}")

    def refuse(self, why: str) -> None:
        self.send({"word": REFUSED, "why": why.encode(errors="replace").decode("latin-1")})

    def _receive_bytes(self, size: int) -> bytes:
        if not 0 <= size <= _MOST:
            raise ReloadError(NOT_A_MESSAGE)
        data = bytearray(size)
        rest = memoryview(data)
        while rest:
            self._wait()
            try:
                count = self.socket.recv_into(rest)
            except OSError as error:
                raise self._explain(error) from error
            if not count:
                raise ReloadEnded(HAS_ENDED)
            rest = rest[count:]
        return bytes(data)

    def send_descriptors(self, descriptors: Sequence[int]) -> None:
        for start in range(0, len(descriptors), DESCRIPTORS):
            self._wait()
            try:
                part = descriptors[start : start + DESCRIPTORS]
                socket.send_fds(self.socket, [b"D"], part)
            except OSError as error:
                raise self._explain(error) from error

    def receive_descriptors(self, count: int) -> list[int]:
        received: list[int] = []
        while len(received) < count:
            self._wait()
            try:
                most = min(DESCRIPTORS, count - len(received))
                data, part, flags, _ = socket.recv_fds(
                    self.socket, 1, most, socket.MSG_CMSG_CLOEXEC
                )
            except OSError as error:
                raise self._explain(error) from error
            received += part
            if not data:
                raise ReloadEnded(HAS_ENDED)
            if flags & socket.MSG_CTRUNC:
                raise ReloadError(
                    f"{count} descriptors were passed, and this process may not open as many: "
                    "see --file-descriptors, or LimitNOFILE= of the unit"
                )
        return received

    def _wait(self) -> None:
        remaining = self._until - time.monotonic()
        if remaining <= 0:
            raise self._explain(TimeoutError())
        self.socket.settimeout(remaining)

    def _explain(self, error: OSError) -> ReloadError:
        if isinstance(error, TimeoutError):
            return ReloadTimeout(f"the other program did not answer within {self._seconds:g} s")
        if isinstance(error, ConnectionError):
            return ReloadEnded(HAS_ENDED)
        return ReloadError(f"the connection to the other program: {error.strerror or error}")
