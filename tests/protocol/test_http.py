"""HTTP requests are read alike however they are cut, and nothing but Refused is ever raised."""

import tracemalloc
from http import HTTPStatus
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gearman_py.protocol.http import Reader, Refused, Request
from tests.properties import depth

METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT"])
PATHS = st.binary(max_size=20).map(lambda name: "/" + "".join(f"%{byte:02x}" for byte in name))


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request as a client may write it, in one of the ways to give a body's length."""
    minor = draw(st.integers(0, 1))
    line = f"{draw(METHODS)} {draw(PATHS)} HTTP/1.{minor}"
    field = f"X-A:{draw(st.sampled_from(['', ' b', '  c  ']))}"
    head = f"{line}\r\nHost: h:1\r\n{field}\r\n".encode()
    parts = draw(st.lists(st.binary(min_size=1, max_size=50), max_size=4))
    if minor and draw(st.booleans()):
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    body = b"".join(parts)
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def read(pieces: list[bytes]) -> list[object]:
    """Every request in the pieces, and what refused the rest."""
    reader = Reader(1000)
    found: list[object] = []
    try:
        for piece in pieces:
            reader.feed(piece)
            while (request := reader.next()) is not None:
                found.append(request)
    except Refused as refused:
        assert reader.dead
        found.append((refused.status, str(refused)))
    return found


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@settings(max_examples=depth(500))
@given(st.lists(requests(), max_size=3), st.lists(st.integers(0, 10_000), max_size=8))
def test_where_requests_are_cut_does_not_matter(sent: list[bytes], places: list[int]) -> None:
    data = b"".join(sent)
    assert read(cut(data, places)) == read([data])
    assert len(read([data])) == len(sent)


@settings(max_examples=depth(1000))
@given(
    st.one_of(
        st.binary(max_size=200),
        st.builds(lambda good, bad: good[: len(good) // 2] + bad, requests(), st.binary()),
    ),
    st.lists(st.integers(0, 10_000), max_size=4),
)
@example(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 3, [])
def test_nothing_that_comes_raises_more_than_a_refusal(data: bytes, places: list[int]) -> None:
    whole = read([data])
    assert read(cut(data, places)) == whole


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 7])
def test_a_body_in_small_chunks_costs_its_size_and_is_read_in_turns(size: int) -> None:
    body = b"x" * 50_000
    chunks = (b"%x\r\n%b\r\n" % (size, body[:size])) * (len(body) // size)
    reader = Reader(10**6)
    reader.feed(CHUNKED + b"\r\n")
    assert reader.next() is None
    tracemalloc.start()
    try:
        for start in range(0, len(chunks), 2**16):
            reader.feed(chunks[start : start + 2**16])
            assert reader.next() is None
            while reader.behind:
                assert reader.next() is None
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1.5 * len(body)
    reader.feed(b"0\r\n\r\n")
    found = reader.next()
    assert found is not None
    assert len(found.body) == len(body) // size * size


def test_many_chunks_in_one_read_are_read_a_part_at_a_time() -> None:
    reader = Reader(10**6)
    reader.feed(CHUNKED + b"\r\n" + b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n")
    turns = 0
    while (found := reader.next()) is None:
        assert reader.behind
        turns += 1
    assert turns >= 4
    assert found.body == b"x" * 10_000


HEAD = b"POST /f HTTP/1.1\r\nHost: h\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n"
BESIDE_THE_RFC = {
    "two lines of transfer-encoding": CHUNKED + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked not last": HEAD + b"Transfer-Encoding: chunked, gzip\r\n\r\n",
    "chunks in http 1.0": CHUNKED.replace(b"1.1", b"1.0") + b"\r\n0\r\n\r\n",
    "bare line feed after a size": CHUNKED + b"\r\n1\nx\r\n0\r\n\r\n",
    "bare line feed after a chunk": CHUNKED + b"\r\n1\r\nx\n0\r\n\r\n",
    "bare carriage return after a size": CHUNKED + b"\r\n1\rx\r\n0\r\n\r\n",
    "bare line feed in an extension": CHUNKED + b"\r\n1;a\nb\r\nx\r\n0\r\n\r\n",
    "bare line feed in a trailer": CHUNKED + b"\r\n0\r\nA: b\nC: d\r\n\r\n",
    "bare line feed that ends a trailer": CHUNKED + b"\r\n0\r\nA: b\n\r\n",
    "not a header in a trailer": CHUNKED + b"\r\n0\r\nA b\r\n\r\n",
    "carriage return in a value": HEAD + b"A: b\rc\r\n\r\n",
    "nul in a value": HEAD + b"A: b\0c\r\n\r\n",
    "escape in a value": HEAD + b"A: b\x1bc\r\n\r\n",
    "no host": b"GET /f HTTP/1.1\r\n\r\n",
    "two hosts": HEAD + b"Host: h\r\n\r\n",
    "two hosts in http 1.0": HEAD.replace(b"1.1", b"1.0") + b"Host: h\r\n\r\n",
    "a host with a path": b"GET /f HTTP/1.1\r\nHost: h/x\r\n\r\n",
    "a host with a space": b"GET /f HTTP/1.1\r\nHost: h x\r\n\r\n",
    "a quoted header": HEAD + b'"X-Gearman-Unique: k"\r\n\r\n',
    "a target without slash": b"GET f HTTP/1.1\r\nHost: h\r\n\r\n",
    "a list of lengths": HEAD + b"Content-Length: 1, 1\r\n\r\nx",
    "nul in the target": b"GET /a\0b HTTP/1.1\r\nHost: h\r\n\r\n",
}


@pytest.mark.parametrize("sent", BESIDE_THE_RFC.values(), ids=BESIDE_THE_RFC)
def test_what_others_may_read_otherwise_is_refused(sent: bytes) -> None:
    (refused,) = read([sent])
    assert isinstance(refused, tuple)
    assert refused[0] == HTTPStatus.BAD_REQUEST
    assert read([sent[at : at + 1] for at in range(len(sent))]) == [refused]


@pytest.mark.parametrize(
    "head",
    [
        b"GET /f HTTP/1.0\r\n",
        b"GET /f HTTP/1.1\r\nHost:\r\n",
        b"GET /f HTTP/1.1\r\nHost: [::1]:8080\r\n",
        b"GET http://h/f HTTP/1.1\r\nhOST: h\r\n",
        b"\r\n\r\nGET /f HTTP/1.1\nHost: h\n",
        b"GET /f HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n0;a=b\r\nA: b\r\n",
    ],
)
def test_what_the_rfc_allows_is_taken(head: bytes) -> None:
    (found,) = read([head + b"\r\n"])
    assert isinstance(found, Request)
    assert found.name == b"f"
