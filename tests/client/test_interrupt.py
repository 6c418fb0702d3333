"""^C in a thread that waits: KeyboardInterrupt comes out, and the client can be used afterwards."""

import dis
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import Thread
from types import CodeType, FrameType
from typing import Any

import pytest

import gearman_py
from gearman_py import AdminClient, Client
from gearman_py.testing import Server

PACKAGE = Path(gearman_py.__file__).parent
OURS = (str(PACKAGE / "client"), str(PACKAGE / "admin"))
AFTER = {"RESUME", "CALL", "CALL_KW", "CALL_FUNCTION_EX"}


@cache
def interruptible(code: CodeType) -> frozenset[int]:
    """The offsets at which Python may raise KeyboardInterrupt: after calls and at the start.

    Python 3.14 also does so between the ``__enter__`` of a ``with`` and its block, so that no
    ``with lock`` is safe from ^C there, of anyone: these are left out.
    """
    found, entering, before = [], False, ""
    for instruction in dis.get_instructions(code):
        if before in AFTER and not entering:
            found.append(instruction.offset)
        if instruction.opname not in AFTER:
            entering = (instruction.opname, instruction.argrepr) == ("LOAD_SPECIAL", "__enter__")
        before = instruction.opname
    return frozenset(found)


class Interrupt:
    """Raises KeyboardInterrupt at the N-th place in a client's code where Python may."""

    def __init__(self, place: int) -> None:
        self.left = place

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode" and frame.f_lasti in interruptible(frame.f_code):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self


def interrupted(act: Callable[[], object], place: int) -> bool:
    """Whether ``act`` reaches that place; it must end with KeyboardInterrupt there."""
    try:
        for interrupt in (Interrupt(sys.maxsize), Interrupt(place)):
            sys.settrace(interrupt)
            act()  # twice: from Python 3.12 on, a function is traced from its next call on
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    assert interrupt.left > 0, "the interrupt was swallowed"
    return False


def in_a_thread(act: Callable[[], object]) -> None:
    failed: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:
            failed.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert not failed, failed


@pytest.mark.slow
@pytest.mark.parametrize("servers", [1, 2])
def test_a_client_is_usable_after_an_interrupt_at_any_place(jobs: Server, servers: int) -> None:
    where = [jobs.address, jobs.address.replace("127.0.0.1", "localhost")]
    client = Client(where[:servers], timeout=60)
    client.do("upper", "ab")
    place = 1
    while interrupted(lambda: client.do("upper", "cd"), place):
        assert client.do("upper", "ab") == b"AB", place
        in_a_thread(lambda: client.do("upper", "ef"))
        place += 1
    assert place > 10
    client.close()


def test_an_admin_client_never_takes_the_answer_to_an_earlier_command(jobs: Server) -> None:
    with AdminClient(jobs.address, timeout=60) as admin:
        version, place = admin.version(), 1
        while interrupted(admin.pid, place):
            assert admin.version() == version, place
            place += 1
        assert place > 10
