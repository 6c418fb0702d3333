"""The RPM, built by rpmbuild, Debian's too, from the sdist and packages/rpm/ in it."""

import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

from packages.commands import run_command
from packages.debian_package import MAINTAINER

PROGRAMS = {"rpmbuild": "rpm"}
"""What it takes, and the Debian package that brings it."""


def build_rpm(sdist: Path, commit: str, epoch: str) -> Path:
    """The package of ``sdist``, built in a folder ``rpm`` beside it."""
    version = sdist.name.removesuffix(".tar.gz").partition("-")[2]
    folder = sdist.with_name("rpm")
    shutil.unpack_archive(sdist, folder, filter="data")
    (recipe,) = folder.glob("gearman_py-*/packages/rpm/gearman-py.spec")
    day = datetime.fromtimestamp(int(epoch), UTC).strftime("%a %b %d %Y")
    spec = folder / recipe.name
    spec.write_text(
        recipe.read_text().replace("@version@", version)
        + f"\n%changelog\n* {day} {MAINTAINER} - {version}-1\n- Built from commit {commit}.\n"
    )
    macros = {
        "_topdir": str(folder),
        "_sourcedir": str(sdist.parent),
        "__python3": sys.executable,
        "_buildhost": "localhost",
        "use_source_date_epoch_as_buildtime": "1",
        "clamp_mtime_to_source_date_epoch": "1",
    }
    defined = [word for name, value in macros.items() for word in ("--define", f"{name} {value}")]
    # Debian's rpm knows no package as installed, Python neither.
    command = ("rpmbuild", "-bb", "--nodeps", *defined, str(spec))
    run_command(*command, cwd=folder, SOURCE_DATE_EPOCH=epoch)
    return next(folder.glob("RPMS/noarch/*.rpm"))
