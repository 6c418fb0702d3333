"""What was tried against the toolkit, declared beside the test that tries it.

``pytest -m attack`` runs these tests; the table in docs/security.md is written from their marks.
"""

from typing import Literal

import pytest

Attacker = Literal[
    "peer on the network",
    "compromised host",
    "local user",
    "user who logs in",
    "user of a service",
    "in the middle",
    "colleague",
    "code of an app",
]


def attack(
    attacker: Attacker, tried: str, result: Literal["held", "mended"]
) -> pytest.MarkDecorator:
    """The test does what was ``tried``. "held": nothing had to be changed; "mended": it had."""
    return pytest.mark.attack(attacker, tried, result)
