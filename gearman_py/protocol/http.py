"""HTTP/1 requests and responses without I/O (RFC 9112; names of headers are gearmand's).

Only what a submission needs is supported: a target, some headers, a body with a known length or in
chunks. Anything else is refused with the status that HTTP has for it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import unquote_to_bytes

HEAD_LIMIT = 16 * 1024  # bytes of the head of a request, or between two chunks
METHODS = ("GET", "HEAD", "POST", "PUT")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

# A line of the head may end in a line feed alone (RFC 9112 2.2); no other line may.
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_EMPTY_LINES = re.compile(rb"(?:\r?\n){0,4}")
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_TARGET = re.compile(r"(?:/|https?://)[\x21-\x7e\x80-\xff]*", re.IGNORECASE)
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z\-._~!$&'()*+,;=%]*)(?::[0-9]*)?")
_LENGTH = re.compile(r"[0-9]{1,19}")
_QUALITY = re.compile(r"q=(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_TRAILER_END = re.compile(rb"\r\n\r\n")
_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
# Chunks that are read at a time: 256 KiB may have 40,000, and other connections wait meanwhile.
CHUNKS = 2000


class Refused(Exception):
    """A request is refused, with a status and a reason. The connection is then closed."""

    def __init__(self, status: HTTPStatus, why: str, **headers: str) -> None:
        super().__init__(why)
        self.status = status
        self.headers = headers


@dataclass
class Request:
    """A request. Names in ``headers`` are in lower case; ``minor`` is 0 or 1, of HTTP/1."""

    method: str
    target: str
    minor: int
    headers: dict[str, str]
    body: bytes = b""

    @property
    def keeps_alive(self) -> bool:
        """Whether the client may send another request on this connection (RFC 9112 9.3)."""
        options = {word.strip().lower() for word in self.headers.get("connection", "").split(",")}
        return "close" not in options and (self.minor == 1 or "keep-alive" in options)

    @property
    def name(self) -> bytes:
        """The name of the function: the decoded path of the target, without a query."""
        target = re.sub(r"^https?://[^/?]*", "", self.target, flags=re.IGNORECASE)
        return unquote_to_bytes(target.partition("?")[0].lstrip("/"))


def accepted_quality(accept: str, kind: str) -> float:
    """How welcome a media type is by a header Accept: 0 (not at all) to 1.

    That is the quality of the most specific range that it is in (RFC 9110, 12.5.1).
    """
    qualities: dict[str, float] = {}
    for element in accept.lower().split(","):
        name, *parameters = (word.strip() for word in element.split(";"))
        given = [word[2:] for word in parameters if _QUALITY.fullmatch(word)]
        quality = float(given[0]) if given else 1.0
        qualities[name] = max(quality, qualities.get(name, 0.0))
    ranges = kind, f"{kind.partition('/')[0]}/*", "*/*"
    return next((qualities[each] for each in ranges if each in qualities), 0.0)


def is_of_another_site(headers: Mapping[str, str]) -> bool:
    """Whether a browser sends a request with these headers for a page of another site.

    Where it tells that itself (Fetch Metadata), that decides: behind a proxy the host may be named
    otherwise. Older browsers, and pages over plain HTTP, tell the origin alone (RFC 6454).
    """
    if (site := headers.get("sec-fetch-site")) is not None:
        return site not in ("none", "same-origin")
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")


@dataclass
class Reader:
    """Turns the bytes of one connection into requests; a body has at most ``max_body`` bytes."""

    max_body: int
    dead: bool = False  # a request was refused: what follows cannot be read
    continued: bool = False  # the client was told to send the body of the request in progress
    behind: bool = False  # it has not read all of its input: call next() again
    _unread: bytearray = field(default_factory=bytearray)
    _begun: Request | None = None  # its body is incomplete
    _missing: int = 0  # bytes of the body, or of the chunk being read
    _chunked: bool = False
    _body: bytearray = field(default_factory=bytearray)
    _size: int = 0  # bytes of the body, as far as announced

    @property
    def unread(self) -> int:
        """The number of bytes that wait to be read."""
        return len(self._unread)

    @property
    def held(self) -> int:
        """The number of bytes it holds of incomplete requests."""
        return len(self._unread) + len(self._body)

    @property
    def missing(self) -> int:
        """The number of bytes that it lacks of a body or chunk, as far as known."""
        return max(0, self._missing - len(self._unread))

    @property
    def partial(self) -> bool:
        """Whether it holds an incomplete request."""
        return self._begun is not None or bool(self._unread)

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for 100 Continue before it sends the body."""
        begun = self._begun
        if begun is None or begun.minor == 0 or self.continued or self._body or self._unread:
            return False
        return begun.headers.get("expect", "").lower() == "100-continue"

    def feed(self, data: bytes) -> None:
        """Add the bytes of one read."""
        if not self.dead:
            self._unread += data

    def next(self) -> Request | None:
        """The next request, or None if it is incomplete. Raises :class:`Refused`."""
        try:
            if self._begun is None:
                self._begun = self._read_head()
            if self._begun is None or not (
                self._read_chunks() if self._chunked else self._take_whole_body()
            ):
                return None
        except Refused:
            self.dead = True
            self._unread.clear()
            self._body.clear()
            raise
        request, self._begun = self._begun, None
        request.body = bytes(self._body)
        self._body = bytearray()
        return request

    def _read_head(self) -> Request | None:
        if empty := _EMPTY_LINES.match(self._unread):  # RFC 9112 2.2: some are tolerated
            del self._unread[: empty.end()]
        end = _HEAD_END.search(self._unread, 0, HEAD_LIMIT)
        if end is None:
            if len(self._unread) >= HEAD_LIMIT:
                too_large = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
                raise Refused(too_large, f"a request's head may have {HEAD_LIMIT} bytes")
            return None
        lines = self._unread[: end.start()].decode("latin-1").replace("\r\n", "\n").split("\n")
        del self._unread[: end.end()]
        request = _parse_request(lines[0], lines[1:])
        self.continued = False
        self._plan_body(request)
        return request

    def _plan_body(self, request: Request) -> None:
        headers = request.headers
        coding, length = headers.get("transfer-encoding"), headers.get("content-length")
        if coding is not None and length is not None:
            raise _bad_request("both Content-Length and Transfer-Encoding")
        if coding is not None and request.minor == 0:
            raise _bad_request("Transfer-Encoding in HTTP/1.0")
        if coding is not None and coding.lower() != "chunked":
            if "chunked" in coding.lower():
                raise _bad_request(f"Transfer-Encoding: {coding}")
            raise Refused(HTTPStatus.NOT_IMPLEMENTED, f"Transfer-Encoding: {coding}")
        if length is not None and not _LENGTH.fullmatch(length):
            raise _bad_request(f"Content-Length: {length}")
        self._chunked = coding is not None
        self._size = 0
        self._expect_bytes(int(length or 0))

    def _expect_bytes(self, size: int) -> None:
        self._missing = size
        self._size += size
        if self._size > self.max_body:
            why = f"a body may have {self.max_body} bytes"
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, why)

    def _take_whole_body(self) -> bool:
        self._take_bytes()
        return not self._missing

    def _take_bytes(self) -> None:
        if self._missing:
            part = self._unread[: self._missing]
            self._body += part
            self._missing -= len(part)
            del self._unread[: len(part)]

    def _read_chunks(self) -> bool:
        self._take_bytes()
        position = 0  # the end of the chunks that were read; they are removed together
        self.behind = False
        if self._missing:
            return False
        for _ in range(CHUNKS):
            # Each chunk but the first follows the line ending of the previous one.
            start = position
            if self._body:
                ending = self._unread[position : position + 2]
                if ending != b"\r\n":
                    if not b"\r\n".startswith(ending):
                        raise _bad_request("a chunk is longer than it says")
                    break
                start += 2
            size = _CHUNK_SIZE.match(self._unread, start)
            if size is None:
                if self._unread.find(b"\n", start) >= 0 or len(self._unread) - start > HEAD_LIMIT:
                    raise _bad_request("a chunk without a size")
                break
            length = int(size[1], 16)
            if not length:
                del self._unread[:position]
                return self._read_trailer(start - position)
            self._expect_bytes(length)
            position = size.end() + length
            self._body += self._unread[size.end() : position]
            if position > len(self._unread):
                self._missing = position - len(self._unread)
                self._unread.clear()
                return False
            self._missing = 0
        else:
            self.behind = True
        del self._unread[:position]
        return False

    def _read_trailer(self, start: int) -> bool:
        """Skip what is between the last chunk and the end of the request."""
        end = _TRAILER_END.search(self._unread, start, HEAD_LIMIT)
        if _BARE_LINE_FEED.search(self._unread, start, end.end() if end else HEAD_LIMIT):
            raise _bad_request("a line of the trailer ends without CR")
        if end is None:
            if len(self._unread) > HEAD_LIMIT:
                raise _bad_request("the trailer does not end")
            return False
        _, *lines = self._unread[start : end.start()].decode("latin-1").split("\r\n")
        for line in lines:
            _parse_field(line)
        del self._unread[: end.end()]
        return True


