"""A GIF without the comments and application data in front of its first frame."""

from gearman_py.functions.limits import MAX_PIECES

_EXTENSION, _GRAPHIC_CONTROL = 0x21, 0xF9


def without_comments(workload: bytes) -> bytes:
    """The file as it is decoded; Pillow would keep what is left out here in memory, and slowly.

    Raises ValueError if there are more blocks than a program writes.
    """
    try:
        return _without_comments(workload)
    except IndexError:
        raise ValueError("it ends before its first frame") from None


def _without_comments(workload: bytes) -> bytes:
    flags, at = workload[10], 13
    if flags & 0x80:
        at += 3 << ((flags & 7) + 1)  # its palette
    kept, pieces = [workload[:at]], 0
    while workload[at] == _EXTENSION:
        start, kind, at = at, workload[at + 1], at + 2
        while size := workload[at]:
            at += 1 + size
            if (pieces := pieces + 1) > MAX_PIECES:
                raise ValueError(f"it has more than {MAX_PIECES} blocks")
        at += 1
        if kind == _GRAPHIC_CONTROL:
            kept.append(workload[start:at])
    return b"".join((*kept, workload[at:]))
