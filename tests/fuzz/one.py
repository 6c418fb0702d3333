"""One target in a process of its own, as libFuzzer wants it: NAME and libFuzzer's options."""

import logging
import sys
from importlib import import_module

import atheris  # type: ignore[import-untyped]  # it has no types

# What a target imports late is to be instrumented too.
LATE = ("gearman_py.functions.resize", "gearman_py.store.sqlite", "provision.inventory.load")

with atheris.instrument_imports(include=["gearman_py", "provision"]):
    for module in LATE:
        import_module(module)
    from tests.fuzz.targets import TARGETS

logging.disable()  # it would be told of each damaged file
name = sys.argv.pop(1)
atheris.Setup(sys.argv, TARGETS[name])
atheris.Fuzz()
