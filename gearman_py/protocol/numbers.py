"""Numbers in packets, read as the C server reads them."""

# The end of the year 9999: a later epoch is a mistake, and so is a time limit of more ms.
MAX_EPOCH = 253402300799


def decimal(text: bytes) -> int:
    """The decimal number that the bytes begin with, as in C's atoi but of any size; else 0."""
    digits = text.lstrip()
    sign = -1 if digits[:1] == b"-" else 1
    digits = digits.lstrip(b"+-")[:20]
    length = next((i for i, byte in enumerate(digits) if not 48 <= byte <= 57), len(digits))
    return sign * int(digits[:length] or 0)
