"""The image of the Containerfile: built, at work, and stopped as a runtime stops it.

Its base is the lab's Debian 13, for an image of a registry cannot be had here.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pip
import pytest

from provision.lab import programs
from tests.packages.bare_debian import base_tree
from tests.packages.podman import PROGRAMS, RUN, Podman, finish, private_podman
from tests.packages.versions import ROOT, our_distributions
from tests.pythons import locked
from tests.waiting import await_true

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for containers"),
    pytest.mark.skipif(bool(programs.missing(PROGRAMS)), reason="needs podman"),
]

CONTAINERFILE = ROOT / "examples" / "containers" / "Containerfile"
PYTHON = "3.13"
# What an image of a Python does not have either; EXTERNALLY-MANAGED is Debian's refusal of pip.
LEFT_OUT = (
    *("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/zoneinfo", "usr/share/i18n"),
    *("usr/lib/systemd", "usr/lib/x86_64-linux-gnu/gconv", "usr/lib/x86_64-linux-gnu/systemd"),
    *("var", f"usr/lib/python{PYTHON}/EXTERNALLY-MANAGED"),
)
PIP = "[global]\nno-index = true\nfind-links = /wheels\n"
# As docs/containers.md shows it.
OWN_WORKERS = """
FROM gearman_py
COPY jobs.py /srv/jobs/
ENV PYTHONPATH=/srv/jobs
CMD ["gearman-worker", "jobs:worker"]
"""
JOBS = """
import time
from pathlib import Path
from gearman_py import Worker

worker = Worker()

@worker.function("slow")
def slow(job):
    Path("/shared/begun").touch()
    while not Path("/shared/go").exists():
        time.sleep(0.01)
    return b"done"
"""
HEALTH = """
from http.client import HTTPConnection
probe = HTTPConnection("127.0.0.1", 9418)
probe.request("GET", "/healthz")
print(probe.getresponse().status)
"""


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """With the images `gearman_py`, and `jobs` that starts from it."""
    folder = tmp_path_factory.mktemp("image")
    for name in ("storage", "wheels", "context", "own"):
        (folder / name).mkdir()
    (folder / "context" / "dist").mkdir()
    shutil.copy(our_distributions(tmp_path_factory)[1], folder / "context" / "dist")
    download_wheels(folder)
    (folder / "pip.conf").write_text(PIP)
    (folder / "own" / "jobs.py").write_text(JOBS)
    (folder / "own" / "Containerfile").write_text(OWN_WORKERS)
    modules = f"/usr/local/lib/python{PYTHON}/dist-packages/pip"
    given = {f"{folder}/pip.conf": "/etc/pip.conf", f"{folder}/wheels": "/wheels"}
    given[str(Path(pip.__file__).parent)] = modules
    volumes = (f"--volume={here}:{there}:ro" for here, there in given.items())
    with private_podman(folder / "storage") as podman:
        podman.load_tree(base_tree("trixie"), "base", LEFT_OUT)
        build = ("build", "--isolation=chroot", "--network=host")
        named = ("--tag=gearman_py", "--build-arg=BASE=localhost/base", f"--file={CONTAINERFILE}")
        podman(*build, *named, *volumes, str(folder / "context"))
        podman(*build, "--tag=jobs", str(folder / "own"))
        yield podman


def download_wheels(folder: Path) -> None:
    """What the extras server and resize need, as requirements.lock has it."""
    (folder / "locked.txt").write_text(locked(("uvloop", "pillow")))
    kind = ("--no-deps", "--only-binary", ":all:", "--python-version", PYTHON, "--require-hashes")
    download = ("-m", "pip", "download", "--quiet", *kind, "--dest", str(folder / "wheels"))
    command = [sys.executable, *download, "--requirement", str(folder / "locked.txt")]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder that containers write to."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


@pytest.fixture
def server(podman: Podman) -> Iterator[str]:
    """A job server by the image's own command, with its queue on a volume."""
    podman(
        "run",
        "--detach",
        "--name=server",
        "--network=none",
        "--volume=queue:/var/lib/gearmand",
        *RUN,
        "gearman_py",
    )
    await_true(lambda: finish(podman.start("exec", "server", "gearadmin", "--ping"))[1] == 0)
    yield "server"
    for container in ("worker", "server"):
        podman("rm", "--force", "--ignore", "--time=0", container)
    podman("volume", "rm", "queue")


def begin_job(podman: Podman, shared: Path, client: str) -> subprocess.Popen[str]:
    """Start a worker of the image `jobs`, whose job takes until ``shared/go`` is there.

    Returns the client, which is run in the container of this name: it ends with that.
    """
    place = ("--network=container:server", f"--volume={shared}:/shared")
    podman("run", "--detach", "--name=worker", *place, *RUN, "jobs")
    waiting = podman.start("exec", client, "gearman", "-f", "slow", "x")
    await_true((shared / "begun").exists)
    return waiting


def test_the_server_answers_its_probe_and_lets_the_running_job_end(
    podman: Podman, server: str, shared: Path
) -> None:
    client = begin_job(podman, shared, "worker")
    health = ("exec", "worker", "python3", "-c", HEALTH)  # Podman runs nothing in what it stops
    assert podman(*health) == "200\n"
    podman("exec", server, "gearman", "-b", "-f", "later", "kept")
    stopping = podman.start("stop", "--time=60", server)
    await_true(lambda: finish(podman.start(*health))[0] == "503\n")
    (shared / "go").touch()
    assert finish(client) == ("done", 0)
    assert finish(stopping)[1] == 0
    assert podman.exit_status(server) == 0
    podman("stop", "worker")
    assert podman.exit_status("worker") == 0

    podman("start", server)
    await_true(
        lambda: "later\t1\t0\t0" in finish(podman.start("exec", server, "gearadmin", "--status"))[0]
    )


def test_a_worker_ends_the_job_that_it_has(podman: Podman, server: str, shared: Path) -> None:
    client = begin_job(podman, shared, server)
    stopping = podman.start("stop", "--time=60", "worker")
    await_true(lambda: "SIGTERM: draining" in podman("logs", "worker"))
    (shared / "go").touch()
    assert finish(client) == ("done", 0)
    assert finish(stopping)[1] == 0
    assert podman.exit_status("worker") == 0
