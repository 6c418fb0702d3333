"""Instructions that a process takes, counted by callgrind; what else runs does not matter."""

import re

COMMAND = ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")
"""What runs a program so that it tells."""


def read_instructions(said: str) -> int:
    """What it told on stderr."""
    found = re.search(r"Collected : (\d+)", said)
    assert found is not None, said
    return int(found[1])
