"""Asking the person at the terminal for a secret, whichever thread needs it.

Only the thread that a Ctrl-C reaches may read the terminal: it would leave any other one waiting
there, with the echo off. So work in threads passes its question to the thread that waits for
them (pool.run_on_each), and the answer comes back.
"""

import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from getpass import getpass
from queue import SimpleQueue
from threading import Lock, current_thread, main_thread
from typing import Any

from provision.inventory.secrets import Secret


class PasswordPrompt:
    """What a thread wants to be told."""

    def __init__(self, prompt: str) -> None:
        self._prompt = prompt
        self._answer: Future[Secret | None] = Future()

    def ask(self) -> None:
        """Ask, in the thread that reads the terminal. Raises KeyboardInterrupt."""
        try:
            self._answer.set_result(Secret(getpass(self._prompt)))
        except EOFError:
            self._answer.set_result(None)
        except BaseException:
            self._answer.set_result(None)
            raise

    def answer(self) -> Secret | None:
        return self._answer.result()

    def drop(self) -> None:
        self._answer.set_result(None)


_desks: list["SimpleQueue[Any]"] = []  # where questions are put, the innermost last
_desks_change = Lock()


@contextmanager
def answered_at(desk: "SimpleQueue[Any]") -> Iterator[None]:
    """While this lasts, questions of other threads are put there, and have to be asked."""
    _desks.append(desk)
    try:
        yield
    finally:
        with _desks_change:
            _desks.remove(desk)
        while not desk.empty():
            left = desk.get()
            if isinstance(left, PasswordPrompt):
                left.drop()


def ask_password(prompt: str) -> Secret | None:
    """What a person types, unseen; None without a terminal."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    question = PasswordPrompt(prompt)
    if current_thread() is main_thread():
        question.ask()
        return question.answer()
    with _desks_change:
        if not _desks:
            return None  # whoever would have asked was interrupted
        _desks[-1].put(question)
    return question.answer()
