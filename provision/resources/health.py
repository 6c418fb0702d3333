"""That a unit does its work: a job that only it can take comes back as it should.

It asks nothing about the host and changes nothing there. An upgrade tries it: before anything
that runs is touched, with a worker of the new release that only the check reaches; and afterwards,
with the unit itself.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from provision.remote.messages import Operation, Question
from provision.resources.base import Answers, Change, Problem, Resource
from provision.resources.files import File
from provision.resources.release import Release
from provision.resources.sample_jobs import Judge, Sample, keep_earlier_checks
from provision.resources.unit_text import find_variable

JOB_TIMEOUT = 20  # that a job may take
QUEUE_TIMEOUT = 60.0  # seconds for a database to answer
TLS_VARIABLES = {
    "--ssl-ca-file": "GEARMAND_CA_CERTIFICATE",
    "--ssl-certificate": "GEARMAN_CLIENT_PEM",
    "--ssl-key": "GEARMAN_CLIENT_KEY",
}
"""An option of commands for TLS -> the variable by which the library knows it."""


@dataclass(frozen=True)
class Proof:
    """An operation whose output shows that something works."""

    summary: str
    operation: Operation
    judge: Judge


class CheckFile(File):
    """The job of a worker's check, beside the release that does it: they change together.

    It keeps those that the release was to pass before.
    """

    kind = "file"

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        text = keep_earlier_checks(self.content.decode(), self.current_text(answers))
        wanted = replace(self, content=text.encode())
        found = answers[self._path_question]
        yield from File.plan_changes(wanted, {wanted._path_question: found})


@dataclass(frozen=True)
class FunctionCheck:
    """That ``functions`` of ``worker`` are served by no worker whose code alone knows its own.

    ``pings``: each with such a worker of its host, which ``server`` knows by it.
    """

    worker: str
    functions: tuple[str, ...]
    server: str
    pings: tuple[tuple[str, str], ...]

    @property
    def proof(self) -> Proof:
        arguments = {
            "server": self.server,
            "worker": self.worker,
            "functions": list(self.functions),
            "pings": dict(self.pings),
        }
        operation = Operation("check_functions", arguments)
        return Proof(f"functions of {self.worker}", operation, lambda _: None)


@dataclass(frozen=True)
class Health(Resource):
    """Of ``unit``; ``tls``: the options with which commands speak it.

    ``release``: that of gearman_py, for root runs no command that an app brings. ``check_file``
    keeps its job with the release that does it. ``function_check`` comes before its unit starts.
    ``earlier``: with other checks of the same release, which passes one of them.
    """

    unit: str
    release: Release
    tls: tuple[str, ...]
    check_file: CheckFile | None = field(default=None, kw_only=True)
    function_check: FunctionCheck | None = field(default=None, kw_only=True)
    earlier: "tuple[Health, ...]" = field(default=(), kw_only=True)

    def with_check(self, function: str, sample: Sample) -> "Health":
        """The same by this job of ``function``; by one that any release does, if it asks none."""
        return self

    @property
    def served(self) -> tuple[str, ...]:
        """What its unit serves: functions, or MODULE:OBJECT where that alone knows them."""
        return ()

    def questions(self) -> Iterable[Question]:
        return ()

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        return iter(())

    def staged_proofs(self) -> Iterator[Proof]:
        """What shows, without the unit, that the release would do its work here."""
        return iter(())

    def running_proofs(self) -> Iterator[Proof]:
        """What shows that the unit does."""
        return iter(())

    def evidence_commands(self) -> list[list[str]]:
        """The commands that show what is wrong, when something is."""
        journal = ["journalctl", "--unit", self.unit, "--lines=15", "--output=cat", "--no-pager"]
        return [["systemctl", "status", "--no-pager", "--lines=0", self.unit], journal]

    @property
    def _tls_environment(self) -> dict[str, str]:
        """Variables by which a worker's library knows the files of TLS."""
        files = zip(self.tls[::2], self.tls[1::2], strict=True)
        return {TLS_VARIABLES[flag]: path for flag, path in files}

    def _command_path(self, command: str) -> str:
        return f"{self.release.folder}/venv/bin/{command}"

    def _job_arguments(self, server: str, function: str) -> dict[str, object]:
        command = self._job_command(function, *self.tls, "-h", server)
        return {"command": command, "seconds": JOB_TIMEOUT + 5.0}

    def _job_command(self, function: str, *options: str) -> list[str]:
        limit = ["-t", str(JOB_TIMEOUT * 1000)]
        return [self._command_path("gearman"), *options, *limit, "-f", function]


@dataclass(frozen=True)
class OtherWorkers:
    """The workers beside ``worker``, whose code alone knows its functions: theirs are not for it.

    ``functions``: each with the worker that serves it; ``pings``: each with a worker of whose
    functions the inventory does not tell. ``prefix`` is before those of the worker on trial.
    """

    worker: str
    prefix: str
    functions: tuple[tuple[str, str], ...]
    pings: tuple[tuple[str, str], ...]

    @property
    def arguments(self) -> dict[str, object]:
        """As a trial is told them."""
        pairs = {"functions": dict(self.functions), "pings": dict(self.pings)}
        return {"worker": self.worker, "prefix": self.prefix, **pairs}


