"""A process that has imported the toolkit, and becomes `invoke` as often as it is asked to.

A fresh interpreter takes half a second of CPU time until it has imported all, and the lab's tests
run hundreds of commands. It is single-threaded, so a fork of it is what a fresh one would be.
"""

import gc
import json
import os
import selectors
import socket
import sys

import paramiko  # noqa: F401  # imported when a host is first connected to
from invoke.main import program

import provision.commands.history
import provision.commands.smoke
import provision.commands.status
import provision.doctor.doctor
import provision.fleet.deploy
import provision.fleet.retire
import provision.fleet.rollout
import provision.report.json
import provision.report.text
import provision.ssh.connection  # noqa: F401
import tasks  # noqa: F401  # what it imports: each command reads tasks.py itself

REQUEST_LIMIT = 1 << 18  # bytes, of arguments and environment


def serve_requests(control: socket.socket) -> None:
    """Fork a process for each request, tell its pid and how it ended; returns in each of them.

    A request comes with descriptors: standard input, output, error, and where to answer.
    """
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not control:
                    selector.unregister(key.fileobj)
                    _tell_end(key.fd, *key.data)
                    continue
                text, descriptors, _, _ = socket.recv_fds(control, REQUEST_LIMIT, 4)
                if not text:
                    sys.exit()  # whoever runs the tests is gone
                answer = descriptors.pop()
                if not (pid := os.fork()):
                    _become(json.loads(text), descriptors)
                    return
                for descriptor in descriptors:
                    os.close(descriptor)
                os.write(answer, f"{pid}\n".encode())
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, answer))


def _tell_end(process: int, pid: int, answer: int) -> None:
    _, status = os.waitpid(pid, 0)
    os.write(answer, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os.close(answer)
    os.close(process)


def _become(request: dict[str, object], descriptors: list[int]) -> None:
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(request["environment"])  # type: ignore[call-overload]  # of JSON
    sys.argv = ["invoke", *request["arguments"]]  # type: ignore[misc]  # of JSON


if __name__ == "__main__":
    control = socket.socket(fileno=int(sys.argv[1]))
    gc.freeze()
    serve_requests(control)
    program.run()
