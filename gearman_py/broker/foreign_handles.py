"""Handles of jobs that other servers numbered."""


class ForeignHandles(dict[int, bytes]):
    """The handles of adopted jobs by number. ``numbers`` is the inverse."""

    __slots__ = ("numbers",)

    def __init__(self) -> None:
        self.numbers: dict[bytes, int] = {}

    def add(self, number: int, handle: bytes) -> None:
        self[number] = handle
        self.numbers[handle] = number

    def remove(self, number: int) -> None:
        del self.numbers[self.pop(number)]
