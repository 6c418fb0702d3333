"""Every packet both ways, in any pieces; and nothing a peer can send raises."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gearman_py.protocol.codec import LARGE, MAX_LINE, RESPONSE, Decoder, request, response
from gearman_py.protocol.packets import (
    ARGUMENT_COUNT,
    FAULT,
    HIGHEST,
    OVERSIZED,
    TEXT,
    TEXT_FAULT,
    Packet,
)
from gearman_py.server.memory import resident_bytes
from tests.properties import depth

UNKNOWN = (HIGHEST + 1).to_bytes(4, "big")  # no packet has this number
GAP = (Packet.JOB_ATTEMPT - 1).to_bytes(4, "big")  # nor has this one
SUBMIT = b"\0REQ\0\0\0\x07\0\0\0\x0creverse\0\0a\0b"
CASES = [
    (Packet.SUBMIT_JOB, [b"reverse", b"", b"a\0b"], SUBMIT),
    (Packet.GRAB_JOB, [], b"\0REQ\0\0\0\x09\0\0\0\0"),
    (Packet.CAN_DO, [b"wc"], b"\0REQ\0\0\0\x01\0\0\0\x02wc"),
    (Packet.ECHO_REQ, [b""], b"\0REQ\0\0\0\x10\0\0\0\0"),
    (Packet.CAN_DO_TIMEOUT, [b"wc", b"1500"], b"\0REQ\0\0\0\x17\0\0\0\x07wc\x001500"),
]


@pytest.mark.parametrize(("packet", "arguments", "wire"), CASES)
def test_packet_is_the_same_both_ways_whole_byte_by_byte_and_with_more_behind(
    packet: Packet, arguments: list[bytes], wire: bytes
) -> None:
    assert request(packet, *arguments) == wire
    assert Decoder().feed(wire * 2 + b"\0R") == [(packet, arguments)] * 2
    decoder = Decoder()
    for byte in wire[:-1]:
        assert decoder.feed(bytes([byte])) == []
    assert decoder.feed(wire[-1:]) == [(packet, arguments)]


def test_every_packet_of_the_table_comes_back_with_its_arguments() -> None:
    for packet in Packet:
        arguments = [name.encode() for name in packet.arguments]
        assert Decoder().feed(request(packet, *arguments)) == [(packet, arguments)]
        assert Decoder(RESPONSE).feed(response(packet, *arguments)) == [(packet, arguments)]


def test_each_number_that_the_table_lacks_ends_the_stream() -> None:
    known = {*Packet, 5}  # 5 was never assigned, and is refused without closing
    for number in set(range(300)) - known:
        decoder = Decoder()
        wire = b"\0REQ" + number.to_bytes(4, "big") + bytes(4)
        assert [kind for kind, _ in decoder.feed(wire + SUBMIT)] == [FAULT], number
        assert decoder.dead


def test_workload_beyond_the_small_size_is_cut_at_the_same_nuls() -> None:
    arguments = [b"f", b"u", b"x\0" * 5000]
    assert Decoder().feed(request(Packet.SUBMIT_JOB, *arguments)) == [(7, arguments)]


def test_data_of_a_packet_without_arguments_is_ignored() -> None:
    assert Decoder().feed(b"\0REQ\0\0\0\x09\0\0\0\x04junk") == [(Packet.GRAB_JOB, [])]


def test_lines_and_packets_may_follow_each_other_in_one_read() -> None:
    data = b"status\r\n" + SUBMIT + b"version\n" + b"\n"
    kinds = [(kind, arguments[0]) for kind, arguments in Decoder(text=True).feed(data)]
    assert kinds == [(TEXT, b"status"), (7, b"reverse"), (TEXT, b"version"), (TEXT, b"")]


def test_very_many_lines_or_odd_packets_are_read_in_turns() -> None:
    for wire in (b"x\n", b"\0RES" + bytes(3) + b"\x10" + bytes(4)):
        decoder = Decoder(text=True)
        messages = decoder.feed(wire * 20_000 + request(Packet.ECHO_REQ, b"last"))
        assert len(messages) < 5_000
        while decoder.behind:
            messages += decoder.feed(b"")
        assert len(messages) == 20_001
        assert messages[-1] == (Packet.ECHO_REQ, [b"last"])


def test_very_many_small_packets_are_read_in_turns_and_a_client_reads_all_at_once() -> None:
    packets = [(Packet.CAN_DO, [b"f%d" % number]) for number in range(20_000)]
    wire = b"".join(request(packet, *arguments) for packet, arguments in packets)
    server = Decoder(text=True)
    messages = server.feed(wire)
    assert len(messages) < 5_000
    while server.behind:
        messages += server.feed(b"")
    assert messages == packets
    assert not server.partial
    assert Decoder().feed(wire) == packets


def test_answer_sent_to_a_server_is_a_fault_that_it_survives() -> None:
    decoder = Decoder()
    messages = decoder.feed(response(Packet.JOB_CREATED, b"H:1") + SUBMIT)
    assert messages[0] == (FAULT, [b"INVALID_MAGIC", b"Request magic expected"])
    assert messages[1][0] == Packet.SUBMIT_JOB
    assert not decoder.dead


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (b"\0XYZ" + SUBMIT[4:], b"INVALID_MAGIC"),
        (b"\0" * 12, b"INVALID_MAGIC"),
        (b"\0REQ\0\0\0\0\0\0\0\0", b"INVALID_PACKET"),
        (b"\0REQ" + UNKNOWN + b"\0\0\0\0", b"INVALID_PACKET"),
        (b"\0REQ" + GAP + b"\0\0\0\0", b"INVALID_PACKET"),
        (b"\0REQ\x80\0\0\0\0\0\0\0", b"INVALID_PACKET"),
        (b"\0REQ\0\0\0\x07\xff\xff\xff\xff", b"ARGUMENT_TOO_LARGE"),
        (b"\0REQ\0\0\0\x07\0\0\0\0", b"INVALID_PACKET"),
        (b"\0REQ\0\0\0\x07\0\0\0\x03a\0b", b"INVALID_PACKET"),
    ],
)
def test_broken_framing_is_one_fault_after_which_nothing_counts(wire: bytes, code: bytes) -> None:
    decoder = Decoder()
    messages = decoder.feed(SUBMIT + wire)
    assert messages[0][0] == Packet.SUBMIT_JOB, "what came before is kept"
    assert [(kind, arguments[0]) for kind, arguments in messages[1:]] == [(FAULT, code)]
    assert decoder.dead
    assert decoder.feed(SUBMIT) == []


@pytest.mark.parametrize(
    "packet",
    [Packet.WORK_COMPLETE, Packet.WORK_DATA, Packet.WORK_WARNING, Packet.WORK_EXCEPTION],
)
def test_result_without_its_nul_is_an_empty_one(packet: Packet) -> None:
    decoder = Decoder()
    assert decoder.feed(request(packet, b"H:1") + SUBMIT)[0] == (packet, [b"H:1", b""])
    assert not decoder.dead


def test_size_is_refused_at_the_header_before_the_data_comes() -> None:
    decoder = Decoder(max_packet=100)
    assert decoder.feed(b"\0REQ\0\0\0\x10\0\0\0\x65")[0][0] == FAULT
    assert Decoder(max_packet=100).feed(b"\0REQ\0\0\0\x10\0\0\0\x64") == []


@pytest.mark.parametrize("step", [1, 5, 50, 1000])
def test_a_packet_about_a_job_that_is_too_large_is_skipped(step: int) -> None:
    large, small = bytes(200), response(Packet.NOOP)
    wire = response(Packet.JOB_ASSIGN_UNIQ, b"H:1", b"f", b"", large) + small
    wire += response(Packet.WORK_COMPLETE, b"H:2", large) + small
    decoder, got = Decoder(RESPONSE, max_packet=100, skips_oversized=True), []
    for start in range(0, len(wire), step):
        got += decoder.feed(wire[start : start + step])
    text = b"a packet of %d bytes is over the limit of 100"
    assert got == [
        (OVERSIZED, [b"H:1", b"f", b"", text % 207]),
        (Packet.NOOP, []),
        (OVERSIZED, [b"H:2", text % 204]),
        (Packet.NOOP, []),
    ]
    assert not decoder.dead


@pytest.mark.parametrize(
    "wire",
    [
        response(Packet.JOB_CREATED, bytes(200)),
        response(Packet.WORK_COMPLETE, b"no handle ends here" * 10),
        response(Packet.WORK_COMPLETE, b"x" * 2**16, b"")[: 12 + 2**16],
    ],
)
def test_one_that_names_no_job_is_still_a_fault(wire: bytes) -> None:
    decoder = Decoder(RESPONSE, max_packet=100, skips_oversized=True)
    assert [kind for kind, _ in decoder.feed(wire)] == [FAULT]
    assert decoder.dead


def test_line_without_an_end_is_a_fault_of_the_text_protocol() -> None:
    decoder = Decoder(text=True)
    assert decoder.feed(b"x" * (MAX_LINE - 1)) == []
    assert decoder.feed(b"x")[0][0] == TEXT_FAULT
    assert decoder.dead


def test_client_takes_text_for_no_packet() -> None:
    assert Decoder(RESPONSE).feed(b"ERR UNKNOWN_COMMAND")[0][0] == FAULT


messages = st.sampled_from(list(Packet)).flatmap(
    lambda packet: st.tuples(
        st.just(packet),
        st.lists(
            st.binary(max_size=20).map(lambda argument: argument.replace(b"\0", b"")),
            min_size=len(packet.arguments),
            max_size=len(packet.arguments),
        ),
    )
)


@settings(max_examples=depth(1000))
@given(st.lists(messages, max_size=4), st.data())
def test_pieces_do_not_matter(sent: list[tuple[Packet, list[bytes]]], data: st.DataObject) -> None:
    wire = b"".join(request(packet, *arguments) for packet, arguments in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=4)))
    decoder = Decoder()
    got = []
    for start, stop in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        got += decoder.feed(wire[start:stop])
    assert got == [(packet, arguments) for packet, arguments in sent]


@settings(max_examples=depth(2000))
@given(
    st.lists(
        st.binary(max_size=40) | st.sampled_from([b"\0REQ", b"\0RES", b"\0\0\0\x07", b"\n"]),
        max_size=8,
    )
)
def test_garbage_never_raises(pieces: list[bytes]) -> None:
    decoder = Decoder(text=True)
    for piece in pieces:
        for kind, arguments in decoder.feed(piece):
            if kind > 0:
                assert len(arguments) == ARGUMENT_COUNT[kind]


sizes = st.sampled_from([0, 5, LARGE - 60, LARGE - 1, LARGE, LARGE + 1, 40 * LARGE])
cuts = st.sampled_from([1, 11, 12, 13, 60, LARGE - 1, LARGE, 2 * LARGE, 10 * LARGE])


@settings(max_examples=depth(300))
@given(st.lists(sizes, max_size=3), st.data())
def test_a_large_workload_may_be_fed_or_written_where_it_stays(
    large: list[int], data: st.DataObject
) -> None:
    """The same messages in any pieces, and though another decoder goes on with the rest."""
    sent = [(Packet.SUBMIT_JOB, [b"f", b"u", bytes([n]) * size]) for n, size in enumerate(large)]
    wire = memoryview(b"".join(request(packet, *arguments) for packet, arguments in sent))
    decoder, got = Decoder(), []
    while wire:
        piece = wire[: data.draw(cuts)]
        room = decoder.room
        if room is not None and data.draw(st.booleans()):
            piece = piece[: len(room)]
            room[: len(piece)] = piece
            got += decoder.fill(len(piece))
        elif data.draw(st.integers(0, 9)):
            got += decoder.feed(bytes(piece))
        else:
            unread, skip, dead = decoder.pack()
            decoder = Decoder()
            decoder.unpack(unread + bytes(piece), skip, dead)
            got += decoder.feed(b"")
        wire = wire[len(piece) :]
        assert decoder.held + decoder.missing <= 50 * LARGE
    assert got == sent
    assert not decoder.partial


@pytest.mark.parametrize("magic", [b"\0RES\0\0\0\x07", b"\0RES\0\0\xff\xff"])
def test_a_large_answer_is_a_fault_in_pieces_too(magic: bytes) -> None:
    """In pieces it was taken for a request, and an unknown number raised IndexError."""
    wire = magic + (4 * LARGE).to_bytes(4, "big") + bytes(4 * LARGE) + SUBMIT
    decoder = Decoder()
    got = [
        each for start in range(0, len(wire), LARGE) for each in decoder.feed(wire[start:][:LARGE])
    ]
    assert [kind for kind, _ in got] == [FAULT, Packet.SUBMIT_JOB]


def test_what_is_announced_and_not_sent_takes_little_memory() -> None:
    wire = request(Packet.SUBMIT_JOB, b"f", b"u", bytes(63 * 2**20))[: 60 * 2**20]
    before = resident_bytes()
    decoders = [Decoder() for _ in range(10)]
    for decoder in decoders:
        for start in range(0, 4 * 2**20, 4 * LARGE):
            decoder.feed(wire[start : start + 4 * LARGE])
        assert decoder.room is not None
    assert resident_bytes() - before < 60 * 2**20
