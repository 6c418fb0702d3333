"""A worker that speaks Gearman itself, with Python's standard library alone: what a team's program
in any language does. It shouts, takes its time, and at SIGTERM finishes its job and leaves."""

import hashlib
import os
import signal
import socket
import struct
import sys
import time

CAN_DO, PRE_SLEEP, NOOP, GRAB_JOB, NO_JOB, JOB_ASSIGN, WORK_COMPLETE = 1, 4, 6, 9, 10, 11, 13
leaving = False


def leave(number: int, frame: object) -> None:
    global leaving
    leaving = True


def send(connection: socket.socket, kind: int, *arguments: bytes) -> None:
    data = b"\0".join(arguments)
    connection.sendall(b"\0REQ" + struct.pack(">II", kind, len(data)) + data)


def receive(connection: socket.socket) -> tuple[int, bytes]:
    head = connection.recv(12, socket.MSG_WAITALL)
    if len(head) < 12:
        sys.exit("the job server is gone")
    kind, size = struct.unpack(">4xII", head)
    return kind, connection.recv(size, socket.MSG_WAITALL) if size else b""


def seal_of(folder: str) -> bytes:
    """What shows which secret it has, and not what it is."""
    if not folder:
        return b""
    with open(f"{folder}/KEY", "rb") as file:
        return hashlib.sha256(file.read()).hexdigest().encode()


def main(function: str) -> None:
    signal.signal(signal.SIGTERM, leave)
    seal = seal_of(os.environ.get("CREDENTIALS_DIRECTORY", ""))
    host, _, port = os.environ["GEARMAN_SERVERS"].rpartition(":")
    connection = socket.create_connection((host, int(port)))
    send(connection, CAN_DO, function.encode())
    while not leaving:
        send(connection, GRAB_JOB)
        kind, data = receive(connection)
        while kind == NOOP:
            kind, data = receive(connection)
        if kind == JOB_ASSIGN:
            handle, _, workload = data.split(b"\0", 2)
            time.sleep(0.01)
            answer = workload.upper() + os.environ.get("MARK", "!").encode() + seal
            send(connection, WORK_COMPLETE, handle, answer)
        elif kind == NO_JOB:
            send(connection, PRE_SLEEP)
            connection.settimeout(0.2)
            while not leaving:
                try:
                    if connection.recv(12, socket.MSG_PEEK):
                        break
                    sys.exit("the job server is gone")
                except TimeoutError:
                    continue
            connection.settimeout(None)


if __name__ == "__main__":
    main(sys.argv[1])
