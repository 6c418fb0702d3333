"""Sockets and files that are left to the garbage collector."""

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def all_closed() -> Iterator[None]:
    """Fail if the block leaves an open socket or file; what it uses must be garbage at its end."""
    gc.collect()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", ResourceWarning)
        yield
        gc.collect()
    assert not [str(each.message) for each in seen if each.category is ResourceWarning]
