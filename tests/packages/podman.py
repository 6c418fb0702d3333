"""Podman with a storage of its own, in memory: nothing of it is left on this machine.

Its containers have neither cgroups nor a network to others: some machines that tests run on let
nobody make these.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = {"podman": "podman", "nsenter": "util-linux"}

# crun refuses a v2 hierarchy of cgroups beside others, and limits above this machine's own.
ALONE = """
mount -t tmpfs tmpfs "$1"
mount -t tmpfs tmpfs /run
if mountpoint --quiet /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
echo ready
exec cat
"""
RUN = (
    *("--cgroups=disabled", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"),
    *("--read-only", "--read-only-tmpfs=false", "--cap-drop=all"),
    "--security-opt=no-new-privileges",
)
"""How containers are run: as kubernetes.yml has it, with the image unwritable and no capability."""


class Podman:
    """Podman's commands, in a mount namespace that the process ``anchor`` keeps."""

    def __init__(self, anchor: int, storage: Path) -> None:
        enter = ("nsenter", "--target", str(anchor), "--mount", "--pid")
        self._command = (*enter, "podman", "--root", str(storage), "--storage-driver", "overlay")

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Begin a command."""
        return subprocess.Popen(
            [*self._command, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __call__(self, *words: str) -> str:
        """What a command prints; an AssertionError when it fails."""
        said, status = finish(self.start(*words))
        assert status == 0, f"{' '.join(words)}\n{said}"
        return said

    def load_tree(self, tree: Path, name: str, without: tuple[str, ...]) -> None:
        """Make an image of a folder that is a system."""
        left_out = (f"--exclude=./{each}" for each in without)
        packing = ["tar", "--create", "--directory", str(tree), *left_out, "."]
        with subprocess.Popen(packing, stdout=subprocess.PIPE) as tar:
            command = [*self._command, "import", "--quiet", "-", name]
            subprocess.run(command, stdin=tar.stdout, check=True, capture_output=True)
        assert tar.returncode == 0

    def exit_status(self, container: str) -> int:
        """Of a container that has ended."""
        return int(self("inspect", "--format", "{{.State.ExitCode}}", container))


def finish(process: subprocess.Popen[str]) -> tuple[str, int]:
    """What a command printed, and its exit status."""
    said, _ = process.communicate(timeout=300)
    return said, process.returncode


@contextmanager
def private_podman(folder: Path) -> Iterator[Podman]:
    """A Podman for a while; its containers end with it."""
    command = ["unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child"]
    with subprocess.Popen(
        [*command, "sh", "-euc", ALONE, "sh", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as outer:
        assert outer.stdin
        assert outer.stdout
        assert outer.stdout.readline() == "ready\n"
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text()
        try:
            yield Podman(int(children), folder)
        finally:
            outer.kill()  # and so all that is in its namespace of processes
