"""docs/third-party.md names what releases ship, as those packages themselves say it."""

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest

from provision.inventory.queue import DRIVERS
from provision.release.build import locked_wheels

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| `([\w-]+)` \| ([^|]+) \| [^|]+ \| ([^|]+) \|$", re.MULTILINE)
PAGE = {
    name: (licence, {word.split()[0] for word in libraries.split(", ")})
    for name, licence, libraries in ROW.findall((ROOT / "docs" / "third-party.md").read_text())
}
# Of packages that declare it by a classifier alone.
LICENCES = {"License :: OSI Approved :: BSD License": "BSD-3-Clause", "Apache 2": "Apache-2.0"}


def is_installed(name: str) -> bool:
    """async-timeout is not on a Python later than 3.11.2, which Debian 12 has."""
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def licence_files(package: Distribution) -> list[str]:
    """Below .dist-info."""
    names = (str(path).partition(".dist-info/")[2] for path in package.files or ())
    return [name for name in names if "licens" in name.lower()]


def test_every_package_of_a_release_is_named_and_no_other() -> None:
    assert set(PAGE) == {entry.split("==")[0] for entry in locked_wheels(ROOT, tuple(DRIVERS))}


@pytest.mark.parametrize("name", [name for name in PAGE if is_installed(name)])
def test_its_licence_is_the_one_that_it_declares_and_the_wheel_holds_the_text(name: str) -> None:
    package = distribution(name)
    metadata = package.metadata.json
    found = metadata.get("license_expression") or metadata.get("license")
    (classified,) = {LICENCES.get(each) for each in metadata["classifier"]} - {None} or {None}
    declared = str(found or classified).removesuffix(" License")
    assert LICENCES.get(declared, declared) == PAGE[name][0]
    assert licence_files(package)


def test_libraries_within_pillow_are_those_whose_licences_it_ships() -> None:
    text = distribution("pillow").read_text("licenses/LICENSE") or ""
    assert {heading.lower() for heading in re.findall(r"^[A-Z0-9]{3,}$", text, re.MULTILINE)} == (
        PAGE["pillow"][1]
    )
