"""Large packets that come in any pieces, read by the codec or straight to where they stay."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gearman_py.protocol.codec import LARGE, Decoder, Message, request
from gearman_py.protocol.packets import Packet
from tests.properties import depth

WORKLOAD = bytes(range(256)) * 1024
ECHO = request(Packet.ECHO_REQ, b"next")


def feed(decoder: Decoder, data: bytes, *, straight: bool) -> list[Message]:
    """Give it the next bytes, as the event loop does that reads a large packet straight."""
    large = decoder.large
    if not straight or large is None:
        return decoder.feed(data)
    room = large.room()
    count = min(len(room), len(data))
    room[:count] = data[:count]
    large.filled(count)
    found = [] if large.missing else decoder.feed(b"")
    return found + (decoder.feed(data[count:]) if count < len(data) else [])


@settings(max_examples=depth(300))
@given(
    st.sampled_from([Packet.SUBMIT_JOB, Packet.WORK_COMPLETE, Packet.ECHO_REQ]),
    st.integers(LARGE - 100, len(WORKLOAD)),
    st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.booleans()), max_size=6),
)
def test_pieces_and_ways_and_a_handover_do_not_matter(
    packet: Packet, size: int, pieces: list[tuple[float, bool, bool]]
) -> None:
    arguments = [b"f", b"unique"][: len(packet.arguments) - 1]
    sent = request(packet, *arguments, WORKLOAD[:size])
    wire = sent + ECHO
    decoder, got, begin = Decoder(), list[Message](), 0
    for place, straight, hands_over in [*sorted(pieces), (1.0, False, False)]:
        end = round(place * len(wire))
        got += feed(decoder, wire[begin:end], straight=straight)
        begin = max(begin, end)
        if 0 < end < len(sent) and decoder.large:
            assert decoder.held == end
            assert decoder.missing == len(sent) - end
            assert decoder.peek() == (packet, len(sent), (arguments or [b""])[0])
        if hands_over:
            state = decoder.pack()
            decoder = Decoder()
            decoder.unpack(*state)
    assert got == [(packet, [*arguments, WORKLOAD[:size]]), (Packet.ECHO_REQ, [b"next"])]
    assert not decoder.partial


@pytest.mark.parametrize("cut", [4, 12, 15])  # in the header, after it, and in an argument
def test_one_whose_arguments_come_late_is_read_too(cut: int) -> None:
    wire = request(Packet.SUBMIT_JOB, b"f", b"unique", WORKLOAD)
    decoder = Decoder()
    assert decoder.feed(wire[:cut]) == []
    assert decoder.large is None
    assert decoder.feed(wire[cut:-1]) == []
    assert decoder.feed(wire[-1:]) == [(Packet.SUBMIT_JOB, [b"f", b"unique", WORKLOAD])]
