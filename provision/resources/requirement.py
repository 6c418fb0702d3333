"""What a host must have before anything is changed there. These change nothing themselves."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from ipaddress import ip_address

from provision.invoke_line import invoke_line
from provision.release.manifest import read_manifest
from provision.remote.messages import Question
from provision.resources.base import Answers, Change, Problem, Resource
from provision.resources.release import Release

NOTHING = sha256().hexdigest()  # so that an answer has the content of what is not empty


@dataclass(frozen=True)
class Systemd(Resource):
    """systemd, at least of version ``minimum``."""

    minimum: int

    def questions(self) -> Iterable[Question]:
        return [("host",)]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        host = answers["host",]
        if not host["systemd"]:
            yield Problem("no systemd runs there, and the units need one: use another host")
        elif host["systemd"] < self.minimum:
            system = host["os"].get("PRETTY_NAME", "its system")
            yield Problem(
                f"systemd {host['systemd']} ({system}) is too old: {self.minimum} or newer is "
                "needed; upgrade the host"
            )


@dataclass(frozen=True)
class Interpreter(Resource):
    """A Python, of a path or name that the inventory gives, with which releases can run."""

    python: str
    setting: str  # the inventory's name for it

    def questions(self) -> Iterable[Question]:
        return [("host",)]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        if problem := answers["host",].get("python_problem"):
            yield Problem(f"{self.python}: {problem}: set {self.setting} to another Python")


@dataclass(frozen=True)
class Clock(Resource):
    """A clock that goes as this machine's does, up to ``tolerance`` seconds."""

    tolerance: float

    def questions(self) -> Iterable[Question]:
        return [("host",)]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        ahead = answers["host",]["ahead"]
        if abs(ahead) > self.tolerance:
            where = "ahead of" if ahead > 0 else "behind"
            yield Problem(
                f"its clock is {timedelta(seconds=round(abs(ahead)))} {where} this machine's: set "
                "the one that is wrong (timedatectl set-ntp true)"
            )


@dataclass(frozen=True)
class OwnAddress(Resource):
    """That the host has the address at which something is to listen."""

    address: str
    setting: str  # the inventory's name for it
    variable: str = "gearman_listen"  # by which it can be another

    def questions(self) -> Iterable[Question]:
        return [("machine",)]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        wanted, known = ip_address(self.address), answers["machine",]["addresses"]
        if wanted.is_unspecified or wanted.is_loopback or wanted in map(ip_address, known):
            return
        if known:
            yield Problem(
                f"it does not have the address {self.address} of {self.setting}; it has "
                f"{', '.join(known)}: say {self.variable}, one of them, or 0.0.0.0 for all"
            )


@dataclass(frozen=True)
class Driver(Resource):
    """That a release which is on the host, or here, brings a package that ``setting`` needs."""

    release: Release
    package: str
    setting: str  # the inventory's

    def questions(self) -> Iterable[Question]:
        return [self._manifest]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        found = answers[self._manifest]
        manifest = (found["content"] or "") if found else read_manifest(self.release.artifact)
        if (found or manifest) and f'"{self.package}-' not in manifest:
            yield Problem(
                f"{self.setting} needs {self.package}, which release {self.release.artifact.id} "
                f"does not bring: `{invoke_line('upgrade')}` makes one that does"
            )

    @property
    def _manifest(self) -> Question:
        return ("path", f"{self.release.folder}/MANIFEST.json", NOTHING, "text")


@dataclass(frozen=True)
class FreePort(Resource):
    """That nothing but ``unit`` listens on a port."""

    address: str
    port: int
    unit: str
    setting: str  # the inventory's name for the port

    def questions(self) -> Iterable[Question]:
        return [("port", self.address, str(self.port))]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        found = answers["port", self.address, str(self.port)]
        # systemd itself listens for a service that does not run.
        if found and found["unit"] != self.unit and found["pid"] != 1:
            who = f"{found['command']} (pid {found['pid']}, {found['unit'] or 'no unit'})"
            yield Problem(
                f"{self.address}:{self.port} is taken by {who}: stop it, or set {self.setting} "
                "to another port"
            )
