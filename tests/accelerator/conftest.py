import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

from packages.accelerator import NAME, CannotBuild, build_accelerator

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The accelerator of this tree, in a folder of its own; $ACCELERATOR_FLAGS are gcc's."""
    flags = os.environ.get("ACCELERATOR_FLAGS", "-Werror").split()
    try:
        return build_accelerator(ROOT, tmp_path_factory.mktemp("accelerator"), *flags)
    except CannotBuild as error:
        if "failed:" in str(error):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def native(built: Path) -> Any:
    """It, imported beside what this process uses."""
    spec = importlib.util.spec_from_file_location(NAME, built)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
