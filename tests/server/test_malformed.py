"""What no well-behaved peer sends, one by one: each is answered or closed, and hurts nobody else.

A row is what is sent on a fresh connection and what must come of it. A bystander has a job done
after each. An ECHO_REQ behind what is sent tells whether the connection lives on.
"""

import random
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from gearman_py.protocol.codec import MAX_PACKET, RESPONSE, Decoder, request, response
from gearman_py.protocol.packets import Packet
from tests.job_servers import Address, GearmandProcess
from tests.peer import Peer
from tests.tally import tally

Connect = Callable[..., Peer]
Start = Callable[..., GearmandProcess]

ECHO = request(Packet.ECHO_REQ, b"alive?")
ALIVE = response(Packet.ECHO_RES, b"alive?")
SECONDS = 1.0  # within which a bad message is answered or closed


@dataclass(frozen=True)
class Outcome:
    """What comes: ``answer`` (how it begins), and whether the connection lives on."""

    answer: bytes
    lives: bool = True

    def matches(self, heard: bytes, lives: bool) -> bool:
        return (
            heard.startswith(self.answer)
            and bool(heard) == bool(self.answer)
            and lives == self.lives
        )


def error(code: bytes, *, lives: bool = True) -> Outcome:
    return Outcome(b"ERROR " + code + b":", lives)


def says(kind: Packet, start: bytes | None = None) -> Outcome:
    """A packet, and how its first argument begins."""
    return Outcome(kind.name.encode() + (b"" if start is None else b" " + start))


def text(answer: bytes, *, lives: bool = True) -> Outcome:
    return Outcome(answer, lives)


NOTHING = Outcome(b"")
CLOSED = Outcome(b"", lives=False)
REFUSED = error(b"INVALID_COMMAND")
NOT_FOUND = error(b"JOB_NOT_FOUND")
BROKEN = error(b"INVALID_PACKET", lives=False)
TOO_LARGE = error(b"ARGUMENT_TOO_LARGE")
Row = tuple[str, bytes, Outcome]


def packet(
    number: int, body: bytes = b"", *, magic: bytes = b"\0REQ", size: int | None = None
) -> bytes:
    length = len(body) if size is None else size
    return magic + number.to_bytes(4, "big") + length.to_bytes(4, "big") + body


def headers() -> Iterator[Row]:
    for magic in (b"\0XYZ", b"\0RE\0", b"\0\0\0\0", b"\0req", b"\0QER", b"\0REq", b"\0RE\xff"):
        yield (
            f"magic {magic!r}",
            packet(16, b"x", magic=magic),
            error(b"INVALID_MAGIC", lives=False),
        )
    for number in (0, 7, 16, 17, 99):
        yield f"RES {number}", packet(number, b"x", magic=b"\0RES"), error(b"INVALID_MAGIC")
    for number in (0, 43, 44, 255, 256, 65535, 2**24, 2**31 - 1, 2**31, 2**31 + 7, 2**32 - 1):
        yield f"type {number}", packet(number), BROKEN
    for kind in (Packet.ECHO_REQ, Packet.SUBMIT_JOB, Packet.WORK_FAIL, Packet.GRAB_JOB):
        for size in (MAX_PACKET + 1, 2**31 - 1, 2**31, 2**32 - 1):
            large = error(b"ARGUMENT_TOO_LARGE", lives=False)
            yield f"{kind.name} of {size}", packet(kind, b"abc", size=size), large
    yield "100,000 zeros", bytes(100_000), error(b"INVALID_MAGIC", lives=False)


def not_for_servers() -> Iterator[Row]:
    yield "type 5", packet(5), REFUSED
    for kind in Packet:
        if "S" in kind.senders and not kind.senders.strip("S"):
            body = b"\0".join([b"x"] * len(kind.arguments))
            yield f"{kind.name} to a server", packet(kind, body), REFUSED
    yield "ALL_YOURS", packet(Packet.ALL_YOURS), REFUSED
    yield (
        "SUBMIT_JOB_SCHED in minute 60",
        packet(Packet.SUBMIT_JOB_SCHED, b"f\0u\00060\0002\0003\0004\0005\0w"),
        error(b"INVALID_ARGUMENT"),
    )
    yield (
        "SUBMIT_JOB_SCHED on the seventh weekday, counted from 0",
        packet(Packet.SUBMIT_JOB_SCHED, b"f\0u\0" + b"0\0" * 4 + b"7\0w"),
        error(b"INVALID_ARGUMENT"),
    )


