"""HTTP/1 requests in, answers out, without I/O (RFC 9112; the names of headers are gearmand's).

What is read here is no more than a submission needs: a target, some headers, a body of known
length or in chunks. What cannot be read is refused with the status that HTTP has for it.
"""

import re
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import unquote_to_bytes

HEAD_LIMIT = 16 * 1024  # bytes of a request's head, or of what stands between two chunks
METHODS = ("GET", "HEAD", "POST", "PUT")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LENGTH = re.compile(r"[0-9]{1,19}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")


class Refused(Exception):
    """A request that is not taken: the status, and a sentence why. The connection ends with it."""

    def __init__(self, status: HTTPStatus, why: str, **headers: str) -> None:
        super().__init__(why)
        self.status = status
        self.headers = headers


@dataclass
class Request:
    """One request. ``headers`` has their names in lower case; ``minor`` is HTTP/1's 0 or 1."""

    method: str
    target: str
    minor: int
    headers: dict[str, str]
    body: bytes = b""

    @property
    def keeps_alive(self) -> bool:
        """Whether the client may send another on this connection (RFC 9112 9.3)."""
        options = {word.strip().lower() for word in self.headers.get("connection", "").split(",")}
        return "close" not in options and (self.minor == 1 or "keep-alive" in options)

    @property
    def name(self) -> bytes:
        """The function asked for: the target's path, decoded; a query is not part of it."""
        target = re.sub(r"^https?://[^/?]*", "", self.target, flags=re.IGNORECASE)
        return unquote_to_bytes(target.partition("?")[0].lstrip("/"))


