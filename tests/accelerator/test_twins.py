"""The functions in C do what those in Python do, lose no memory, and survive having none."""

import gc
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gearman_py.protocol import framing
from gearman_py.protocol.framing import LARGE, REQUEST, RESPONSE, SMALL, Message, request
from gearman_py.protocol.packets import ARGUMENT_COUNT, HIGHEST, Packet
from tests.properties import depth

BASE = int.from_bytes(REQUEST) << 32
ANY_SIZE = 2**32

words = st.sampled_from([b"", b"f", b"\0", b"a\0b", b"x" * 40]) | st.binary(max_size=8)
numbers = st.integers(0, HIGHEST + 2) | st.sampled_from([255, 256, 2**31, 2**32 - 1])
sizes = st.integers(0, 40) | st.sampled_from([2**31 - 1, 2**31, 2**32 - 1])


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """A header, and a body that it may be true of."""
    magic = draw(st.sampled_from([REQUEST] * 4 + [RESPONSE, b"\0REX", b"\xffREQ"]))
    number, body = draw(numbers), draw(st.binary(max_size=30))
    size = draw(st.just(len(body)) | sizes)
    return magic + number.to_bytes(4, "big") + size.to_bytes(4, "big") + body


@st.composite
def packets(draw: st.DrawFn) -> bytes:
    packet = draw(st.sampled_from(Packet))
    return request(packet, *(draw(words) for _ in packet.arguments))


streams = st.lists(packets() | packets() | headers() | st.binary(max_size=13)).map(b"".join)


def split(split_packets: Callable[..., int], *given: Any) -> tuple[int, list[Message]]:
    messages: list[Message] = []
    return split_packets(*given, messages), messages


@settings(max_examples=depth(400))
@given(data=streams, cut=st.integers(0, 60), start=st.integers(0, 80), room=st.integers(-5, 200))
def test_any_stream_is_split_alike(
    native: Any, data: bytes, cut: int, start: int, room: int
) -> None:
    data = data[: len(data) - cut]
    for limit, most in ((len(data), ANY_SIZE), (room, ANY_SIZE), (len(data), room)):
        facts = data, start, limit, BASE, most
        assert split(native.split_packets, *facts) == split(framing.split_packets, *facts)


def test_each_number_is_split_alike(native: Any) -> None:
    for number in range(300):
        data = REQUEST + number.to_bytes(4, "big") + b"\0\0\0\x08a\0b\0c\0d\0"
        facts = data, 0, len(data), BASE, ANY_SIZE
        assert split(native.split_packets, *facts) == split(framing.split_packets, *facts)


@pytest.mark.parametrize("size", [SMALL - 3, SMALL, LARGE, 3 * LARGE])
def test_large_workloads_are_split_alike(native: Any, size: int) -> None:
    data = request(Packet.SUBMIT_JOB, b"f", b"u", bytes(size)) * 3
    for end in (len(data), len(data) - 1):
        for most in (size, 10**30):
            facts = data[:end], 0, end, BASE, most
            assert split(native.split_packets, *facts) == split(framing.split_packets, *facts)


@settings(max_examples=depth(300))
@given(packet=st.sampled_from(Packet), arguments=st.lists(words, max_size=6))
def test_any_response_is_the_same(native: Any, packet: Packet, arguments: list[bytes]) -> None:
    assert native.response(packet, *arguments) == framing.response(packet, *arguments)
    for size in (0, LARGE - 1, LARGE, LARGE + 1):
        all_ = [*arguments, bytes(size)]
        assert native.response(packet, *all_) == framing.response(packet, *all_)
        assert native.response_parts(packet, *all_) == framing.response_parts(packet, *all_)


def test_a_large_workload_is_not_copied(native: Any) -> None:
    workload = bytes(LARGE)
    head, rest = native.response_parts(Packet.WORK_COMPLETE, b"H:1", workload)
    assert rest is workload
    assert head == framing.response(Packet.WORK_COMPLETE, b"H:1", workload)[: len(head)]


