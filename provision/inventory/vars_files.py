"""Variables in group_vars/ and host_vars/, found where Ansible finds them.

The first of NAME, NAME.yml, NAME.yaml and NAME.json counts; if it is a folder, all of its files.
Only what is said of our hosts and their groups is read.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from provision.inventory.schema import Variables, read_variables_file

SUFFIXES = (".yml", ".yaml", ".json")


class VarsFolder:
    """`group_vars` or `host_vars` of an inventory. ``warnings``: what to say of its files."""

    def __init__(self, folder: Path, warnings: list[str]) -> None:
        self._folder = folder
        self._warnings = warnings
        self._read: dict[str, Variables] = {}

    def variables_of(self, name: str) -> Variables:
        """What is said of a group or host. Raises :class:`InventoryError`."""
        if name not in self._read:
            found: Variables = {}
            for path in self._files_of(name):
                found |= read_variables_file(path, self._warnings)
            self._read[name] = found
        return self._read[name]

    def unknown_names(self, known: Iterable[str]) -> Iterator[Path]:
        """Files of which nothing in this inventory has the name."""
        known = set(known)
        for path in sorted(self._folder.glob("[!.]*")):
            name = path.stem if path.suffix in SUFFIXES else path.name
            if name not in known and path.name not in known and not path.name.endswith("~"):
                yield path

    def _files_of(self, name: str) -> Iterator[Path]:
        if "/" in name or "\0" in name or name in (".", ".."):
            return  # which is the name of no file
        for path in (self._folder / f"{name}{suffix}" for suffix in ("", *SUFFIXES)):
            if path.is_dir():
                yield from _files_within(path)
                return
            if path.is_file():
                yield path
                return


def _files_within(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name.endswith("~"):
            continue
        if path.is_dir() and not path.suffix:
            yield from _files_within(path)
        elif path.is_file() and path.suffix in ("", *SUFFIXES):
            yield path