@dataclass
class Reader:
    """Turns what reads bring into requests; ``max_body`` bounds each one's body, in bytes."""

    max_body: int
    dead: bool = False  # what comes after a refused request cannot be read
    _unread: bytearray = field(default_factory=bytearray)
    _begun: Request | None = None  # its body is not whole
    _missing: int = 0  # bytes of the body, or of the chunk in hand
    _chunked: bool = False
    _body: list[bytes] = field(default_factory=list)
    _size: int = 0  # bytes of the body, as far as they are announced

    @property
    def unread(self) -> int:
        """How many bytes wait to be read."""
        return len(self._unread)

    @property
    def held(self) -> int:
        """How many bytes it holds of requests that are not whole."""
        return len(self._unread) + sum(map(len, self._body))

    @property
    def partial(self) -> bool:
        """Whether it holds a part of a request whose rest has not come."""
        return self._begun is not None or bool(self._unread)

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for a word before it sends the body."""
        begun = self._begun
        if begun is None or begun.minor == 0 or self._body or self._unread:
            return False
        return begun.headers.get("expect", "").lower() == "100-continue"

    def feed(self, data: bytes) -> None:
        """Take the bytes of one read."""
        if not self.dead:
            self._unread += data

    def next(self) -> Request | None:
        """The next request once it is whole. Raises :class:`Refused`."""
        try:
            if self._begun is None:
                self._begun = self._head()
            if self._begun is None or not (self._chunks() if self._chunked else self._length()):
                return None
        except Refused:
            self.dead = True
            self._unread.clear()
            raise
        request, self._begun = self._begun, None
        request.body = b"".join(self._body)
        self._body.clear()
        return request

    def _head(self) -> Request | None:
        while self._unread.startswith((b"\r", b"\n")):  # RFC 9112 2.2: tolerated before a request
            del self._unread[:1]
        end = _HEAD_END.search(self._unread, 0, HEAD_LIMIT)
        if end is None:
            if len(self._unread) >= HEAD_LIMIT:
                too_large = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
                raise Refused(too_large, f"a request's head may have {HEAD_LIMIT} bytes")
            return None
        lines = self._unread[: end.start()].decode("latin-1").replace("\r\n", "\n").split("\n")
        del self._unread[: end.end()]
        request = _request(lines[0], lines[1:])
        self._plan_body(request.headers)
        return request

    def _plan_body(self, headers: dict[str, str]) -> None:
        coding, length = headers.get("transfer-encoding"), headers.get("content-length")
        if coding is not None and length is not None:
            raise _bad("both Content-Length and Transfer-Encoding")
        if coding is not None and coding.lower() != "chunked":
            raise Refused(HTTPStatus.NOT_IMPLEMENTED, f"Transfer-Encoding: {coding}")
        if length is not None and not _LENGTH.fullmatch(length):
            raise _bad(f"Content-Length: {length}")
        self._chunked = coding is not None
        self._size = 0
        self._announce(int(length or 0))

    def _announce(self, size: int) -> None:
        self._missing = size
        self._size += size
        if self._size > self.max_body:
            why = f"a body may have {self.max_body} bytes"
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, why)

    def _length(self) -> bool:
        self._take()
        return not self._missing

    def _take(self) -> None:
        if part := bytes(self._unread[: self._missing]):
            self._body.append(part)
            self._missing -= len(part)
            del self._unread[: len(part)]

    def _chunks(self) -> bool:
        while True:
            self._take()
            if self._missing:
                return False
            # Before each chunk but the first stands the end of the one before it.
            start = 0
            if self._body:
                ending = re.match(rb"\r?\n", self._unread)
                if ending is None and len(self._unread) > 1:
                    raise _bad("a chunk is longer than it says")
                if ending is None:
                    return False
                start = ending.end()
            size = _CHUNK_SIZE.match(self._unread, start)
            if size is None:
                if b"\n" in self._unread[start:] or len(self._unread) > HEAD_LIMIT:
                    raise _bad("a chunk without a size")
                return False
            length = int(size[1], 16)
            if not length:
                return self._trailer(start)
            self._announce(length)
            del self._unread[: size.end()]

    def _trailer(self, start: int) -> bool:
        """Pass over what stands between the last chunk and the end of the request."""
        end = _HEAD_END.search(self._unread, start)
        if end is not None:
            del self._unread[: end.end()]
        elif len(self._unread) > HEAD_LIMIT:
            raise _bad("the trailer does not end")
        return end is not None


def answer(
    request: Request | None, status: HTTPStatus, body: bytes = b"", **headers: str | None
) -> bytes:
    """The bytes of an answer to a request (None: to one that could not be read).

    ``headers`` with `_` for `-`; None leaves one out. An answer to HEAD has no body.
    """
    minor = request.minor if request else 1
    lines = [f"HTTP/1.{minor} {status.value} {status.phrase}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items() if value]
    lines.append(f"Content-Length: {len(body)}")
    if request is None or not request.keeps_alive:
        lines.append("Connection: close")
    elif minor == 0:
        lines.append("Connection: keep-alive")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")
    return head if request and request.method == "HEAD" else head + body


def _request(line: str, fields: list[str]) -> Request:
    words = line.split(" ")
    if len(words) != 3:
        raise _bad("a request line is METHOD TARGET VERSION")
    method, target, version = words
    if re.fullmatch(r"HTTP/1\.\d", version) is None:
        if version.startswith("HTTP/"):
            raise Refused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "only HTTP/1 is spoken here")
        raise _bad("a request line is METHOD TARGET VERSION")
    headers: dict[str, str] = {}
    for each in fields:
        name, colon, value = each.partition(":")
        if not colon or not _NAME.fullmatch(name):
            raise _bad(f"not a header: {each[:80]!r}")
        key, value = name.lower(), value.strip(" \t")
        if key == "content-length" and headers.get(key, value) != value:
            raise _bad("two values of Content-Length")
        headers[key] = value
    if method not in METHODS:
        why = f"{method[:20]} is not done here"
        raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, why, Allow=", ".join(METHODS))
    return Request(method, target, min(1, int(version[-1])), headers)


def _bad(why: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, why)