def test_a_workload_is_bytes_before_it_is_written(native: Any) -> None:
    for size in (0, 1, LARGE, framing.MAPPED):
        for make in (native.new_workload, framing.new_workload):
            workload, view = make(size)
            view[:] = b"x" * size
            assert bytes(workload) == b"x" * size
    workload, _ = native.new_workload(LARGE)
    assert bytes(workload) is workload, "it is not copied"


def test_what_only_a_mistake_of_ours_could_pass_is_refused(native: Any) -> None:
    for function in (native.response, native.response_parts):
        for number in (HIGHEST + 1, -1, 2**40):
            with pytest.raises(IndexError):
                function(number, b"")
        for facts in ((), ("8", b""), (8, "text"), (8, bytearray()), (8, None)):
            with pytest.raises(TypeError):
                function(*facts)
        with pytest.raises(OverflowError):
            function(8, *[bytes(2**20)] * 2**12)
    good: list[Any] = [b"", 0, 0, BASE, 1, []]
    for place, bad in enumerate((bytearray(), None, None, None, None, ())):
        with pytest.raises(TypeError):
            native.split_packets(*good[:place], bad, *good[place + 1 :])
    with pytest.raises(TypeError):
        native.split_packets(*good[:-1])
    with pytest.raises(ValueError, match="before the data"):
        native.split_packets(b"", -1, 0, BASE, 1, [])
    for size, error in ((-1, ValueError), (2**64, OverflowError), ("1", TypeError)):
        with pytest.raises(error):
            native.new_workload(size)
    for base in (-1, 2**64):
        with pytest.raises(OverflowError):
            native.split_packets(b"", 0, 0, base, 1, [])


# Each with what it does for one call: packets of all kinds, and those at which it gives up.
ALL = b"".join(request(packet, *map(str.encode, packet.arguments)) for packet in Packet)
WORKLOAD = bytes(LARGE)
TOO_FEW = request(Packet.SUBMIT_JOB, b"function", b"unique")
CALLS: dict[str, Callable[[Any], object]] = {
    "packets of all kinds": lambda native: split(native.split_packets, ALL, 0, 10**6, BASE, 10**6),
    "too few arguments": lambda native: split(native.split_packets, TOO_FEW, 0, 99, BASE, 10**6),
    "a response": lambda native: native.response(Packet.WORK_COMPLETE, b"handle", b"result"),
    "a large response": lambda native: native.response_parts(
        Packet.JOB_ASSIGN, b"handle", b"function", WORKLOAD
    ),
    "room for a workload": lambda native: len(native.new_workload(100)[1]),
    "small parts": lambda native: native.response_parts(Packet.WORK_COMPLETE, b"handle", b"r"),
}
PACKETS = 1_000_000


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_a_million_packets_leave_nothing_behind(native: Any, name: str) -> None:
    call = CALLS[name]
    times = PACKETS // len(Packet) if call is CALLS["packets of all kinds"] else PACKETS // 4

    def refused() -> None:
        for function in (native.response, native.response_parts):
            with pytest.raises(TypeError):
                function(Packet.WORK_COMPLETE, WORKLOAD, "text")

    def held() -> tuple[int, ...]:
        gc.collect()
        shared = ALL, TOO_FEW, WORKLOAD, b"", b"handle", ARGUMENT_COUNT
        return sys.getallocatedblocks(), *map(sys.getrefcount, shared)

    call(native)
    refused()
    before = held()
    for _ in range(times):
        call(native)
    refused()
    blocks, *references = (now - then for now, then in zip(held(), before, strict=True))
    assert references == [0] * len(references)
    assert blocks < 1000, f"of {times} calls"


@pytest.mark.parametrize("name", CALLS)
def test_each_allocation_may_fail(native: Any, name: str) -> None:
    memory: Any = pytest.importorskip("_testcapi")
    call = CALLS[name]
    expected = call(native)
    failures, number = 0, 0
    while number < failures + 5:  # none was left to fail in the last five
        number += 1
        memory.set_nomemory(number, number + 1)
        try:
            got = call(native)
        except MemoryError:
            failures += 1
        else:
            assert got == expected
        finally:
            memory.remove_mem_hooks()
    assert failures > 0
