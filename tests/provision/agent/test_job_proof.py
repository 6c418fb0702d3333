"""A worker on trial, or upgraded, proves its job; an impostor on the network cannot."""

import base64
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from gearman_py import Client, Worker, WorkerJob
from gearman_py.testing import Server, running, server
from gearman_py.worker import job_proof as worker_proof
from provision.agent import job_proof
from provision.agent.files import Content, Failure
from provision.agent.link import FrameLink
from tests.attacks import attack

ROOT = Path(__file__).resolve().parents[3]
FUNCTION = "reverse@worker1"


def test_both_sides_of_a_proof_mean_the_same() -> None:
    """Hosts are sent one of them alone, so neither can import the other."""
    assert job_proof.UNIQUE_PREFIX == worker_proof.UNIQUE_PREFIX
    assert f"/memfd:{worker_proof.KEY_FILE}" == job_proof.KEY_LINK
    assert job_proof.KEY_SIZE == worker_proof.KEY_SIZE
    assert job_proof.PROOF.search(f"{worker_proof.WARNING_PREFIX} 7 {'0' * 64}")


@attack("code of an app", "have root wait where it looks for a proof's key", "mended")
def test_a_key_under_a_lease_is_not_waited_for() -> None:
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    made = os.memfd_create(worker_proof.KEY_FILE)
    descriptor = os.open(f"/proc/self/fd/{made}", os.O_RDONLY)
    os.close(made)  # a lease is for who alone has it open
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        began = time.monotonic()
        assert len(job_proof.find_key(os.getpid())) == job_proof.KEY_SIZE
        assert time.monotonic() - began < 40, "a lease is broken after 45 s"
    finally:
        os.close(descriptor)
        signal.signal(signal.SIGIO, before)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A folder with a venv that runs this checkout's code."""
    folder = tmp_path / "release"
    packages = folder / f"venv/lib/python3.{sys.version_info[1]}/site-packages"
    packages.mkdir(parents=True)
    (packages / "gearman_py").symlink_to(ROOT / "gearman_py")
    (packages / "others.pth").write_text("\n".join(each for each in sys.path if each))
    (folder / "venv/bin").mkdir()
    (folder / "venv/bin/python").symlink_to(Path(sys.executable).resolve())
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", folder / "venv")
    return folder


def command(release: Path, name: str, *arguments: str) -> list[str]:
    main = f"import sys; from gearman_py.cli.{name} import main; sys.exit(main())"
    return [f"{release}/venv/bin/python", "-c", main, *arguments]


@contextmanager
def working(release: Path, jobs: Server, *options: str) -> Iterator[int]:
    """The worker of this host, in a process of its own."""
    argv = command(release, "worker", "-h", jobs.address, "--address", "worker1", *options)
    process = subprocess.Popen(argv)
    try:
        jobs.wait_for(FUNCTION, workers=1)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


@contextmanager
def answering(jobs: Server, answer: Callable[[WorkerJob], bytes]) -> Iterator[None]:
    """An impostor, which registers the same function."""
    impostor = Worker(jobs.address)
    impostor.function(FUNCTION)(answer)
    with running(impostor):
        jobs.wait_for(FUNCTION, workers=1)
        yield


class Submit(Protocol):
    def __call__(self, jobs: Server, pid: int, folder: Path | None = None) -> bytes: ...


@pytest.fixture
def submit(link: FrameLink, release: Path, monkeypatch: pytest.MonkeyPatch) -> Submit:
    """Has a job done that process ``pid`` of the release in ``folder`` should do."""
    monkeypatch.setattr(job_proof, "ATTEMPT_PAUSE", 0.0)
    monkeypatch.setattr(job_proof, "ATTEMPTS", 2)

    def submit_job(jobs: Server, pid: int, folder: Path | None = None) -> bytes:
        monkeypatch.setattr(job_proof, "pids_of_unit", lambda unit: [pid])
        asked = command(release, "gearman", "-t", "60000", "-f", FUNCTION, "-h", jobs.address)
        content = Content(link, 0, {"later": False, "digest": ""}, b"Hello World!")
        of = str(folder or release)
        said = job_proof.submit_proved(link, content, asked, 90.0, FUNCTION, "its unit", of)
        return base64.b64decode(said)

    return submit_job


@pytest.mark.parametrize(
    "options", [["reverse"], ["--processes", "1", "reverse"], ["reverse", "--", "rev"]]
)
def test_a_worker_proves_its_job(release: Path, submit: Submit, options: list[str]) -> None:
    with server() as jobs, working(release, jobs, *options) as pid:
        assert submit(jobs, pid) == b"!dlroW olleH"


@pytest.mark.slow
@attack(
    "peer on the network",
    "answer the job of a trial for a release that does not serve its function",
    "mended",
)
@attack(
    "peer on the network",
    "have the real worker prove the job at another job server, and alter the answer",
    "mended",
)
def test_an_impostor_cannot(release: Path, tmp_path: Path, submit: Submit) -> None:
    """Not by the right answer, and not by having the worker prove the same job elsewhere."""
    proofs: list[bytes] = []

    def relay(job: WorkerJob) -> bytes:
        with Client(elsewhere.address) as client:
            answer = client.do(
                FUNCTION, job.workload, unique=job.unique, on_warning=proofs.append, timeout=60
            )
        job.send_warning(proofs[-1])
        return answer.upper()  # as a release that works would have said, say

    with server() as jobs, server() as elsewhere, working(release, elsewhere, "reverse") as pid:
        rival = answering(jobs, lambda job: job.workload[::-1])
        with rival, pytest.raises(Failure, match="answered by another worker than that of this"):
            submit(jobs, pid)
        with answering(jobs, relay), pytest.raises(Failure, match="by another worker"):
            submit(jobs, pid)
        assert len(proofs) == job_proof.ATTEMPTS  # the relay works, and does not help
        other = tmp_path / "other"
        other.symlink_to(release)
        with working(other, jobs, "reverse") as pid, pytest.raises(Failure, match="by another"):
            submit(jobs, pid)
        with answering(jobs, lambda _: b"old"):  # a release from before proofs is believed
            assert submit(jobs, pid, tmp_path) == b"old"
