"""Whose signature releases need on a host: ROOT/release_signers (provision/agent/signed.py)."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from provision.agent.signed import IDENTITY, SIGNERS
from provision.remote.messages import Operation
from provision.resources.base import Answers, Change, Problem
from provision.resources.files import File

MARK = "# Made by the deploy: whose signature releases need.\n"


class ReleaseSigners(File):
    """The file; a change of it has to be signed as releases are."""

    @classmethod
    def of(cls, root: str, keys: Iterable[str]) -> "ReleaseSigners":
        lines = [f'{IDENTITY} namespaces="{IDENTITY}" {" ".join(key.split())}\n' for key in keys]
        return cls(f"{root}/{SIGNERS}", content="".join([MARK, *lines]).encode())

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        for change in super().plan_changes(answers):
            if isinstance(change, Change) and change.operation.kind == "file":
                root = self.path.removesuffix(f"/{SIGNERS}")
                write = Operation("signers", {"root": root}, self.content)
                yield replace(change, operation=write)
            else:
                yield change
