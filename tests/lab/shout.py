"""A worker that speaks Gearman itself, with Python's standard library alone: what a team's program
in any language does. It shouts, takes its time, and at SIGTERM finishes its job and leaves."""

import hashlib
import os
import select
import signal
import socket
import ssl
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
    kind, size = struct.unpack(">4xII", receive_exactly(connection, 12))
    return kind, receive_exactly(connection, size)


def receive_exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            sys.exit("the job server is gone")
        data += part
    return data


def connect(server: str) -> socket.socket:
    scheme, _, place = server.rpartition("//")
    host, _, port = place.rpartition(":")
    connection = socket.create_connection((host, int(port)))
    if not scheme:
        if "TLS_ALONE" in os.environ:
            sys.exit("the job server does not speak TLS")
        return connection
    context = ssl.create_default_context(cafile=os.environ["GEARMAND_CA_CERTIFICATE"])
    context.load_cert_chain(os.environ["GEARMAN_CLIENT_PEM"], os.environ["GEARMAN_CLIENT_KEY"])
    return context.wrap_socket(connection, server_hostname=host)


def seal_of(folder: str) -> bytes:
    """What shows which secret it has, and not what it is."""
    if not folder:
        return b""
    with open(f"{folder}/KEY", "rb") as file:
        return hashlib.sha256(file.read()).hexdigest().encode()


def main(function: str) -> None:
    signal.signal(signal.SIGTERM, leave)
    seal = seal_of(os.environ.get("CREDENTIALS_DIRECTORY", ""))
    connection = connect(os.environ["GEARMAN_SERVERS"])
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
            while not (leaving or select.select([connection], [], [], 0.2)[0]):
                pass


if __name__ == "__main__":
    main(sys.argv[1])
