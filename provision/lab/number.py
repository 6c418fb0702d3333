"""Which lab this process means: a machine can have several beside each other, told apart by number.

Each has its own hosts, network and inventory. The first is the one of ``inventory/lab``;
``GEARMAN_LAB=2 ./invoke lab.up`` boots the second and writes its inventory to ``.cache/lab-2``.
"""

import os

VARIABLE = "GEARMAN_LAB"
HIGHEST = 20


def read_number() -> int:
    """The number in ``GEARMAN_LAB``, 1 without it; a wrong one ends the program in one line."""
    text = os.environ.get(VARIABLE, "1")
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= HIGHEST:
        raise SystemExit(f"{VARIABLE}={text!r} is not a lab; expected a number from 1 to {HIGHEST}")
    return int(text)


NUMBER = read_number()
SUFFIX = "" if NUMBER == 1 else f"-{NUMBER}"
