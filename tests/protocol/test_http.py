"""HTTP requests are read alike however they are cut, and nothing but Refused is ever raised."""

from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gearman_py.protocol.http import Reader, Refused

METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT"])
PATHS = st.binary(max_size=20).map(lambda name: "/" + "".join(f"%{byte:02x}" for byte in name))


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request as a client may write it, in one of the ways to give a body's length."""
    line = f"{draw(METHODS)} {draw(PATHS)} HTTP/1.{draw(st.integers(0, 1))}"
    field = f"X-A:{draw(st.sampled_from(['', ' b', '  c  ']))}"
    head = f"{line}\r\n{field}\r\n".encode()
    parts = draw(st.lists(st.binary(min_size=1, max_size=50), max_size=4))
    if draw(st.booleans()):
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


@settings(max_examples=500)
@given(st.lists(requests(), max_size=3), st.lists(st.integers(0, 10_000), max_size=8))
def test_where_requests_are_cut_does_not_matter(sent: list[bytes], places: list[int]) -> None:
    data = b"".join(sent)
    assert read(cut(data, places)) == read([data])
    assert len(read([data])) == len(sent)


@settings(max_examples=1000)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.builds(lambda good, bad: good[: len(good) // 2] + bad, requests(), st.binary()),
    ),
    st.lists(st.integers(0, 10_000), max_size=4),
)
@example(b"GET / HTTP/1.1\r\n\r\n" * 3, [])
def test_nothing_that_comes_raises_more_than_a_refusal(data: bytes, places: list[int]) -> None:
    whole = read([data])
    assert read(cut(data, places)) == whole