def missing_arguments() -> Iterator[Row]:
    may_end_early = {
        Packet.WORK_DATA,
        Packet.WORK_WARNING,
        Packet.WORK_COMPLETE,
        Packet.WORK_EXCEPTION,
    }
    for kind in Packet:
        if len(kind.arguments) < 2 or not set("CW") & set(kind.senders):
            continue
        expected = NOT_FOUND if kind in may_end_early else BROKEN
        yield f"{kind.name} of nothing", packet(kind), expected
        yield f"{kind.name} without NULs", packet(kind, b"abc"), expected
        if len(kind.arguments) > 2:
            short = b"\0".join([b"x"] * (len(kind.arguments) - 1))
            yield f"{kind.name} lacks one", packet(kind, short), BROKEN
    yield "junk on GRAB_JOB", packet(Packet.GRAB_JOB, b"junk\0junk"), says(Packet.NO_JOB)
    yield "junk on PRE_SLEEP", packet(Packet.PRE_SLEEP, b"junk"), NOTHING
    yield "junk on RESET_ABILITIES", packet(Packet.RESET_ABILITIES, b"junk"), NOTHING


def long_arguments() -> Iterator[Row]:
    created = says(Packet.JOB_CREATED, b"H:")
    for size, expected in ((0, created), (8192, created), (8193, TOO_LARGE), (10**6, TOO_LARGE)):
        body = b"n" * size + b"\0\0w"
        yield f"function of {size}", packet(Packet.SUBMIT_JOB, body), expected
    for size, expected in ((64, created), (65, TOO_LARGE), (10**6, TOO_LARGE)):
        body = b"f\0" + b"u" * size + b"\0w"
        yield f"unique of {size}", packet(Packet.SUBMIT_JOB, body), expected
        reduce = b"f\0" + b"u" * size + b"\0r\0\0w"
        yield f"unique of {size} to reduce", packet(Packet.SUBMIT_REDUCE_JOB, reduce), expected
        reduce = b"f\0\0" + b"r" * size + b"\0\0w"
        yield f"reducer of {size}", packet(Packet.SUBMIT_REDUCE_JOB, reduce), expected
    for size, answer in ((8192, NOTHING), (8193, TOO_LARGE)):
        yield f"CAN_DO of {size}", packet(Packet.CAN_DO, b"n" * size), answer
        timeout = packet(Packet.CAN_DO_TIMEOUT, b"n" * size + b"\x001")
        yield f"CAN_DO_TIMEOUT of {size}", timeout, answer
        yield f"CANT_DO of {size}", packet(Packet.CANT_DO, b"n" * size), NOTHING
    yield "client id of 1 MB", packet(Packet.SET_CLIENT_ID, b"i" * 10**6), NOTHING
    unknown = error(b"UNKNOWN_OPTION")
    for option in (b"", b"no such", b"exceptionsx", b"o" * 64, b"o" * 10**6):
        yield f"option {option[:12]!r} {len(option)}", packet(Packet.OPTION_REQ, option), unknown
    for handle in (
        b"",
        b"H:",
        b"H:vm:1",
        b"h" * 64,
        b"h" * 100,
        b"h" * 10**6,
        b"H:vm:" + b"9" * 40,
    ):
        status = says(Packet.STATUS_RES, handle[:20])
        yield f"status of {handle[:9]!r} {len(handle)}", packet(Packet.GET_STATUS, handle), status
        by_unique = says(Packet.STATUS_RES_UNIQUE, handle[:20])
        name = f"status of unique {handle[:9]!r} {len(handle)}"
        yield name, packet(Packet.GET_STATUS_UNIQUE, handle), by_unique


