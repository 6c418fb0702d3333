"""The agent's side of a connection whose other side says nothing."""

import os
from collections.abc import Iterator

import pytest

from provision.agent.link import FrameLink


@pytest.fixture
def link() -> Iterator[FrameLink]:
    incoming, operator = os.pipe()
    outgoing = os.open(os.devnull, os.O_WRONLY)
    yield FrameLink(incoming, outgoing)
    for each in (incoming, operator, outgoing):
        os.close(each)
