"""Phrases that a native speaker would not write stay out of what users and contributors read."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# "X is not a Y", "again" or "re-": see docs/contributing.md.
WORST = re.compile(
    r"\bis no (?!longer\b)|\bnobody\b|\bso many\b|\banew\b|\bin hand\b|\bof before\b|\bwhat is no ",
    re.IGNORECASE,
)
# What was read through so far.
READ = [
    *(ROOT / "gearman_py").glob("*.py"),
    *(
        file
        for room in (
            *(
                "admin",
                "broker",
                "cli",
                "client",
                "compat",
                "functions",
                "net",
                "protocol",
                "worker",
            ),
        )
        for file in (ROOT / "gearman_py" / room).glob("*.py")
    ),
    *(
        file
        for room in ("admin", "broker", "cli", "client", "functions", "protocol", "worker")
        for file in (ROOT / "tests" / room).glob("*.py")
    ),
    ROOT / "gearman_py/README.md",
    *(ROOT / "gearman_py" / "server").glob("*.py"),
    *(ROOT / "gearman_py" / "store").glob("*.py"),
    *(ROOT / "provision").rglob("*.py"),
    *(ROOT / "provision").rglob("*.yml"),
    *(ROOT / "roles").glob("*.py"),
    *(ROOT / "templates").iterdir(),
    *(ROOT / "packages").glob("*.py"),
    *(path for path in (ROOT / "packages" / "debian").iterdir() if path.is_file()),
    *(ROOT / "examples" / "containers").iterdir(),
    ROOT / "tasks.py",
    ROOT / "README.md",
    *(
        ROOT / "docs" / f"{page}.md"
        for page in (
            *("README", "connecting", "contributing", "differences", "distributions", "doctor"),
            "faults",
            *("firewall", "inventory", "operator", "own-workers", "protocol", "third-party", "tls"),
            *("containers", "packages", "resize", "upgrades", "worker-author"),
        )
    ),
]
NAMES = re.compile(r"\bNOBODY\b|\"nobody\"")  # the account and group of that name


@pytest.mark.parametrize("path", READ, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_worst_phrases_are_not_used(path: Path) -> None:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        found = WORST.search(NAMES.sub("", line))
        assert not found, f"{path}:{number}: {found}"
