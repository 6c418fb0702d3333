"""`./invoke try`: an app's release on this machine, before any host is asked.

The release is built as for a host of this kind, and an agent unpacks it and makes its venv, as on a
host. Each worker that the inventory has of the app then serves a job server that is there for this
alone, is asked a ping and its check, and has to leave when it is told to. Memory, accounts and
systemd's hardening are the host's matter, and are not tried.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from time import monotonic, sleep

from gearman_py import TLS, Client, GearmanError, JobTimeout
from gearman_py.admin.client import AdminClient
from gearman_py.config import format_size
from gearman_py.testing import server
from provision.agent.link import ENVIRONMENT
from provision.errors import HostFailed, ToolkitError
from provision.inventory import load as inventory
from provision.inventory.workers import WorkerDefinition, workers
from provision.lab.programs import Say
from provision.pki import new_authority
from provision.release.app import FILES, build_app, command_line, find_app
from provision.release.app_check import check_app
from provision.release.app_source import App, uncommitted_files
from provision.release.build import ROOT
from provision.release.target import target_of
from provision.remote.local_channel import LocalChannel
from provision.remote.messages import Operation, Unknown
from provision.remote.session import Session
from provision.resources.health import TLS_VARIABLES
from provision.resources.sample_jobs import PING, Sample, stated_sample

HERE = "this machine"
JOB_TIMEOUT = 20.0  # seconds until a worker has begun, and for each job
STACK_TIME = 0.5  # seconds in which a process that hangs writes where
POLL_INTERVAL = 0.05
LAST_LINES = 12  # of what a worker said
STACK_LINES = 100  # if it said where each of its threads and processes is


class _DoesNotWork(Exception):
    """Why a worker does not work."""


def try_app(folder: Path, name: str, say: Say) -> int:
    """Try app ``name`` of an inventory; returns an exit status. Raises :class:`ToolkitError`."""
    known = inventory.load(folder)
    known.refuse_mistakes()
    hosts = known.everyone
    app = find_app(hosts, name)
    found = [(each, host) for host in hosts for each in workers(host) if each.app == name]
    # A program speaks TLS by itself or not at all; the others do as they are told.
    secured = {each for each, host in found if each.tls and host.variables["gearman_tls"]}
    tried = dict.fromkeys(each for each, _ in found)
    check_app(app, tried)
    if different := uncommitted_files(app):
        say(f"app {name}: {different}")
    release = _unpack(app, say)
    failed = False
    for worker in tried:
        if not worker.trial:
            say(f"not tried worker {worker.name}: it may find other job servers (trial: false)")
            continue
        try:
            say(
                f"ok      worker {worker.name}: "
                f"{_try_worker(worker, release, secured=worker in secured)}"
            )
        except _DoesNotWork as error:
            failed = True
            first, *more = str(error).splitlines()
            say("\n".join([f"failed  worker {worker.name}: {first}", *(f"    {e}" for e in more)]))
    return HostFailed.status if failed else 0


def _unpack(app: App, say: Say) -> Path:
    """The folder of the app's release, made by an agent as on a host; older ones give way."""
    root = ROOT / ".cache" / "try" / app.name
    (root / "releases").mkdir(parents=True, exist_ok=True)
    with Session(HERE, LocalChannel, lock_file=str(root / "lock")) as agent:
        facts = agent.ask([("host",)])["host",]
        if isinstance(facts, Unknown):
            raise ToolkitError(f"{HERE}: {facts.reason}")
        target = target_of(facts)
        say(f"building app {app.name}{f' for {target}' * app.python}")
        try:
            artifact = build_app(app, target=target if app.python else None)
        except HostFailed as error:  # of a host; there is none here
            raise ToolkitError(str(error)) from None
        for old in (root / "releases").iterdir():
            if old.name != artifact.id:
                shutil.rmtree(old)
        agent.lock({"who": "invoke try"})
        arguments = {"root": str(root), "id": artifact.id, "digest": artifact.digest}
        (outcome,) = agent.apply([Operation("release", arguments, artifact.path)])
    if outcome.error:
        raise ToolkitError(f"{artifact.id}: {outcome.error}\n{outcome.output}")
    say(f"release {artifact.id}, {format_size(artifact.size)}")
    return root / "releases" / artifact.id


# -- one worker -------------------------------------------------------------------------


@dataclass(frozen=True)
class _Running:
    """A worker that has been started, and what it says."""

    process: subprocess.Popen[bytes]
    log: Path

    def explain(self, problem: str, *, hangs: bool = False) -> _DoesNotWork:
        """The problem with its last lines; one that hangs is asked where."""
        ended, last = self.process.poll(), LAST_LINES
        if hangs and ended is None:
            # It may hang in a further process. Together they would mix their lines.
            for pid in list(_with_children(self.process.pid)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGUSR1)
                sleep(STACK_TIME)
            last = STACK_LINES
        lines = self.log.read_text(errors="backslashreplace").strip().splitlines()[-last:]
        if ended is not None:
            problem = f"it ended with {ended}" + (f": {lines.pop()}" if lines else "")
        return _DoesNotWork("\n".join([problem, *lines]))


def _with_children(pid: int) -> Iterator[int]:
    """A process, and all that it started."""
    yield pid
    with suppress(OSError):  # it may have ended
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from _with_children(int(child))


