"""The bundled functions: plain bytes in, plain bytes out."""

import subprocess

from hypothesis import given, settings
from hypothesis import strategies as st

from gearman_py.functions import BUNDLED, load_function
from gearman_py.functions.reverse import reverse
from gearman_py.functions.wc import wc
from tests.properties import depth


def test_every_bundled_name_loads() -> None:
    assert {name: load_function(name).__name__ for name in BUNDLED} == {
        name: name for name in BUNDLED
    }


@given(st.binary())
def test_reverse_is_its_own_inverse(data: bytes) -> None:
    assert reverse(reverse(data)) == data


def test_reverse_is_strrev() -> None:
    assert reverse(b"Hello World!") == b"!dlroW olleH"


@settings(max_examples=depth(25))
@given(st.lists(st.sampled_from([b"\n", b"\r", b"\0", b"a", b"\xff"])).map(b"".join))
def test_wc_is_what_wc_prints(data: bytes) -> None:
    assert wc(data) == subprocess.run(["wc", "-l"], input=data, capture_output=True).stdout
