"""The numbers of a server's answers; what makes no sense is refused."""

from gearman_py.protocol.numbers import MAX_EPOCH

# The sums over a fleet's functions and servers are integers of 64 bits in the dashboard's history.
LARGEST = 2**48


def parse_count(text: str) -> int:
    """A whole number. Raises ValueError if it is not one, or is beyond ``LARGEST``."""
    value = int(text)
    if abs(value) > LARGEST:
        raise ValueError(f"{text} is too large")
    return value


def parse_seconds(text: str) -> float:
    """A duration in seconds. Raises ValueError if it is not one, or is beyond ``LARGEST``."""
    value = float(text)
    if not abs(value) <= LARGEST:  # "nan" is not, either
        raise ValueError(f"{text} is not a number of seconds")
    return value


def parse_moment(text: str) -> float:
    """A time in seconds since 1970. Raises ValueError if it is not one, or after ``MAX_EPOCH``."""
    value = float(text)
    if not 0 <= value <= MAX_EPOCH:
        raise ValueError(f"{text} is not a time in seconds since 1970")
    return value
