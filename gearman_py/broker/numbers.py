"""Numbers in packets, read as the C server reads them."""

# An epoch beyond this (the year 9999) is a mistake; so is a time limit of that many ms.
MAX_EPOCH = 253402300799


def decimal(text: bytes) -> int:
    """A decimal number as C's atoi reads it, of any size: 0 when it does not begin with one."""
    digits = text.lstrip()
    sign = -1 if digits[:1] == b"-" else 1
    digits = digits.lstrip(b"+-")[:20]
    length = next((i for i, byte in enumerate(digits) if not 48 <= byte <= 57), len(digits))
    return sign * int(digits[:length] or 0)
