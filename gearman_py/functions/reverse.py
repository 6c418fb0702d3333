"""reverse: the bytes from last to first, as PHP's strrev."""


def reverse(workload: bytes) -> bytes:
    """``b"Hello"`` becomes ``b"olleH"``. Bytes, not characters: UTF-8 does not survive it."""
    return workload[::-1]