def _try_worker(worker: WorkerDefinition, release: Path, *, secured: bool) -> str:
    """What it did. Raises :class:`_DoesNotWork`."""
    ping = f"ping@try/{worker.name}" if worker.kind != "program" else ""
    with (
        _own_certificate() if secured else nullcontext() as tls,
        server(tls) as jobs,
        _run_worker(worker, release, jobs.address, ping, tls) as running,
        AdminClient(jobs.address, tls=tls) as admin,
    ):
        began = monotonic()
        wanted = {ping} if ping else set(worker.functions)
        serves = _await_functions(running, admin, wanted)
        seconds = monotonic() - began
        with Client(jobs.address, timeout=JOB_TIMEOUT, tls=tls) as client:
            if ping:
                _do_job(client, running, ping, PING)
                # What answers has registered all its functions; the list may be from before that.
                serves = _await_functions(running, admin, wanted) - {ping}
            done = [f"serves {', '.join(sorted(serves))} after {seconds:.1f} s"]
            done += ["answers"] if ping else []
            if worker.check:
                asked = worker.checked_function
                if asked not in serves:
                    told = ", ".join(sorted(serves))
                    raise running.explain(f"it serves {told}, not {asked}, which its check is for")
                sample = stated_sample(dict(worker.check))
                _do_job(client, running, asked, sample)
                done.append(f"its check of {asked} is right")
        done.append(_stop(worker, running))
    return ", ".join(done)


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM, and a terminal that is closed, are as an interrupt: what was written is removed."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    ending = (signal.SIGTERM, signal.SIGHUP)
    usual = [each for each in ending if signal.getsignal(each) is signal.SIG_DFL]
    for each in usual:
        signal.signal(each, interrupt)
    try:
        yield
    finally:
        for each in usual:
            signal.signal(each, signal.SIG_DFL)


@contextmanager
def _own_certificate() -> Iterator[TLS]:
    """A certificate for the job server and its peers, of an authority that is there for this."""
    with tempfile.TemporaryDirectory(prefix="gearman-try-") as folder:
        authority = new_authority(Path(folder), "invoke try")
        pair = authority.issue(("127.0.0.1",), days=1)
        files = {"ca.pem": authority.pem, "try.pem": pair.certificate, "try.key": pair.key}
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        yield TLS(*(f"{folder}/{name}" for name in files))


@contextmanager
def _run_worker(
    worker: WorkerDefinition, release: Path, address: str, ping: str, tls: TLS | None
) -> Iterator[_Running]:
    with _ended_in_order(), tempfile.TemporaryDirectory(prefix="gearman-try-") as folder:
        for name, secret in worker.secrets:
            (Path(folder) / name).write_text(secret.reveal())
        environment = {
            **ENVIRONMENT,
            **(dict(zip(TLS_VARIABLES.values(), astuple(tls), strict=True)) if tls else {}),
            **dict(worker.environment),
            "GEARMAN_SERVERS": address,
            **({"CREDENTIALS_DIRECTORY": folder} if worker.secrets else {}),
        }
        log = Path(folder) / ".log"
        with log.open("wb") as said:
            process = _start(worker, release, address, ping, environment, said.fileno())
        try:
            yield _Running(process, log)
        finally:
            process.kill()
            process.wait()


def _start(
    worker: WorkerDefinition,
    release: Path,
    address: str,
    ping: str,
    environment: Mapping[str, str],
    log: int,
) -> "subprocess.Popen[bytes]":
    argv, folder = command_line(worker, str(release)), release
    if worker.kind == "program":
        command: Sequence[str] = argv
        folder = release / FILES
    elif worker.kind == "command":
        own = Path(sys.executable).with_name("gearman-worker")
        command = [str(own), "--ping", ping, *worker.settings, *worker.functions, "--", *argv]
    else:
        own = release / "venv" / "bin" / "gearman-worker"
        command = [str(own), "--ping", ping, *worker.settings, *worker.served([address])]
    try:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    except OSError as error:
        raise _DoesNotWork(f"{command[0]}: {error.strerror}") from None


def _await_functions(running: _Running, admin: AdminClient, wanted: set[str]) -> set[str]:
    """All that it serves, once that includes what is wanted."""
    deadline = monotonic() + JOB_TIMEOUT
    while True:
        found = {name for row in admin.workers() for name in row.functions}
        if wanted <= found:
            return found
        if running.process.poll() is not None or monotonic() > deadline:
            if found:
                missing = ", ".join(sorted(wanted - found))
                raise running.explain(f"it serves {', '.join(sorted(found))}, not {missing}")
            raise running.explain(f"it serves nothing after {JOB_TIMEOUT:.0f} s", hangs=True)
        sleep(POLL_INTERVAL)


def _do_job(client: Client, running: _Running, function: str, sample: Sample) -> None:
    try:
        problem = sample.judge(client.do(function, sample.workload()))
    except GearmanError as error:
        late = isinstance(error, JobTimeout)
        raise running.explain(f"{function}: {error}", hangs=late) from None
    if problem:
        raise running.explain(f"{function}: {problem}")


def _stop(worker: WorkerDefinition, running: _Running) -> str:
    """Tell it to stop, as systemd would."""
    running.process.send_signal(signal.Signals[worker.stop_signal])
    try:
        status = running.process.wait(min(worker.stop_timeout, JOB_TIMEOUT))
    except subprocess.TimeoutExpired:
        raise running.explain(f"it goes on after {worker.stop_signal}", hangs=True) from None
    if worker.kind == "program":
        return "stops"
    if status:
        raise running.explain("")
    return "drains"