def numbers() -> Iterator[Row]:
    created, refused = says(Packet.JOB_CREATED, b"H:"), error(b"INVALID_ARGUMENT")
    for epoch, expected in (
        *((each, created) for each in (b"", b"0", b"-5", b"notnum", b"1x", b" 7", b"0x10")),
        *((each, refused) for each in (b"9" * 19, b"9" * 20, b"9" * 40, b"9" * 10**5)),
    ):
        body = b"f\0\0" + epoch + b"\0w"
        yield f"epoch {epoch[:9]!r} {len(epoch)}", packet(Packet.SUBMIT_JOB_EPOCH, body), expected
    for limit in (
        b"",
        b"abc",
        b"-1",
        b"1.5",
        b"9" * 19,
        b"9" * 20,
        b"9" * 21,
        b"9" * 10**5,
        b"\xff",
    ):
        body = b"f\0" + limit
        yield f"time limit {limit[:9]!r} {len(limit)}", packet(Packet.CAN_DO_TIMEOUT, body), NOTHING


def strangers() -> Iterator[Row]:
    for kind in (
        Packet.WORK_DATA,
        Packet.WORK_WARNING,
        Packet.WORK_COMPLETE,
        Packet.WORK_EXCEPTION,
    ):
        for handle in (b"", b"H:vm:1", b"h" * 64, b"h" * 10**5):
            yield (
                f"{kind.name} for {handle[:9]!r} {len(handle)}",
                packet(kind, handle + b"\0x"),
                NOT_FOUND,
            )
    for handle in (b"", b"\0", b"H:vm:1", b"h" * 64, b"h" * 10**5):
        yield (
            f"WORK_FAIL for {handle[:9]!r} {len(handle)}",
            packet(Packet.WORK_FAIL, handle),
            NOT_FOUND,
        )
        status = packet(Packet.WORK_STATUS, handle.rstrip(b"\0") + b"\x001\x002")
        yield f"WORK_STATUS for {handle[:9]!r} {len(handle)}", status, NOT_FOUND
    long = packet(Packet.WORK_STATUS, b"H:vm:1\x001\0" + b"9" * 10**4)
    yield "WORK_STATUS with a long denominator", long, NOT_FOUND


def lines() -> Iterator[Row]:
    unknown = b"ERR UNKNOWN_COMMAND Unknown+server+command"
    incomplete = b"ERR INVALID_ARGUMENTS An+incomplete+set+of+arguments+was+sent+to+this+command+"
    for line in (
        *(b"\r\n", b"\n", b" \r\n", b" status\r\n", b"shutdown\r\n", b"shutdown graceful\r\n"),
        *(
            b"help\r\n",
            b"quit\r\n",
            b"status\tx\r\n",
            b"\tstatus\r\n",
            b"stat\0us\r\n",
            b"%n%s\r\n",
        ),
        *(b"\xff\xfe\r\n", b"\x1b[2J\r\n", "größe\r\n".encode(), b"x" * 8000 + b"\r\n"),
        *(b"cancel\r\n", b"cancel job\r\n", b"show\r\n"),
        *(b"HEAD / HTTP\r\n", b"SSH-2.0-OpenSSH_9.2p1\r\n", b"<?xml version='1.0'?>\r\n"),
    ):
        yield f"line {line[:20]!r}", line, text(unknown)
    for line in (
        *(b"maxqueue\r\n", b"create\r\n", b"create function\r\n", b"create function \n"),
        *(b"create function a b\r\n", b"create f\r\n", b"create function \r\n", b"drop\r\n"),
        *(b"drop function\r\n", b"drop job x\r\n", b"drop function a b\r\n"),
    ):
        yield f"line {line!r}", line, text(incomplete)
    for line, answer in (
        (b"drop function no-such\r\n", b"ERR function not found\r\n"),
        (b"cancel job H:vm:0\r\n", b"ERR UNKNOWN_JOB\r\n"),
        (b"cancel job " + b"h" * 5000 + b"\r\n", b"ERR UNKNOWN_JOB\r\n"),
        (b"cancel job a b\r\n", b"ERR UNKNOWN_ERROR\r\n"),
        (b"show no such\r\n", b"ERR UNKNOWN_SHOW_ARGUMENTS\r\n"),
        (b"show jobs x\r\n", b"ERR UNKNOWN_SHOW_ARGUMENTS\r\n"),
        (b"maxqueue f " + b"9" * 5000 + b"\r\n", b"OK\r\n"),
        (b"maxqueue f -1 x \xff\r\n", b"OK\r\n"),
        (b"a b c d e f g h i j k\r\n", unknown),
        (b"version" + b" x" * 2000 + b"\r\n", b"OK "),
        (b"VERSION\r\n", b"OK "),
        (b"version   \r\n", b"OK "),
    ):
        yield f"line {line[:20]!r} {len(line)}", line, text(answer)
    too_long = text(b"ERR LINE_TOO_LONG", lives=False)
    yield "a line of 9,000", b"x" * 9000, too_long
    yield "a line of 9,000 with an end", b"x" * 9000 + b"\r\n", too_long
    yield "lines parted by CR", b"version\r" * 2000, too_long
    seed = 20261123
    dice = random.Random(seed)  # noqa: S311 - noise, not a secret
    noise = bytes(dice.choices(range(1, 256), k=60_000)) + b"\n"
    yield f"noise of seed {seed}", noise, text(b"ERR ")


