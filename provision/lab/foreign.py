"""Hosts of another machine than this one: Debian for arm64, whose programs QEMU runs (qemu-user).

The kernel starts QEMU for each program of such a tree, and does so until it is restarted
(binfmt_misc). QEMU's own name would be the first word of each command line that /proc shows, and
from there the toolkit takes what a process runs. So the kernel is told to start LAUNCHER, which
starts QEMU, of which each tree has a copy, in the program's name.
"""

import platform
import shutil
import tempfile
from pathlib import Path

from provision.errors import ToolkitError
from provision.lab.programs import Say, ensure, execute

SUITE = "arm64"
"""What the lab calls such a host: Debian's word for the machine."""

RELEASE = "bookworm"
EMULATOR = Path("/usr/bin/qemu-aarch64-static")
EMULATOR_ON_HOSTS = "usr/libexec/qemu-aarch64"
PROGRAMS = {
    str(EMULATOR): "qemu-user-static",
    "gcc": "gcc",
    "/usr/lib/x86_64-linux-gnu/libc.a": "libc6-dev",
}
"""Program, or file -> its Debian package."""

FORMATS = Path("/proc/sys/fs/binfmt_misc")
NAME = "gearman-lab-arm64"
PROGRAM_HEADER = (  # of ELF, 64 bits, a program or a library, for AArch64; and which bits count
    r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00",
    r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff",
)
FLAGS = "POCF"  # the program's argv[0] is kept, and its setuid bit; LAUNCHER need not be in a tree
LAUNCHER = rf"""
#include <string.h>
#include <unistd.h>

/* argv: this program, the path of the one to run, its argv[0], its arguments */
int main(int argc, char **argv, char **environment) {{
    char *words[argc + 2];
    words[0] = words[2] = argv[2];
    words[1] = "-0";
    words[3] = argv[1];
    memcpy(words + 4, argv + 3, (argc - 2) * sizeof *words);
    execve("/{EMULATOR_ON_HOSTS}", words, environment);
    return 127;
}}
"""

# -- what such a tree has besides ----------------------------------------------------------

# What QEMU does not do for its programs: namespaces of users.
FILES = {"etc/systemd/system/service.d/emulated.conf": "[Service]\nPrivateUsers=no\n"}
# Nor the netlink that networkd needs: the address is set from outside, see Machine.set_address().
COMMANDS = ("systemctl mask systemd-networkd.service systemd-networkd.socket",)


def enable(say: Say) -> None:
    """Have the kernel run arm64 programs of trees that have QEMU. Raises :class:`ToolkitError`."""
    if platform.machine() != "x86_64":
        raise ToolkitError(f"{SUITE} hosts are emulated on x86-64 only; this is another machine")
    ensure(PROGRAMS, say)
    if not (FORMATS / "register").exists():
        execute(["mount", "-t", "binfmt_misc", "binfmt_misc", str(FORMATS)])
    if (FORMATS / NAME).exists():
        return
    with tempfile.TemporaryDirectory() as folder:  # the kernel keeps the file open
        launcher = f"{folder}/launcher"
        compile = ["gcc", "-static", "-O2", "-Wall", "-Werror", "-x", "c", "-o", launcher, "-"]
        execute(compile, input=LAUNCHER)
        line = ":".join(["", NAME, "M", "", *PROGRAM_HEADER, launcher, FLAGS])
        (FORMATS / "register").write_text(line)


def place_emulator(tree: Path) -> None:
    """Before anything of the tree runs."""
    place = tree / EMULATOR_ON_HOSTS
    place.parent.mkdir(parents=True)
    shutil.copy2(EMULATOR, place)
