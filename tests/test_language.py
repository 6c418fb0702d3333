"""Phrases that a native speaker would not write stay out of what users and contributors read."""

import re
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# "X is not a Y", "again" or "re-": see docs/contributing.md.
WORST = [
    re.compile(phrase)  # what begins with letters is found ten times faster
    for phrase in (
        *(r"is no (?!longer\b)", "what is no ", "for what (is not|cannot)"),
        *(r"nobody\b", r"somebody\b", r"so many\b", r"anew\b", r"in hand\b", r"of before\b"),
        *(r"for ever\b", r"(?<!are )all the same\b", r"this very\b", r"that very\b"),
        *(r"is told of\b", r"are told of\b", r"errors? of this package\b", r"parted by\b"),
        *(r"newcomers?\b", r"when it is not there\b", r"let go of\b", r"says no\b"),
    )
]
WORD_START = re.compile(r"\b")
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
# As it is typed in the checkout, where `invoke` alone is not found.
BARE_INVOKE = re.compile(
    r"`invoke [a-z]|(?<![./\w-])invoke (?:check|deploy|doctor|drain|history|lab|lock|logs|plan"
    r"|releases|retire|rollback|run|smoke|status|trust|undrain|upgrade|web)\b"
)
NAMES = re.compile(r"\bNOBODY\b|\"nobody\"")  # the account and group of that name


def test_commands_of_the_toolkit_are_named_as_they_are_typed() -> None:
    texts = {path: path.read_text() for path in READ if ROOT / "tests" not in path.parents}
    found = [
        f"{path}:{text.count(chr(10), 0, phrase.start()) + 1}: {phrase[0]!r}"
        for path, text in texts.items()
        for phrase in BARE_INVOKE.finditer(text)
    ]
    assert not found, "\n".join(found)


def test_the_worst_phrases_are_not_used() -> None:
    found = []
    for path in READ:
        text = NAMES.sub("", path.read_text()).lower()
        for phrase in chain.from_iterable(each.finditer(text) for each in WORST):
            if WORD_START.match(text, phrase.start()):
                line = text.count("\n", 0, phrase.start()) + 1
                found.append(f"{path}:{line}: {phrase[0]!r}")
    assert not found, "\n".join(found)
