"""The life of a job server: its rights, its queue, and then what running_server does.

With a durable queue, peers cannot connect until the jobs of the previous run are queued again.
"""

import asyncio
import gc
import os
import pwd
import resource
import ssl
from collections.abc import Callable, Sequence

from gearman_py.broker.failed_jobs import FailedJobs
from gearman_py.broker.kept_results import KeptResults
from gearman_py.broker.queues import Queues
from gearman_py.event_loop import new_event_loop
from gearman_py.sdnotify import notify
from gearman_py.server.listening import ListeningSocket, StartError
from gearman_py.server.running_server import RunningServer
from gearman_py.server.settings import Settings
from gearman_py.server.store_writer import replay_store
from gearman_py.server.stores import open_store
from gearman_py.server.takeover import Takeover
from gearman_py.store.base import StoreError, first_number

# Freeing a block of this size once makes glibc's malloc keep as much for later workloads; otherwise
# it returns each one to the system, and the pages of the next are zeroed again: twice the CPU for
# workloads of a MiB (measured).
MALLOC_KEEPS = 4 * 2**20


def allow_descriptors(number: int) -> None:
    """Raise the limit of open files of this process. Raises StartError."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, max(number, most)))
    except (ValueError, OSError) as error:
        raise StartError(
            f"--file-descriptors: {number} is more than the {most} that the system allows here"
        ) from error


def become_user(user: str, doors: Sequence[ListeningSocket]) -> None:
    """Switch from root to a user, which becomes the owner of socket files. Raises StartError."""
    entry = _find_user(user)
    try:
        if os.geteuid() != entry.pw_uid:
            for door in doors:
                door.give_to(entry.pw_uid, entry.pw_gid)
            os.initgroups(user, entry.pw_gid)
            os.setgid(entry.pw_gid)
            os.setuid(entry.pw_uid)
    except PermissionError as error:
        raise StartError(f"only root can switch to user {user!r}") from error


def check_user(user: str) -> None:
    """Raise StartError unless this process, which is to replace another, is the user's."""
    if _find_user(user).pw_uid != os.geteuid():
        name = pwd.getpwuid(os.geteuid()).pw_name
        raise StartError(f"--user cannot be changed by a reload: the server runs as {name!r}")


def _find_user(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise StartError(
            f"user {user!r} does not exist; create it: useradd --system -s /usr/sbin/nologin {user}"
        ) from None


def serve(
    settings: Settings,
    doors: Sequence[ListeningSocket],
    tls: ssl.SSLContext | None = None,
    takeover: Takeover | None = None,
    on_ready: Callable[[], None] | None = None,
) -> int:
    """Serve at these sockets until a signal or an operator stops it; return the exit status.

    TCP sockets use ``tls`` if it is given. ``on_ready`` is called once clients can connect. With
    ``takeover``, the sockets and all else are those of another process.
    Raises StartError if the durable queue cannot be used, and ReloadError if the takeover failed.
    """
    # The broker creates no reference cycles; the collector would only stall it, and for longer
    # the longer the queues are.
    bytes(MALLOC_KEEPS)
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        store = open_store(settings) if takeover is None else None
        queues = Queues(
            settings.handle_prefix,
            first=first_number(store.series if store is not None else 0),
            function_first=settings.function_first,
            rotate=settings.round_robin or not settings.function_first,
            wakeup=settings.worker_wakeup,
            durable=settings.queue != "builtin",
            failed=FailedJobs(settings.keep_failed, 86400 * settings.keep_failed_days),
            results=_make_results(settings),
        )
        if store is not None:
            notify("STATUS=reading the queue")
            replay_store(store, queues)
    except StoreError as error:
        raise StartError(str(error)) from error

    async def run() -> int:
        return await RunningServer(settings, queues, tls).run(doors, store, takeover, on_ready)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(run())


def _make_results(settings: Settings) -> KeptResults | None:
    """What keeps results, if any are to be kept."""
    seconds = {os.fsencode(name): kept for name, kept in settings.result_seconds.items()}
    kept = any(seconds.values()) and settings.keep_results_memory
    return KeptResults(seconds, settings.keep_results_memory) if kept else None
