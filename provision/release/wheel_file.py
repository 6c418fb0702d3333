"""What a wheel file says of itself: its name and version, and what it depends on.

https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

import re
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from packaging.metadata import Metadata
from packaging.utils import canonicalize_name, parse_wheel_filename

from provision.errors import ToolkitError

METADATA = re.compile(r"[^/]+\.dist-info/METADATA")


def read_wheel(wheel: Path) -> Metadata:
    """Raises :class:`ToolkitError` if it is not a wheel, or not the one that it is named as."""
    try:
        name, version, *_ = parse_wheel_filename(wheel.name)
        with ZipFile(wheel) as archive:
            paths = [each for each in archive.namelist() if METADATA.fullmatch(each)]
            found = Metadata.from_email(archive.read(paths[0]), validate=False) if paths else None
        if found is None:
            raise ToolkitError(f"{wheel} is not a wheel: it has no METADATA")
        said = canonicalize_name(found.name), found.version
    except (BadZipFile, OSError, ValueError) as error:
        raise ToolkitError(f"{wheel} is not a wheel: {error}") from None
    if said != (name, version):
        raise ToolkitError(f"{wheel} is renamed: it is a wheel of {found.name} {found.version}")
    return found
