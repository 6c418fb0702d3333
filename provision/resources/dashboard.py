"""The dashboard on a host: its users, that its page is served, and what it leaves behind."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from gearman_py.web.users import UsersError, parse_accounts
from provision.errors import InventoryError
from provision.fetch_page import FETCH_TIMEOUT, PROGRAM, not_a_page
from provision.remote.messages import Operation, Question
from provision.resources.base import Answers, Change, Problem, Resource
from provision.resources.health import Health, Proof
from provision.resources.secret import SecretFile

TITLE = "Gearman"  # of each page

DEPLOYS_FOLDER = "/var/lib/gearman-deploys"
DEPLOYS_FILE = f"{DEPLOYS_FOLDER}/runs.jsonl"
"""Where a run of the toolkit writes down for a dashboard what was done to the hosts."""


@dataclass(frozen=True)
class UsersFile(SecretFile):
    """Who may log in, with hashes of their passwords; ``where`` the inventory says it."""

    kind = "secret"
    noun: ClassVar[str] = "the "
    where: str = ""

    @property
    def file_name(self) -> str:
        return self.owner  # a worker's has a dot

    @property
    def _content(self) -> bytes:
        text = self.secret.reveal()
        try:
            found = parse_accounts(Path("its text"), text)
        except UsersError as error:
            raise InventoryError(f"{self.where}: {error}") from None
        if not found:
            raise InventoryError(f"{self.where}: no user is in it")
        return text.encode()


@dataclass(frozen=True)
class PageHealth(Health):
    """A dashboard at ``url``; ``ca``: the file of the CA of its certificate, "" without TLS."""

    url: str
    ca: str

    def running_proofs(self) -> Iterator[Proof]:
        trusted = [f"GEARMAND_CA_CERTIFICATE={self.ca}"] if self.ca else []
        command = ["/usr/bin/env", *trusted, self._command_path("python"), "-I", "-", self.url]
        arguments = {"command": command, "seconds": FETCH_TIMEOUT + 5.0}

        def judge(answer: bytes) -> str | None:
            return not_a_page(TITLE, answer)

        yield Proof(f"{self.url} answers", Operation("job", arguments, PROGRAM), judge)


@dataclass(frozen=True)
class FormerHistory(Resource):
    """No ``folder`` of a dashboard's history, which belongs to ``user``, once it has left."""

    folder: str
    user: str
    after: frozenset[str] = frozenset()

    def questions(self) -> Iterable[Question]:
        return [self._path_question]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        found = answers[self._path_question]
        if found and found["kind"] == "directory" and found["owner"] == self.user:
            operation = Operation("remove_state", {"folder": self.folder, "user": self.user})
            yield Change("-", f"history {self.folder}", operation, "no dashboard is there any more")

    @property
    def _path_question(self) -> Question:
        return ("path", self.folder, "", "")

    @property
    def needs(self) -> frozenset[str]:
        return self.after