def answer(
    request: Request | None, status: HTTPStatus, body: bytes = b"", **headers: str | None
) -> bytes:
    """The bytes of a response to a request (None: to one that could not be read).

    ``headers`` have `_` for `-`; one that is None is left out. A response to HEAD has no body.
    """
    head = answer_head(request, status, len(body), **headers)
    return head if request and request.method == "HEAD" else head + body


def answer_head(
    request: Request | None, status: HTTPStatus, length: int, **headers: str | None
) -> bytes:
    """The same without the body; ``length`` bytes follow."""
    minor = request.minor if request else 1
    lines = [f"HTTP/1.{minor} {status.value} {status.phrase}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items() if value]
    lines.append(f"Content-Length: {length}")
    if request is None or not request.keeps_alive:
        lines.append("Connection: close")
    elif minor == 0:
        lines.append("Connection: keep-alive")
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")


def _parse_request(line: str, fields: list[str]) -> Request:
    words = line.split(" ")
    if len(words) != 3:
        raise _bad_request("a request line is METHOD TARGET VERSION")
    method, target, version = words
    if re.fullmatch(r"HTTP/1\.[0-9]", version) is None:
        if re.fullmatch(r"HTTP/[0-9]\.[0-9]", version):
            raise Refused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "only HTTP/1 is supported")
        raise _bad_request("a request line is METHOD TARGET VERSION")
    headers = _parse_headers(fields)
    minor = min(1, int(version[-1]))
    if minor and "host" not in headers:
        raise _bad_request("no Host")
    if not _HOST.fullmatch(headers.get("host", "")):
        raise _bad_request(f"Host: {headers['host'][:80]}")
    if method not in METHODS:
        why = f"{method[:20]} is not supported"
        raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, why, Allow=", ".join(METHODS))
    if not _TARGET.fullmatch(target):
        raise _bad_request("a target begins with /")
    return Request(method, target, minor, headers)


def _parse_headers(fields: list[str]) -> dict[str, str]:
    """The headers by name; repeated ones are joined, or refused where that would be ambiguous."""
    headers: dict[str, str] = {}
    for each in fields:
        key, value = _parse_field(each)
        if key == "host" and key in headers:
            raise _bad_request("two lines of Host")
        if key.startswith("x-gearman-") and key in headers:
            raise _bad_request(f"two lines of {key}")
        if key == "content-length" and headers.get(key, value) != value:
            raise _bad_request("two values of Content-Length")
        if key in ("transfer-encoding", "connection", "accept") and key in headers:
            value = f"{headers[key]}, {value}"
        headers[key] = value
    return headers


def _parse_field(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
        raise _bad_request(f"not a header: {line[:80]!r}")
    return name.lower(), value.strip(" \t")


def _bad_request(why: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, why)
