"""The table of Gearman packet types. No other module has the number of a packet.

It follows PROTOCOL in the gearmand distribution, corrected where the C server 1.1.20 differs from
it (SUBMIT_REDUCE_JOB has four arguments before its workload, and STATUS_RES_UNIQUE begins with the
unique). Packets from 100 on are our own; peers are sent none that they have not asked for.
"""

from enum import IntEnum


class Packet(IntEnum):
    """A packet type: its number, who may send it, the names of its arguments.

    ``senders`` is letters: C client, W worker, S server. Arguments are separated by a NUL; only
    the last one, which ends with the packet, may contain NULs.
    """

    senders: str
    arguments: tuple[str, ...]

    # senders has a default so that the look-up Packet(number) type-checks.
    def __new__(cls, number: int, senders: str = "", *arguments: str) -> "Packet":
        packet = int.__new__(cls, number)
        packet._value_ = number
        packet.senders = senders
        packet.arguments = arguments
        return packet

    CAN_DO = 1, "W", "function"
    CANT_DO = 2, "W", "function"
    RESET_ABILITIES = 3, "W"
    PRE_SLEEP = 4, "W"
    NOOP = 6, "S"
    SUBMIT_JOB = 7, "C", "function", "unique", "workload"
    JOB_CREATED = 8, "S", "handle"
    GRAB_JOB = 9, "W"
    NO_JOB = 10, "S"
    JOB_ASSIGN = 11, "S", "handle", "function", "workload"
    WORK_STATUS = 12, "WS", "handle", "numerator", "denominator"
    WORK_COMPLETE = 13, "WS", "handle", "workload"
    WORK_FAIL = 14, "WS", "handle"
    GET_STATUS = 15, "C", "handle"
    ECHO_REQ = 16, "CW", "data"
    ECHO_RES = 17, "S", "data"
    SUBMIT_JOB_BG = 18, "C", "function", "unique", "workload"
    ERROR = 19, "S", "code", "text"
    STATUS_RES = 20, "S", "handle", "known", "running", "numerator", "denominator"
    SUBMIT_JOB_HIGH = 21, "C", "function", "unique", "workload"
    SET_CLIENT_ID = 22, "W", "id"
    CAN_DO_TIMEOUT = 23, "W", "function", "milliseconds"
    ALL_YOURS = 24, "W"
    WORK_EXCEPTION = 25, "WS", "handle", "workload"
    OPTION_REQ = 26, "CW", "option"
    OPTION_RES = 27, "S", "option"
    WORK_DATA = 28, "WS", "handle", "workload"
    WORK_WARNING = 29, "WS", "handle", "workload"
    GRAB_JOB_UNIQ = 30, "W"
    JOB_ASSIGN_UNIQ = 31, "S", "handle", "function", "unique", "workload"
    SUBMIT_JOB_HIGH_BG = 32, "C", "function", "unique", "workload"
    SUBMIT_JOB_LOW = 33, "C", "function", "unique", "workload"
    SUBMIT_JOB_LOW_BG = 34, "C", "function", "unique", "workload"
    SUBMIT_JOB_SCHED = (
        *(35, "C", "function", "unique"),
        *("minute", "hour", "day", "month", "weekday", "workload"),
    )
    SUBMIT_JOB_EPOCH = 36, "C", "function", "unique", "epoch", "workload"
    SUBMIT_REDUCE_JOB = 37, "C", "function", "unique", "reducer", "aggregator", "workload"
    SUBMIT_REDUCE_JOB_BACKGROUND = (
        *(38, "C", "function", "unique"),
        *("reducer", "aggregator", "workload"),
    )
    GRAB_JOB_ALL = 39, "W"
    JOB_ASSIGN_ALL = 40, "S", "handle", "function", "unique", "reducer", "workload"
    GET_STATUS_UNIQUE = 41, "C", "unique"
    STATUS_RES_UNIQUE = (
        *(42, "S", "unique", "known", "running"),
        *("numerator", "denominator", "clients"),
    )
    JOB_ATTEMPT = 100, "S", "handle", "attempt"
    WORK_RETRY = 101, "WS", "handle", "delay", "reason"
    GET_RESULT = 102, "C", "handle"
    JOB_FOUND = 103, "S", "handle", "ended", "function"


# Those that every job needs: to look a number up in the enumeration takes as long as to write the
# packet.
JOB_CREATED, JOB_ASSIGN, JOB_ASSIGN_UNIQ, WORK_COMPLETE = (
    int(each)
    for each in (
        Packet.JOB_CREATED,
        Packet.JOB_ASSIGN,
        Packet.JOB_ASSIGN_UNIQ,
        Packet.WORK_COMPLETE,
    )
)

# What decoders yield besides packets: a line of text, and invalid input.
TEXT = 0
FAULT = -1
TEXT_FAULT = -2
OVERSIZED = -3

HIGHEST = max(Packet)
MESSAGE_NUMBERS = HIGHEST + 1 - OVERSIZED  # of a list by message number, from OVERSIZED to HIGHEST
# The number of arguments by packet number. None: unknown packet. 5 was never assigned, but servers
# refuse it like a packet that is not for them, not as broken framing.
ARGUMENT_COUNT: list[int | None] = [None] * (HIGHEST + 1)
ARGUMENT_COUNT[5] = 0
for _packet in Packet:
    ARGUMENT_COUNT[_packet] = len(_packet.arguments)

# Reports of a worker about its job, which are not answered.
WORKER_REPORTS = frozenset(packet for packet in Packet if packet.senders == "WS")
# What a worker says about the job in the first argument.
OF_RUNNING_JOB = frozenset(
    packet
    for packet in Packet
    if "W" in packet.senders and packet.arguments[:1] == ("handle",) and packet.arguments[1:]
)
# Packets about the job in their first argument that may be of any size.
OF_ONE_JOB = OF_RUNNING_JOB | {
    packet
    for packet in Packet
    if packet.arguments[:1] == ("handle",) and packet.arguments[-1] == "workload"
}
# Perl's Gearman::Worker omits the NUL before an empty (or false: "0") result.
WORKLOAD_MAY_LACK = frozenset(
    packet for packet in WORKER_REPORTS if packet.arguments[-1] == "workload"
)
