"""A release's bill of materials, in CycloneDX's JSON: https://cyclonedx.org/docs/1.5/json/

It holds neither a time nor a serial number: a release's bytes depend on its content alone.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.metadata import Metadata
from packaging.utils import canonicalize_name

from provision.release.wheel_file import read_wheel

SBOM = "sbom.cdx.json"


def make_sbom(name: str, version: str, release: Path) -> bytes:
    """What the release in a folder consists of: its wheels. ``version`` may be unknown: "".

    Raises :class:`ToolkitError` for one that is not a wheel.
    """
    component = {"type": "application", "name": name} | ({"version": version} if version else {})
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component},
        "components": [_describe(wheel) for wheel in sorted(release.glob("*/*.whl"))],
    }
    return json.dumps(document, indent=2).encode() + b"\n"


def _describe(wheel: Path) -> dict[str, Any]:
    metadata = read_wheel(wheel)
    name, version = canonicalize_name(metadata.name), str(metadata.version)
    url = f"pkg:pypi/{name}@{version}"
    described: dict[str, Any] = {
        "type": "library",
        "bom-ref": url,
        "name": name,
        "version": version,
        "purl": url,
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(wheel.read_bytes()).hexdigest()}],
    }
    if metadata.license_expression:
        described["licenses"] = [{"expression": str(metadata.license_expression)}]
    elif names := list(_license_names(metadata)):
        described["licenses"] = [{"license": {"name": each}} for each in names]
    return described


def _license_names(metadata: Metadata) -> Iterator[str]:
    """Those of earlier metadata: a text, whose first line is the name, or classifiers."""
    if metadata.license:
        yield metadata.license.strip().splitlines()[0]
    else:
        classifiers = metadata.classifiers or ()
        yield from (each.split(" :: ")[-1] for each in classifiers if each.startswith("License ::"))
