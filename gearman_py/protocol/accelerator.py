"""What is done for each packet: in C where the accelerator is installed, else in Python.

The accelerator, gearman_py/_speedups*.c, is optional: it is built where gearman_py is installed
from its source by a machine that has a C compiler. With GEARMAN_PURE=1 in the environment it is
neither built nor used. :mod:`gearman_py.protocol.framing` is the same in Python, and its
definition.
"""

import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any

from gearman_py.protocol import framing

PURE = "GEARMAN_PURE"


def _find_accelerator() -> Any:
    if os.environ.get(PURE, "") not in ("", "0"):
        return None
    try:
        return importlib.import_module("_gearman_speedups")
    except ImportError:
        return None


_accelerator = _find_accelerator()
IN_USE = _accelerator is not None
split_packets, new_workload = framing.split_packets, framing.new_workload
response, response_parts = framing.response, framing.response_parts
if IN_USE:
    split_packets, new_workload = _accelerator.split_packets, _accelerator.new_workload
    response, response_parts = _accelerator.response, _accelerator.response_parts


def accelerate_broker(facts: Mapping[str, object]) -> Callable[..., int] | None:
    """What handles messages for a broker, in C; None if it cannot."""
    if not IN_USE:
        return None
    try:
        _accelerator.learn_broker(facts)
    except (ImportError, AttributeError):
        return None
    handle: Callable[..., int] = _accelerator.handle_messages
    return handle
