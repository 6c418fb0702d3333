"""Many hosts at once: a session for each, and a bounded number of threads."""

import os
import secrets
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from getpass import getuser
from pathlib import Path
from queue import Empty, SimpleQueue
from socket import gethostname
from time import monotonic
from typing import TypeVar

from provision.errors import HostFailed, ToolkitError
from provision.inventory.host import Host
from provision.options import HOSTS_AT_ONCE
from provision.remote.handshake import AgentChannel, command_line, shake_hands
from provision.remote.session import Session
from provision.ssh import connection as transport
from provision.ssh.prompt import PasswordPrompt, answered_at
from provision.ssh.sudo import Password, SudoPassword

Item = TypeVar("Item")
Result = TypeVar("Result")

INTERRUPT_TIMEOUT = 10.0  # seconds that hosts at work have to come to a stop
NOTICE_INTERVAL = 0.2  # seconds until an interrupt is noticed at the latest

_sudo_password = SudoPassword()


def connect(host: Host, become: bool | None = None) -> Session:
    """A session with the agent there: one connection, one channel, one sudo.

    ``become`` root or not; if None, as its inventory says.

    Raises :class:`~provision.errors.Unreachable`.
    """
    with _logged_in(host, become) as (connection, sudo, password):
        return Session(
            host.name, connection.start, sudo=sudo, password=password, python=host.python
        )


def start_on(host: Host) -> tuple[AgentChannel, bytes]:
    """Begin as a session does, with sudo as its inventory says, but send no agent yet.

    Returns the channel, whose Python waits for source, and what was said already. Raises
    :class:`~provision.errors.Unreachable`.
    """
    token = secrets.token_hex(8)
    with _logged_in(host, None) as (connection, sudo, password):
        channel = connection.start(command_line(token, sudo=sudo, python=host.python))
        asked = password if sudo else None
        return channel, shake_hands(channel, host.name, token, asked, host.python)


@contextmanager
def _logged_in(
    host: Host, become: bool | None
) -> Iterator[tuple[transport.SSHConnection, bool, Password]]:
    """A connection, whether it needs sudo, and its password; closed if what is done fails."""
    connection = transport.connect(host)
    sudo = (host.become if become is None else become) and connection.user != "root"
    try:
        with _sudo_password.offer_password(
            host.name, host.variables.get("ansible_become_password")
        ) as password:
            yield connection, sudo, password
    except BaseException:
        connection.close()
        raise


@contextmanager
def open_sessions(
    connect: Callable[[Host], Session] = connect,
) -> Iterator[Callable[[Host], Session]]:
    """How to connect: sessions that are closed when this is left, by an interrupt too.

    Whoever waits for a host in a thread of its own then waits no more.
    """
    opened: list[Session] = []

    def open_session(host: Host) -> Session:
        opened.append(connect(host))
        return opened[-1]

    try:
        yield open_session
    finally:
        for session in opened:
            session.close()


def run_on_each(
    items: Iterable[Item],
    function: Callable[[Item], Result],
    parallel: int = HOSTS_AT_ONCE,
    on_interrupt: Callable[[], None] | None = None,
) -> Iterator[tuple[Item, Result | ToolkitError]]:
    """Every item with its result, or with the error it met, as they come.

    A bug that one item meets is that item's failure: the others go on. With ``on_interrupt``, which
    is called at an interrupt, those at work have INTERRUPT_TIMEOUT to end, and are told.
    """
    pool = ThreadPoolExecutor(parallel)
    inbox: SimpleQueue[Future[Result] | PasswordPrompt] = SimpleQueue()
    try:
        with answered_at(inbox):
            futures = {pool.submit(function, item): item for item in items}
            for future in futures:
                future.add_done_callback(inbox.put)
            left, end = set(futures), 0.0
            while left:
                try:
                    came = _take(inbox, end)
                except Empty:
                    raise KeyboardInterrupt from None
                except KeyboardInterrupt:
                    if on_interrupt is None or end:
                        raise
                    end = monotonic() + INTERRUPT_TIMEOUT
                    on_interrupt()
                    for future in left:
                        future.cancel()
                        if future.done():  # it may have been taken as the interrupt came
                            inbox.put(future)
                    continue
                if isinstance(came, PasswordPrompt):
                    came.ask()
                    continue
                if came not in left:
                    continue
                left.remove(came)
                if came.cancelled():
                    continue
                error = came.exception()
                if error is None:
                    yield futures[came], came.result()
                elif isinstance(error, ToolkitError):
                    yield futures[came], error
                elif isinstance(error, Exception):
                    yield futures[came], _bug(error)
                else:
                    raise error
        if end:
            raise KeyboardInterrupt
    finally:
        # Not waited for: when someone interrupts, closing the sessions ends the threads.
        pool.shutdown(wait=False, cancel_futures=True)


def _take(inbox: SimpleQueue[Item], end: float) -> Item:
    """What comes next. Raises :class:`Empty` at the time ``end``, if it is not 0.

    It waits in short pieces: an interrupt that comes just before a wait begins does not end it.
    """
    while True:
        left = max(end - monotonic(), 0) if end else NOTICE_INTERVAL
        try:
            return inbox.get(timeout=min(left, NOTICE_INTERVAL))
        except Empty:
            if end and monotonic() >= end:
                raise


def _bug(error: Exception) -> HostFailed:
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(where.filename).name}:{where.lineno}"
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    return HostFailed(f"this is a bug in the toolkit; please report it: {what} ({place})")


def describe_operator() -> dict[str, str]:
    """Who is doing what: as a host's history has it, and those who find it locked."""
    said = sys.argv[1:]
    if said[:1] == ["--search-root"]:  # by ./invoke alone
        said = said[2:]
    return {
        "who": f"{getuser()}@{gethostname()}",
        "doing": shlex.join(["invoke", *said]),
    }


def lock_holder(nonce: str = "") -> dict[str, str]:
    """What others read of us on a host that we lock. ``nonce``: what only this host is told."""
    known = describe_operator()
    return {
        "who": known["who"],
        "since": datetime.now().astimezone().strftime("%H:%M"),
        "doing": f"{known['doing']}, pid {os.getpid()}",
        "nonce": nonce,
    }
