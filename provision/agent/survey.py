"""What else a host can tell, to those who ask why something does not work.

Like probe.py, it changes nothing on the host: it reads, runs commands that only look, connects to
job servers to ask them how they are, and has `gearmand --check-queue` try their database. Its
questions are written in provision/remote/questions.py.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import time
from typing import Any

from provision.agent.job_servers import TLS, wrap_tls
from provision.agent.link import CHUNK_SIZE, COMMANDS, FrameLink
from provision.agent.probe import Batch
from provision.agent.queue_check import unit_command
from provision.agent.system import QueryFailed, run_query
from provision.agent.text_answer import ends_listing

CONNECT_TIMEOUT = 3.0  # seconds
ANSWER_TIMEOUT = 3.0
ANSWER_LIMIT = 1 << 24  # bytes of an answer: some 100,000 functions
QUEUE_TIMEOUT = 12.0  # seconds for a database to answer; less than a query may take
LINES, LINE = 1000, 2000  # the last of what a unit said, and characters of each
# The bounds of provision/remote/answers.py: whoever connects to a job server chooses its names, and
# how many there are.
NAME_LIMIT = 4096  # characters
FUNCTIONS_LIMIT = 5_000  # of one connection
LARGEST = 1e11  # a number that a job server tells
UNKNOWN_COMMAND = b"ERR UNKNOWN_COMMAND"
OOM = "fe6faa94e7774663a0da52717891d8ef"  # systemd's id of: the OOM killer was here
FIREWALLS = ((["nft", "list", "ruleset"], "nf_tables"), (["iptables", "-S"], "ip_tables"))
DROPS = re.compile(r"\b(?:drop|reject|DROP|REJECT)\b")
ERRORS = {
    errno.ECONNREFUSED: "refused",
    errno.EHOSTUNREACH: "no way",
    errno.ENETUNREACH: "no way",
    errno.EINVAL: "no way",  # a blackhole route
    errno.EACCES: "no way",  # a prohibited one
    errno.EPERM: "forbidden",  # by this host's own firewall
}


class Survey(Batch):
    """A batch that knows more questions."""

    def ask_clock(self) -> Any:
        return time.time()

    def ask_space(self, path: str) -> Any:
        while not os.path.exists(path):
            path = os.path.dirname(path)
        found = os.statvfs(path)
        return {
            "size": found.f_blocks * found.f_frsize,
            "free": found.f_bavail * found.f_frsize,
            "inodes": found.f_favail if found.f_files else None,
            "readonly": bool(found.f_flag & os.ST_RDONLY),
            "device": os.stat(path).st_dev,
        }

    def ask_oom(self, since: str) -> Any:
        only = ["--output=json", "--output-fields=UNIT", f"--since={since}", f"MESSAGE_ID={OOM}"]
        said = run_query(["journalctl", "--no-pager", *only])
        entries = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        return sorted({str(entry.get("UNIT", "?")) for entry in entries})

    def ask_lines(self, unit: str, number: str) -> Any:
        show = ["journalctl", "--quiet", "--no-pager", "--output=cat", f"--lines={number}"]
        # systemd tells each restart, which would leave no line of why the program ended.
        errors = [f"UNIT={unit}", *(f"PRIORITY={level}" for level in range(4))]
        own = last_lines(run_query([*show, f"_SYSTEMD_UNIT={unit}", "+", *errors]))
        return own or last_lines(run_query([*show, f"--unit={unit}"]))

    def ask_said(self, unit: str, number: str) -> Any:
        show = ["systemctl", "show", "--property=InvocationID", "--value", "--", unit]
        if not (run := run_query(show).strip()):
            return []
        only = ["--no-pager", "--output=cat", f"--lines={number}"]
        by_whom = [f"_SYSTEMD_INVOCATION_ID={run}", "+", f"INVOCATION_ID={run}"]
        return last_lines(run_query(["journalctl", "--quiet", *only, *by_whom]))

    def ask_firewall(self) -> Any:
        found = []
        for argv, module in FIREWALLS:
            # To ask one that is not in use would bring its module into the kernel.
            if not os.path.exists(f"/sys/module/{module}"):
                continue
            try:
                said = run_query(argv)
            except OSError:
                continue
            found += [line.strip() for line in said.splitlines() if DROPS.search(line)]
        return found

    def ask_queue_check(self, properties: str, *command: str) -> Any:
        lines = properties.splitlines()
        try:
            said = run_query(unit_command(list(command), lines, QUEUE_TIMEOUT))
        except QueryFailed as error:
            return {"problem": error.said or f"no answer in {QUEUE_TIMEOUT:.0f} s", "facts": []}
        return {"problem": None, "facts": said.splitlines()}

    def ask_server(self, host: str, port: str) -> Any:
        start = time.monotonic()
        name = host[len(TLS) :] if host.startswith(TLS) else host
        try:
            connection = socket.create_connection((name, int(port)), CONNECT_TIMEOUT)
        except (socket.gaierror, UnicodeError) as error:
            return {"problem": "no name", "detail": str(error)}
        except socket.timeout:  # noqa: UP041  # before Python 3.10 it was no TimeoutError
            return {"problem": "silent", "detail": f"no answer in {CONNECT_TIMEOUT:.0f} s"}
        except OSError as error:
            problem = ERRORS.get(error.errno or 0, "no way")
            detail = "" if problem == "refused" else error.strerror or str(error)
            return {"problem": problem, "detail": detail}
        seconds = time.monotonic() - start
        try:
            if name != host:
                connection = wrap_tls(connection, name)
            with connection:
                return {"problem": None, "seconds": seconds, **_query_server(connection)}
        except FileNotFoundError:  # of TLS, which is yet to be deployed
            return {"problem": "no certificate", "detail": ""}
        except (OSError, ValueError) as error:
            detail = str(error) or type(error).__name__
            return {"problem": "no answer", "detail": detail[:NAME_LIMIT]}


def last_lines(said: str) -> list[str]:
    """What a unit said, which may be anything: only a line feed ends a line."""
    lines = said.removesuffix("\n").split("\n") if said else []
    return [line[:LINE] for line in lines[-LINES:]]


def _query_server(connection: socket.socket) -> Any:
    """What a job server says of itself: its version, its functions, and who serves them."""
    connection.settimeout(ANSWER_TIMEOUT)
    version, *rows = _ask_lines(connection, b"version\nstatus\n")
    parted = (row.rsplit("\t", 3) for row in rows if row.count("\t") >= 3)
    functions = {}
    for name, *counts in parted:
        all_, running, able = (int(_parse_number(each)) for each in counts)
        functions[name] = {"queued": all_ - running, "running": running, "workers": able}
    lines = _ask_lines(connection, b"workers\n")
    ages = dict(map(_parse_age, _ask_lines(connection, b"connections\n")))  # none from C
    workers = [_parse_worker(line, ages) for line in lines if " : " in line]
    told = (line.partition("\t") for line in _ask_lines(connection, b"server\n"))
    facts = {key: value for key, _, value in told}  # none from a C gearmand
    return {
        "version": version.removeprefix("OK ")[:NAME_LIMIT],
        "functions": functions,
        "registered": [each for each in workers if each["functions"]],
        "refuses": facts.get("refuses", "")[:NAME_LIMIT],
        "moving": facts.get("moving") == "1",
        "paused": facts.get("paused") == "1",
        "pauses": _ask_pauses(connection, facts),
    }


def _ask_pauses(connection: socket.socket, facts: dict[str, str]) -> list[dict[str, Any]]:
    """What is paused, since when and by whom; the server itself with the name "" of a function."""
    rows = [tuple(line.rsplit("\t", 2)) for line in _ask_lines(connection, b"pauses\n")]
    if "paused_since" in facts:
        rows.append(("", facts["paused_since"], facts["paused_by"]))
    return [
        {"function": name, "since": max(_parse_number(since), 0.0), "by": by[:NAME_LIMIT]}
        for name, since, by in rows
    ]


def _parse_number(text: str) -> float:
    number = float(text)
    if not abs(number) < LARGEST:  # as neither is one that is none
        raise ValueError(f"it tells {text[:100]} as a number")
    return number


def _parse_age(line: str) -> tuple[tuple[str, ...], float]:
    """A connection's number, address and client id, and how long it has been open in seconds.

    The number alone is not enough: after a reload two connections may have the same.
    """
    number, *pairs = line.split("\t")
    facts = dict(pair.split("=", 1) for pair in pairs)
    return (number, facts["address"], facts["client_id"]), _parse_number(facts["seconds"])


def _parse_worker(line: str, ages: dict[tuple[str, ...], float]) -> dict[str, Any]:
    """`FD ADDRESS ID : FUNCTION ...`."""
    head, _, functions = line.partition(" : ")
    number, _, named = head.partition(" ")
    address, _, client = named.partition(" ")
    served = functions.split()
    seconds = ages.get((number, address, client))
    return {
        "address": address[:NAME_LIMIT],
        "client": client[:NAME_LIMIT],
        "functions": [each[:NAME_LIMIT] for each in served[:FUNCTIONS_LIMIT]],
        "more": max(len(served) - FUNCTIONS_LIMIT, 0),
        "seconds": seconds,
    }


def _ask_lines(connection: socket.socket, question: bytes) -> list[str]:
    """The lines of an answer that ends with a line of one dot; none if the question is unknown."""
    connection.sendall(question)
    said, end = b"", time.monotonic() + ANSWER_TIMEOUT
    while not ends_listing(said):
        piece = connection.recv(CHUNK_SIZE)
        if not piece:
            raise ValueError("it hung up")
        said += piece
        if said.startswith(UNKNOWN_COMMAND) and said.endswith(b"\n"):
            return []
        if time.monotonic() > end or len(said) > ANSWER_LIMIT:
            raise ValueError("the answer is too long")
    return said.decode(errors="backslashreplace").splitlines()[:-1]


def answer_survey(link: FrameLink, header: dict[str, Any], size: int) -> None:
    questions = [tuple(question) for question in header["questions"]]
    batch = Survey(questions)
    link.send({"answers": [batch.answer(question) for question in questions]})


COMMANDS["ask"] = answer_survey
