"""Wheels and projects made here in a moment, so that no index is needed."""

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path

BACKEND = """
import zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "shop-1.0-{tag}.whl"
    with zipfile.ZipFile(folder + "/" + name, "w") as wheel:
        def add(path, text):
            wheel.writestr(zipfile.ZipInfo(path), text)
        with open("src/shop.py") as module:
            add("shop.py", module.read())
        info = "shop-1.0.dist-info/"
        add(info + "METADATA", "Metadata-Version: 2.1\\nName: shop\\nVersion: 1.0\\n")
        add(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: {tag}\\n")
        names = "shop.py", info + "METADATA", info + "WHEEL", info + "RECORD"
        add(info + "RECORD", "".join(name + ",,\\n" for name in names))
    return name
"""
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "shop"
version = "1.0"
requires-python = "{python}"
"""
MODULE = """
import colors
from gearman_py import Worker
worker = Worker("192.0.2.1")

@worker.function("paint", workload=True)
def paint(text):
    return colors.NAME + text.decode()
"""


def make_wheel(
    folder: Path,
    name: str,
    version: str,
    module: str,
    tag: str = "py3-none-any",
    needs: Sequence[str] = (),
) -> Path:
    """A wheel of one module, NAME.py."""
    depends = "".join(f"Requires-Dist: {each}\n" for each in needs)
    path = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": module,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{depends}",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = "".join(f"{each},,\n" for each in [*files, f"{info}/RECORD"])
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as wheel:
        for each, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(zipfile.ZipInfo(each), text)
    return path


def locked_line(wheel: Path) -> str:
    """A line of requirements.txt for it."""
    name, version = wheel.name.split("-")[:2]
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def make_project(folder: Path, *, tag: str = "py3-none-any", python: str = ">=3.11") -> None:
    """A project with a worker, and a build backend of its own."""
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "shop.py").write_text(MODULE)
    (folder / "backend.py").write_text(BACKEND.replace("{tag}", tag))
    (folder / "pyproject.toml").write_text(PYPROJECT.replace("{python}", python))
