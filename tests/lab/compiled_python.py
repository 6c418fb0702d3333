"""A Python that an operator compiled on a system whose own is too old: /usr/local/bin/python3.11.

Without curses, as it is where libncurses-dev was forgotten.
"""

import subprocess

from provision.lab.hosts import find_machine
from tests.lab.compiled import compile_on

PATH = "/usr/local/bin/python3.11"
LIBRARIES = "libbz2-dev libffi-dev liblzma-dev libsqlite3-dev libssl-dev zlib1g-dev"
COMMANDS = """
cd Python-*
./configure --without-ensurepip --disable-test-modules
make -j2
make altinstall DESTDIR=/built
"""


def install(host: str, suite: str) -> None:
    """Install it on a lab host of a suite. It takes some minutes, once on a machine."""
    built = compile_on(suite, f"build-essential {LIBRARIES}", "python3.11", COMMANDS)
    subprocess.run(["tar", "-xf", built, "-C", find_machine(host).tree], check=True)
