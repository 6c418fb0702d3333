"""A large packet that has come in part: its workload is gathered where it will stay.

Each byte of it is copied at most once, and not at all by who reads it from a socket straight into
:meth:`LargePacket.room`.
"""

import ctypes
from collections.abc import Callable

from gearman_py.protocol.framing import HEADER, HEADER_SIZE, LARGE, Message, split_arguments
from gearman_py.protocol.packets import ARGUMENT_COUNT

WRITABLE = 0x200  # PyBUF_WRITE


class LargePacket:
    """One whose arguments before the workload are known."""

    def __init__(
        self, number: int, arguments: list[bytes], size: int, new_workload: "NewWorkload"
    ) -> None:
        *self._before, begun = arguments
        self._number, self._size = number, size
        # Those before the workload are each followed by a NUL.
        length = size - HEADER_SIZE - sum(map(len, self._before)) - len(self._before)
        self._workload, self._whole = new_workload(length)
        self._whole[: len(begun)] = begun
        self._came = len(begun)

    @property
    def missing(self) -> int:
        """The number of bytes that are still to come."""
        return len(self._whole) - self._came

    @property
    def held(self) -> int:
        """The number of bytes that have come, with the header."""
        return self._size - self.missing

    @property
    def summary(self) -> tuple[int, int, bytes]:
        """Its number, its bytes in all, and its first argument."""
        return self._number, self._size, self._before[0] if self._before else b""

    def room(self) -> memoryview:
        """Where its next bytes belong: tell :meth:`filled` how many of them have come."""
        return self._whole[self._came :]

    def filled(self, count: int) -> None:
        """``count`` bytes were written to the beginning of :meth:`room`."""
        self._came += count

    def add(self, data: bytes) -> bytes:
        """Add what has come; return what comes after the packet."""
        if self.missing < len(data):
            rest = data[self.missing :]
            data = data[: self.missing]
        else:
            rest = b""
        self._whole[self._came : self._came + len(data)] = data
        self._came += len(data)
        return rest

    def message(self) -> Message:
        """The packet, when nothing is missing: it may not be added to any more."""
        return self._number, [*self._before, self._workload]

    def pack(self, magic: bytes) -> bytes:
        """The bytes that have come, as another decoder would read them."""
        head = HEADER.pack(magic, self._number, self._size - HEADER_SIZE)
        return head + b"\0".join((*self._before, self._whole[: self._came]))


def begin_large(data: bytes, magic: bytes, size: int) -> LargePacket | None:
    """A packet of ``size`` bytes with its header, of which ``data`` has come.

    None: it is not large, not valid, or its arguments before the workload have not come yet.
    """
    if size <= LARGE or NEW_WORKLOAD is None:
        return None
    begun, number, _ = HEADER.unpack_from(data)
    count = ARGUMENT_COUNT[number] if begun == magic else None
    if not count:
        return None
    arguments = split_arguments(data, HEADER_SIZE, len(data), count)
    return LargePacket(number, arguments, size, NEW_WORKLOAD) if len(arguments) == count else None


NewWorkload = Callable[[int], tuple[bytes, memoryview]]
"""Makes an object of this many bytes, and the memory in it, which is written before it is used."""


def _find_new_workload() -> NewWorkload | None:
    """CPython lets who has made an object of bytes fill it (PyBytes_FromStringAndSize)."""
    python = getattr(ctypes, "pythonapi", None)
    if python is None:
        return None
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t)
    find = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)
    view = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int)
    new_bytes = make(("PyBytes_FromStringAndSize", python))
    address_of = find(("PyBytes_AsString", python))
    view_memory = view(("PyMemoryView_FromMemory", python))

    def new_workload(size: int) -> tuple[bytes, memoryview]:
        workload = new_bytes(None, size)
        return workload, view_memory(address_of(workload), size, WRITABLE)

    return new_workload


NEW_WORKLOAD = _find_new_workload()
