"""Our program in its two kinds: pure Python, and with the accelerator."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from gearman_py.protocol.accelerator import PURE as PURE_VARIABLE
from packages.accelerator import CannotBuild, build_accelerator

ROOT = Path(__file__).resolve().parents[2]
PURE, ACCELERATED = "pure", "accelerated"
ROUNDS = int(os.environ.get("ROUNDS", "3"))  # of which the median is shown
Environment = Mapping[str, str]
PURE_ENVIRONMENT: Environment = {PURE_VARIABLE: "1"}


@contextmanager
def both_kinds() -> Iterator[Mapping[str, Environment]]:
    """The environment of each kind. The accelerator is built for this; where it cannot be, the
    reason is shown, and only the pure kind is there."""
    kinds = {PURE: PURE_ENVIRONMENT}
    with tempfile.TemporaryDirectory() as folder:
        try:
            build_accelerator(ROOT, Path(folder))
            kinds[ACCELERATED] = {PURE_VARIABLE: "", "PYTHONPATH": folder}
        except CannotBuild as error:
            print(f"pure alone: {error}")
        yield kinds