@dataclass(frozen=True)
class WorkerHealth(Health):
    """A worker that serves ``functions`` to ``servers``: a job for ``asked`` reaches it alone.

    ``code``: the release that its unit runs, maybe an app's. ``trial``: the arguments with which
    gearman-worker serves ``tried``, and nothing else; none, and it is not tried. ``properties``: of
    the unit in which it does. ``sample``: which job both do.
    """

    code: Release
    functions: tuple[str, ...]
    asked: str
    tried: str
    trial: tuple[str, ...]
    sample: Sample
    servers: tuple[str, ...]
    properties: tuple[str, ...]
    target: str = ""  # MODULE:OBJECT of a Python project
    environment: tuple[tuple[str, str], ...] = ()
    others: OtherWorkers | None = None  # of this host
    pinged: "WorkerHealth | None" = None  # by a ping instead

    def with_check(self, function: str, sample: Sample) -> "WorkerHealth":
        if self.asked.rpartition("@")[0] == function:
            return replace(self, sample=sample)
        return self.pinged or self

    def at_servers_of(self, text: str) -> "WorkerHealth":
        """The same at the job servers that a unit's file names, if none of them is to stay."""
        servers = tuple(filter(None, find_variable(text, "GEARMAN_SERVERS").split(",")))
        if not servers or {*servers} & {*self.servers}:
            return self
        files = ((flag, find_variable(text, name)) for flag, name in TLS_VARIABLES.items())
        return replace(
            self,
            servers=servers,
            trial=self._trial_at(servers),
            tls=tuple(word for flag, path in files if path for word in (flag, path)),
            pinged=self.pinged and self.pinged.at_servers_of(text),
            function_check=self.function_check and replace(self.function_check, server=servers[0]),
        )

    def _trial_at(self, servers: Sequence[str]) -> tuple[str, ...]:
        """The arguments of its trial; those for a Python project name job servers themselves."""
        if not (self.target and self.trial):
            return self.trial
        place = self.trial.index("--servers") + 1
        return (*self.trial[:place], ",".join(servers), *self.trial[place + 1 :])

    @property
    def served(self) -> tuple[str, ...]:
        return self.functions or (self.target,)

    def staged_proofs(self) -> Iterator[Proof]:
        if not self.trial:
            return
        program = f"{self.code.folder}/venv/bin/gearman-worker"
        worker = [program, *self.tls, *self.trial]
        job = self._proved_arguments(self.servers[0], self.tried)
        # The code of a project may use the library before the arguments are known.
        tls = {**self._tls_environment, "GEARMAN_SERVERS": self.servers[0]}
        environment = {**dict(self.environment), **tls}
        yield self._make_proof(
            f"{', '.join(self.served)}, by a worker beside",
            "trial",
            {
                **job,
                "worker": worker,
                "properties": list(self.properties),
                "environment": environment,
                "others": self.others.arguments if self.others else {},
            },
        )

    def running_proofs(self) -> Iterator[Proof]:
        for server in self.servers:
            summary = f"{self.asked} through {server}"
            arguments = {**self._proved_arguments(server, self.asked), "unit": self.unit}
            yield self._make_proof(summary, "proved_job", arguments)

    def evidence_commands(self) -> list[list[str]]:
        servers = (["-h", server] for server in self.servers)
        return [
            *super().evidence_commands(),
            *([self._command_path("gearadmin"), *self.tls, *each, "--workers"] for each in servers),
        ]

    def _proved_arguments(self, server: str, function: str) -> dict[str, object]:
        job = self._job_arguments(server, function)
        return {**job, "function": function, "release": self.code.folder}

    def _make_proof(self, summary: str, kind: str, arguments: dict[str, object]) -> Proof:
        workload = self.sample.workload()
        return Proof(summary, Operation(kind, arguments, workload), self.sample.judge)


@dataclass(frozen=True)
class ServerHealth(Health):
    """A job server at ``server``, HOST:PORT.

    ``queue``: gearmand's options for the database of its queue, as in a unit file; ``properties``:
    those of its unit.
    """

    server: str
    queue: tuple[str, ...] = ()
    properties: tuple[str, ...] = ()

    def queue_proofs(self) -> Iterator[Proof]:
        """What shows, without the unit, that it could use its database with the new settings."""
        if not self.queue:
            return
        arguments: dict[str, object] = {
            "command": [self._command_path("gearmand"), "--check-queue", *self.queue],
            "properties": self._check_properties,
            "seconds": QUEUE_TIMEOUT,
        }
        operation = Operation("trial_queue", arguments)
        yield Proof("the database of the queue", operation, lambda _: None)

    @property
    def queue_question(self) -> Question | None:
        """The same of the release in use, for those who ask and change nothing."""
        if not self.queue:
            return None
        command = f"{self.release.current.path}/venv/bin/gearmand"
        lines = "\n".join(self._check_properties)
        return ("queue_check", lines, command, "--check-queue", *self.queue)

    @property
    def _check_properties(self) -> list[str]:
        # With its end that unit removes the folder.
        return [each for each in self.properties if not each.startswith("Runtime")]

    def running_proofs(self) -> Iterator[Proof]:
        command = [
            self._command_path("gearadmin"),
            *self.tls,
            "-h",
            self.server,
            "--server-version",
        ]
        version = self.release.artifact.id.rpartition("-")[0].encode()

        def judge(answer: bytes) -> str | None:
            return None if version in answer else f"it says {answer!r}, and not {version!r}"

        arguments = {"command": command, "seconds": float(JOB_TIMEOUT)}
        yield Proof(f"{self.server} answers", Operation("job", arguments, b""), judge)


def split_server(server: str) -> tuple[str, str]:
    """HOST:PORT or [HOST]:PORT, in two; where TLS is spoken (gearmans://...) the host says so."""
    scheme, _, place = server.rpartition("//")
    host, _, port = place.rpartition(":")
    return (f"{scheme}//" if scheme else "") + host.strip("[]"), port
