"""docs/own-workers.md: from an empty folder to a rolled upgrade, as it stands there."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.lab.hosts import INVENTORY, NETWORK, root
from tests.lab.operator_commands import ROOT
from tests.lab.test_upgrade import invoke

PAGE = ROOT / "docs" / "own-workers.md"
WHO = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b"}
WHO |= {key.replace("AUTHOR", "COMMITTER"): value for key, value in WHO.items()}


def blocks() -> list[tuple[str, str]]:
    """(language, text) of each block of the guide, in this lab."""
    guide = PAGE.read_text().partition("## Ten minutes")[2].partition("\n## ")[0]
    guide = guide.replace("198.18.10", NETWORK).replace("inventory/lab", str(INVENTORY))
    return re.findall(r"```(\w+)\n(.*?)```", guide, re.DOTALL)


@pytest.fixture
def home(lab: ModuleType, tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    assert invoke(ROOT, "deploy", "--yes").status == 0
    assert root(lab, "worker1", "ls -d /opt/gearman/apps || true") == ""


def test_the_guide_is_true_to_the_letter(home: Path) -> None:
    environment = {**os.environ, **WHO, "HOME": str(home)}
    environment.pop("PYTHONPATH", None)
    for language, text in blocks():
        if language != "sh":
            path = re.match(r"# ~/(\S+)\n", text)
            assert path, text
            (home / path[1]).write_text(text)
            continue
        done = subprocess.run(
            ["sh", "-ex"],
            input=text,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout
        for answer in re.findall(r"-f size \d+ +# (.*)", text):
            assert answer in done.stdout.splitlines(), done.stdout