def other_protocols() -> Iterator[Row]:
    unknown = text(b"ERR UNKNOWN_COMMAND")
    yield "HTTP", b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n", text(b"ERR HTTP_REQUEST", lives=False)
    yield "SMTP", b"EHLO x\r\n", unknown
    yield "redis", b"*1\r\n$4\r\nPING\r\n", unknown
    yield "memcached", b"set a 0 0 1\r\nx\r\n", unknown


def cut_off() -> Iterator[Row]:
    """Sent, then the writing side is closed: it never becomes whole."""
    for length in range(1, 12):
        yield f"{length} bytes of a header", ECHO[:length], CLOSED
    for kind in (Packet.SUBMIT_JOB, Packet.CAN_DO, Packet.WORK_COMPLETE, Packet.ECHO_REQ):
        yield f"half of {kind.name}", packet(kind, b"f\0u\0", size=1000), CLOSED
    yield "half a line", b"stat", CLOSED
    yield "TLS hello", bytes.fromhex("16030102000100"), CLOSED
    yield "SSH banner", b"SSH-2.0-x", CLOSED
    yield "nothing at all", b"", CLOSED


ROWS = [
    row
    for group in (
        *(headers, not_for_servers, missing_arguments, long_arguments, numbers, strangers, lines),
        other_protocols,
    )
    for row in group()
]
CUT = list(cut_off())


class Bystanders:
    """A client and a worker that have a job done whenever they are asked whether they can."""

    def __init__(self, connect: Connect, address: Address) -> None:
        self.client, self.worker = connect(address), connect(address)
        self.worker.say(Packet.CAN_DO, b"bystander")
        self.worker.say(Packet.PRE_SLEEP)

    def work(self) -> None:
        created, handle = self.client.ask(Packet.SUBMIT_JOB, b"bystander", b"", b"w")
        assert created == "JOB_CREATED"
        assert self.worker.hear() == ("NOOP",)
        assert self.worker.ask(Packet.GRAB_JOB) == ("JOB_ASSIGN", handle, b"bystander", b"w")
        self.worker.say(Packet.WORK_COMPLETE, handle, b"r")
        self.worker.say(Packet.PRE_SLEEP)
        assert self.client.hear() == ("WORK_COMPLETE", handle, b"r")


def play(address: Address, sent: bytes, *, cut: bool) -> tuple[bytes, bool]:
    """Send a row, ending the writing side if ``cut``; what came, and whether it lives on."""
    with socket.create_connection(address, SECONDS) as connection:
        connection.settimeout(SECONDS)
        heard = b""
        try:
            connection.sendall(sent)
            if cut:
                connection.shutdown(socket.SHUT_WR)
            else:
                connection.sendall(ECHO)
            while not heard.endswith(ALIVE) and (data := connection.recv(2**16)):
                heard += data
        except (ConnectionResetError, BrokenPipeError):
            pass  # closed while more was on its way
    lives = heard.endswith(ALIVE)
    return told(heard.removesuffix(ALIVE)), lives


