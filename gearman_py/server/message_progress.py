"""Whether a peer completes its messages in time."""

# Close the connection of a peer that for this long (seconds) ...
SILENT_LIMIT = 30.0
# ... has sent less than this of an incomplete message (bytes per second).
LEAST_RATE = 1024


class MessageProgress:
    """How many messages a peer had begun, and bytes sent, when it was last found to be in time."""

    __slots__ = ("_begun", "_received", "_since")

    def __init__(self, now: float) -> None:
        self._begun = self._received = 0
        self._since = now

    def check(self, begun: int, received: int, now: float, *, partial: bool) -> str:
        """The reason to close the connection of a peer that does not complete a message, or "".

        ``partial``: it has sent a part of one, and may send the rest.
        """
        seconds = now - self._since
        rate = (received - self._received) / max(seconds, 1.0)
        if not partial or begun != self._begun or rate >= LEAST_RATE:
            self._begun, self._received, self._since = begun, received, now
        elif seconds > SILENT_LIMIT:
            return f"sent less than {LEAST_RATE} bytes a second of a message for {SILENT_LIMIT:g} s"
        return ""
