"""A process that has imported a program, and becomes it as often as it is asked to.

    python -m tests.fork_server DESCRIPTOR MODULE

A fresh interpreter takes a tenth of a second of CPU time or more until it has imported a command
of ours, and the tests start thousands. This process is single-threaded, so a fork of it is what a
fresh one would be. ``MODULE`` has the function ``main``. tests/forked.py asks.
"""

import atexit
import gc
import json
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

REQUEST_LIMIT = 1 << 18  # bytes, of arguments and environment
# What commands import only as they run.
LATE = ("shutil", "encodings.idna", "uvloop")
LATE_OF_WEB = ("jinja2", "uvicorn", "gearman_py.web.app")


def serve_requests(control: socket.socket) -> tuple[bytes, list[int]]:
    """Fork a process for each request, tell its pid and how it ended; returns it in each of them.

    A request comes with descriptors: standard input, output, error, and where to answer. A process
    that has ended is reaped once the other end of that is closed, as a parent would.
    """
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not control:
                    _follow_process(selector, key)
                    continue
                text, descriptors, _, _ = socket.recv_fds(control, REQUEST_LIMIT, 4)
                if not text:
                    sys.exit()  # whoever runs the tests is gone
                answer = descriptors.pop()
                if not (pid := os.fork()):
                    return text, descriptors
                for descriptor in descriptors:
                    os.close(descriptor)
                os.write(answer, b"%d" % pid)
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, answer))


def _follow_process(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    """It has ended: tell. That was read: reap it."""
    pid, answer = key.data
    selector.unregister(key.fd)
    os.close(key.fd)
    if key.fd == answer:
        os.waitpid(pid, 0)
        return
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    status = ended.si_status << 8 if ended.si_code == os.CLD_EXITED else ended.si_status
    with suppress(BrokenPipeError):
        os.write(answer, b"%d" % status)  # as waitpid() has it
    selector.register(answer, selectors.EVENT_READ, key.data)


def become_process(request: dict[str, Any], descriptors: list[int], module: str) -> None:
    """Take over what a process of this request would have been started with."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    _open_standard_streams()
    if request["session"]:
        os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    sys.argv = [str(sys.modules[module].__file__), *request["arguments"]]
    sys.orig_argv = [sys.executable, "-m", module, *request["arguments"]]


def _open_standard_streams() -> None:
    """As Python does when it starts: what they can do depends on what they are."""
    for name, mode, number in (("stdin", "r", 0), ("stdout", "w", 1), ("stderr", "w", 2)):
        former = getattr(sys, name)
        stream = open(  # noqa: SIM115  # to the end of the process
            number,
            mode,
            encoding=former.encoding,
            errors=former.errors,
            newline=None if mode == "r" else "\n",
            closefd=False,
        )
        if number == 2:
            stream.reconfigure(line_buffering=True)  # type: ignore[attr-defined]  # it is text
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def run_to_end(main: Callable[[], int | None]) -> None:
    """Call it and end as an interpreter does, but leave the memory to the kernel.

    To free one by one what came with the fork costs more than most commands do. What still has a
    thread, or has more to say than a number, ends in the usual way.
    """
    try:
        status = main()
    except SystemExit as end:
        if not isinstance(end.code, int):
            raise
        status = end.code
    if threading.active_count() > 1:
        sys.exit(status)
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        sys.exit(status)
    os._exit(status or 0)


if __name__ == "__main__":
    control = socket.socket(fileno=int(sys.argv[1]))
    program = import_module(name := sys.argv[2])
    for late in (*LATE, *(LATE_OF_WEB if name == "gearman_py.cli.web" else ())):
        with suppress(ImportError):
            import_module(late)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started us ignored it
    gc.freeze()
    text, descriptors = serve_requests(control)
    become_process(json.loads(text), descriptors, name)
    run_to_end(program.main)
