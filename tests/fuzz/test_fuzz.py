"""What strangers send ends nothing: what is known, and what a fuzzer makes of it in a moment."""

import os
from importlib.util import find_spec

import pytest

from tests.fuzz.__main__ import fuzz
from tests.fuzz.seeds import inputs
from tests.fuzz.targets import TARGETS
from tests.tally import tally

pytestmark = pytest.mark.slow

SECONDS = int(os.environ.get("SECONDS_OF_FUZZING", "2"))


@pytest.mark.parametrize("name", TARGETS)
def test_known_input_ends_nothing(name: str) -> None:
    for data in inputs(name):
        TARGETS[name](data)
        TARGETS[name](data[: len(data) // 2])


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.timeout(SECONDS + 300)
def test_a_fuzzer_ends_nothing(name: str) -> None:
    if find_spec("atheris") is None:
        pytest.skip("needs atheris, which is made for fewer systems than Python")
    tried = fuzz(name, SECONDS)
    assert tried > 0
    tally("fuzzing", targets=1, inputs=tried, crashes=0)
