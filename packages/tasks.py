"""Tasks that make what others install or read: packages, a release, the site."""

from collections.abc import Sequence

from invoke.context import Context

from provision.cli import ROOT, command, run_python
from provision.errors import ToolkitError
from provision.lab import programs as local


@command(help={"to": "the folder that it is put into (build/site)"})
def site(c: Context, to: str = "build/site") -> int:
    """Build the documentation site from docs/; a broken link in a page is an error."""
    status = run_python("-m", "sphinx", "-q", "-E", "-W", "--keep-going", "docs", to)
    if not status:
        print(f"{to}/index.html")
    return status


@command(
    iterable=["format"],
    help={
        "dist": "the folder that they are put into (dist)",
        "format": "deb or rpm, beside sdist and wheel (repeatable; both where they can be built)",
    },
)
def package(c: Context, dist: str = "dist", format: Sequence[str] | None = None) -> None:
    """Build the last commit's packages, sdist and wheel: the same bytes every time."""
    from packages.build import build_packages

    build_packages(ROOT / dist, print, formats=_formats(format))


@command(
    help={
        "dist": "the folder that the files are put into (dist)",
        "key": "the OpenPGP key that signs (gpg's default key)",
    }
)
def release(c: Context, dist: str = "dist", key: str = "") -> None:
    """Date what the changelog has as unreleased; build, check, sign and tag that version."""
    from packages.release import make_release

    make_release(ROOT / dist, print, key=key, formats=_formats())


def _formats(asked: Sequence[str] | None = None) -> list[str]:
    """Those asked for, or that can be built on this machine."""
    from packages.build import PACKAGERS

    if unknown := sorted({*(asked or ())} - {*PACKAGERS}):
        raise ToolkitError(f"unknown format {unknown[0]!r}; expected {' or '.join(PACKAGERS)}")
    usable = []
    for name in asked or PACKAGERS:
        try:
            local.ensure(PACKAGERS[name], print)
        except ToolkitError as error:
            if asked:
                raise
            print(f"{error}; the {name} is left out")
        else:
            usable.append(name)
    return usable