def told(heard: bytes) -> bytes:
    """Packets as `NAME argument argument`, errors as `ERROR code: text`; text as it is."""
    if not heard.startswith(b"\0"):
        return heard
    number, arguments = Decoder(RESPONSE, max_packet=2**31).feed(heard)[0]
    if number == Packet.ERROR:
        return b"ERROR %b: %b" % tuple(arguments)
    return b" ".join((Packet(number).name.encode(), *arguments))


def test_the_table_is_as_long_as_it_should_be() -> None:
    assert len(ROWS) + len(CUT) >= 200
    assert len({name for name, *_ in ROWS + CUT}) == len(ROWS) + len(CUT)


@pytest.mark.slow
def test_every_bad_message_is_answered_or_closed_and_nobody_else_notices(
    start: Start, connect: Connect
) -> None:
    server = start()
    address = server.listening()
    bystanders = Bystanders(connect, address)
    wrong = []
    for row in ROWS + CUT:
        name, sent, expected = row
        heard, lives = play(address, sent, cut=row in CUT)
        if not expected.matches(heard, lives):
            wrong.append((name, heard[:100], lives))
        bystanders.work()
    assert wrong == []
    assert "Traceback" not in server.log
    assert server.end() == 0
    tally("messages", messages=len(ROWS + CUT), unanswered=0, noticed_by_others=0)


def test_names_forge_no_rows_and_no_lines(start: Start, connect: Connect) -> None:
    names = [b"a\nb", b"\x1b[2J", b"tab\there", b"\x7f\r\n.\r\n", b"\xff\xfe"]
    server = start("-vv")
    peer = connect(server.listening())
    for name in names:
        peer.say(Packet.SET_CLIENT_ID, name)
        peer.say(Packet.CAN_DO, name)
        peer.ask(Packet.SUBMIT_JOB_BG, name, name, name)
    for command in ("status", "prioritystatus", "show jobs", "show unique jobs"):
        assert len(peer.command(command).splitlines()) == len(names) + 1, command
    assert len(peer.command("workers").splitlines()) == 2
    said = peer.command("status") + peer.command("workers") + server.log.encode()
    assert b"\x1b" not in said


@pytest.mark.parametrize(
    "packet",
    [each for each in Packet if each.name.startswith("WORK_") and each != Packet.WORK_FAIL],
)
def test_a_report_over_the_limit_fails_its_job_alone(
    start: Callable[..., GearmandProcess], connect: Callable[..., Peer], packet: Packet
) -> None:
    server = start("--max-packet", "1000000")
    address = server.listening()
    client, curious, worker = connect(address), connect(address), connect(address)
    assert curious.ask(Packet.OPTION_REQ, b"exceptions")[0] == "OPTION_RES"
    worker.say(Packet.CAN_DO, b"f")
    _, first = client.ask(Packet.SUBMIT_JOB, b"f", b"u", b"")
    assert curious.ask(Packet.SUBMIT_JOB, b"f", b"u", b"") == ("JOB_CREATED", first)
    _, second = client.ask(Packet.SUBMIT_JOB, b"f", b"", b"")
    assert [worker.ask(Packet.GRAB_JOB)[1] for _ in range(2)] == [first, second]
    worker.say(packet, first, b"x" * 1_500_000)
    assert client.hear() == ("WORK_FAIL", first)
    size = len(first) + 1 + 1_500_000
    why = b"a packet of %d bytes is over the limit of 1000000" % size
    assert curious.hear() == ("WORK_EXCEPTION", first, why)
    worker.say(Packet.WORK_COMPLETE, second, b"r")
    assert client.hear() == ("WORK_COMPLETE", second, b"r")
    assert worker.ask(Packet.GRAB_JOB) == ("NO_JOB",)
    assert f"job {first.decode()} is too large; the job fails: a packet of" in server.log
