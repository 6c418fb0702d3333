"""wc: how many lines, as ``wc -l`` prints it for its standard input."""


def wc(workload: bytes) -> bytes:
    """The number of newlines in decimal, and a newline: ``b"31\\n"``."""
    return b"%d\n" % workload.count(b"\n")
