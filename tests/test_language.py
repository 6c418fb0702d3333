"""Phrases that a native speaker would not write stay out of what users and contributors read."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# "X is not a Y", "again" or "re-": see docs/contributing.md.
WORST = re.compile(
    r"\bis no (?!longer\b)|\b(no|some)body\b|\bso many\b|\banew\b|\bin hand\b|\bof before\b"
    r"|\bwhat is no |\bfor ever\b|(?<!are )\ball the same\b|\b(this|that) very\b"
    r"|\b(is|are) told of\b|\bfor what (is not|cannot)\b|\berrors? of this package\b"
    r"|\bparted by\b|\bnewcomers?\b|\bwhen it is not there\b|\blet go of\b|\bsays no\b",
    re.IGNORECASE,
)
READ = [
    *(file for room in ("gearman_py", "provision") for file in (ROOT / room).rglob("*.py")),
    *(ROOT / "provision").rglob("*.yml"),
    *(ROOT / "roles").glob("*.py"),
    *(ROOT / "packages").glob("*.py"),
    *(file for file in (ROOT / "packages" / "debian").iterdir() if file.is_file()),
    *(file for file in (ROOT / "examples").rglob("*") if file.is_file()),
    *(ROOT / "monitoring").iterdir(),
    *(ROOT / "templates").iterdir(),
    *(ROOT / "gearman_py" / "web" / "templates").iterdir(),
    ROOT / "gearman_py" / "web" / "static" / "live.js",
    *(ROOT / "docs").glob("*.md"),
    *(
        file
        for room in (
            "provision/inventory",
            "admin",
            "broker",
            "cli",
            "client",
            "functions",
            "protocol",
            "web",
            "worker",
        )
        for file in (ROOT / "tests" / room).glob("*.py")
    ),
    ROOT / "gearman_py" / "README.md",
    ROOT / "README.md",
    ROOT / "tasks.py",
    ROOT / "packages" / "tasks.py",
    ROOT / "tests" / "tasks.py",
]
NAMES = re.compile(r"\bNOBODY\b|\"nobody\"")  # the account and group of that name


def test_the_worst_phrases_are_not_used() -> None:
    found = []
    for path in READ:
        text = NAMES.sub("", path.read_text())
        for phrase in WORST.finditer(text):
            line = text.count("\n", 0, phrase.start()) + 1
            found.append(f"{path}:{line}: {phrase[0]!r}")
    assert not found, "\n".join(found)
