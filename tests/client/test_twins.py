"""Blocking modules are their asyncio twins without ``await``."""

import pytest

from tests.twins import ROOT, TWINS, blocking_source


@pytest.mark.parametrize("path", TWINS)
def test_a_blocking_module_is_up_to_date(path: str) -> None:
    written = (ROOT / TWINS[path]).read_text()
    assert written == blocking_source(path), "run .venv/bin/python -m tests.twins"
