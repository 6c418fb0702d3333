"""A distribution's packages. Only whether one is installed matters; the version is the host's."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from provision import distributions
from provision.remote.messages import Operation, Question
from provision.resources.base import Answers, Change, Problem, Resource


@dataclass(frozen=True)
class Packages(Resource):
    names: tuple[str, ...]

    def questions(self) -> Iterable[Question]:
        return [("host",), *(("package", name) for name in self.names)]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        missing = [name for name in self.names if answers["package", name] is None]
        if not missing:
            return
        wanted = f"packages {' '.join(missing)}"
        system = answers["host",]["os"]
        command = distributions.install_command(system, *missing)
        manager = command.split()[0] if command else ""
        if manager in distributions.MANAGERS:
            operation = Operation("packages", {"names": missing, "manager": manager})
            yield Change("+", wanted, operation)
        else:
            name = distributions.system_name(system)
            how = f"`{command}` there" if command else "install them"
            yield Problem(
                f"{wanted}: only apt, dnf and zypper are known here, and this is {name}: {how} "
                "by hand, and set `gearman_packages: []` for this host"
            )

    @property
    def provides(self) -> frozenset[str]:
        return frozenset(f"package:{name}" for name in self.names)
