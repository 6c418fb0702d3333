"""The connection of an AdminClient in one process."""

import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import RLock, Thread
from time import monotonic
from typing import TypeVar

from gearman_py.admin.answer_reader import AnswerReader
from gearman_py.net.dial import connect
from gearman_py.net.servers import ServerAddress

_READ_SIZE = 2**16
S = TypeVar("S")
T = TypeVar("T")


def ask_at_once(ask: Callable[[S], T], whom: Sequence[S]) -> list[T]:
    """What each says, in this order; each is asked in a thread, which ^C leaves behind."""

    def ask_one(each: S, answer: Future[T]) -> None:
        try:
            answer.set_result(ask(each))
        except BaseException as error:  # raised where it is awaited
            answer.set_exception(error)

    answers: list[Future[T]] = [Future() for _ in whom]
    for each in zip(whom, answers, strict=True):
        Thread(target=ask_one, args=each, daemon=True).start()
    return [answer.result() for answer in answers]


class AdminConnection:
    """``turn`` is held by the thread that waits for an answer."""

    def __init__(self) -> None:
        self.turn = RLock()
        self._socket: socket.socket | None = None

    @property
    def is_open(self) -> bool:
        """Whether it was opened, and not closed since."""
        return self._socket is not None

    def open(self, server: ServerAddress, timeout: float, greeting: bytes) -> None:
        """Connect within ``timeout`` seconds, and send the greeting. Raises OSError."""
        self._socket = connect(server, timeout)
        self._socket.sendall(greeting)
        self._answers = AnswerReader()

    def exchange(self, line: bytes, timeout: float, *, listing: bool) -> list[str]:
        """Send the line of a command and return those of its answer. Raises OSError."""
        assert self._socket is not None  # noqa: S101  for mypy: the caller has opened it
        deadline = monotonic() + timeout
        self._socket.settimeout(timeout)
        self._socket.sendall(line)
        while (answer := self._answers.next_answer(listing=listing)) is None:
            if (left := deadline - monotonic()) <= 0:  # though more comes all the while
                raise TimeoutError
            self._socket.settimeout(left)
            if not (data := self._socket.recv(_READ_SIZE)):
                raise ConnectionResetError("it closed the connection")
            self._answers.receive_data(data)
        return answer

    def close(self) -> None:
        """Close it; it may be opened again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    abandon = close  # in a forked child, this closes its copy alone
