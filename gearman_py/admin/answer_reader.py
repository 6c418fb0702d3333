"""The answers of a server to administrative commands, from the bytes that it sends."""

from collections import deque

ANSWER_LIMIT = 1 << 27  # bytes that an answer may take in memory
LINE_SIZE = 64  # bytes that a line takes besides its text


class AnswerReader:
    """Parts what a server sends into answers: lines, and listings that end with a single ``.``

    Commands end with CR LF: the C server needs it after ``create function`` and accepts it
    everywhere. An answer is bounded: a server may never come to its end.
    """

    def __init__(self) -> None:
        self._size = 0  # bytes in memory
        self._unread = bytearray()
        self._lines: deque[str] = deque()
        self._listing: list[str] = []

    def receive_data(self, data: bytes) -> None:
        """Take bytes that were read. Raises OSError when an answer is too long."""
        self._size += len(data) + LINE_SIZE * data.count(b"\n")
        if self._size > ANSWER_LIMIT:
            raise OSError(f"an answer of more than {ANSWER_LIMIT >> 20} MiB")
        self._unread += data
        if b"\n" in data:
            *lines, self._unread = self._unread.split(b"\n")
            self._lines += (
                line.removesuffix(b"\r").decode(errors="backslashreplace") for line in lines
            )

    def next_answer(self, *, listing: bool) -> list[str] | None:
        """The lines of the next answer, if it is complete; an error is one line, ERR."""
        while self._lines:
            line = self._lines.popleft()
            if not listing or (not self._listing and line.startswith("ERR ")):
                self._size = 0
                return [line]
            if line == ".":
                self._size = 0
                answer, self._listing = self._listing, []
                return answer
            self._listing.append(line)
        return None
