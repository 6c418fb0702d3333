"""A host's certificate and private key, issued by the authority of its inventory.

Whether they are right is asked of the host: the certificate is public and comes back whole, and
of the key its digest, which the certificate's file tells of the key that it is for. A third of its
time before it ends a certificate is renewed, with a new key, by any deploy.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property

from provision.pki import Authority
from provision.remote.messages import Operation, Question
from provision.resources.base import Answers, Change, Problem, Resource, Sign
from provision.resources.files import File
from provision.wording import format_count

RENEWED = 3  # when a third of its time is left


class AuthorityFile(File):
    """The authority's own certificate, by which a host knows it; a new one is there for trials."""

    kind = "file"

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        for step in super().plan_changes(answers):
            if isinstance(step, Change) and step.sign == "+":
                yield replace(step, for_trial=True)
            else:
                yield step


@dataclass(frozen=True)
class Certificate(Resource):
    """``NAME.pem`` and ``NAME.key`` for these names; ``owner`` and ``group`` may read the key."""

    path: str  # without .pem and .key
    names: tuple[str, ...]
    days: int
    owner: str
    group: str
    authority: Authority = field(repr=False)

    def questions(self) -> Iterable[Question]:
        return [self._certificate_question, self._key_question]

    def plan_changes(self, answers: Answers) -> Iterator[Change | Problem]:
        certificate, key = answers[self._certificate_question], answers[self._key_question]
        for found, suffix in ((certificate, "pem"), (key, "key")):
            if found and found["kind"] not in ("file", "link"):
                yield Problem(f"{self.path}.{suffix} is a {found['kind']}: move it away")
                return
        if why := self.why_wrong(answers, timedelta(days=self.days) / RENEWED):
            sign: Sign = "~" if certificate and key else "+"
            key_change = Change(
                sign, f"key {self.path}.key", self._write_operation("key"), "not shown"
            )
            own = Change(sign, f"certificate {self.path}.pem", self._write_operation("pem"), why)
            yield from (replace(each, for_trial=sign == "+") for each in (key_change, own))
            return
        for found, suffix in ((certificate, "pem"), (key, "key")):
            wanted = self._file_arguments(suffix)
            wrong = [
                f"{name} {found[name]} -> {wanted[name]}"
                for name in ("owner", "group", "mode")
                if found[name] != wanted[name]
            ]
            if wrong or found["acl"]:
                change = Operation("attributes", wanted)
                reason = ", ".join(wrong) or "without an access list"
                yield Change("~", f"file {wanted['path']}", change, reason)

    def why_wrong(self, answers: Answers, left: timedelta) -> str:
        """Why it is not good for so long; "": it is."""
        text = (answers[self._certificate_question] or {}).get("content")
        key = (answers[self._key_question] or {}).get("digest")
        if text is None or key is None:
            return f"for {', '.join(self.names)}, {format_count(self.days, 'day')}"
        if why := self.authority.why_wrong(text.encode(), self.names, left):
            return why
        told = re.search(r"^# of the key (\w+)$", text, re.MULTILINE)
        return "" if told and told[1] == key else "its key is a different one"

    @cached_property
    def _issued_pair(self) -> dict[str, bytes]:
        """One for the whole run, so that a plan that is made again is the same."""
        certificate, key = self.authority.issue(self.names, self.days)
        head = f"# of the key {hashlib.sha256(key).hexdigest()}\n"
        return {"pem": head.encode() + certificate, "key": key}

    def _write_operation(self, suffix: str) -> Operation:
        return Operation("file", self._file_arguments(suffix), self._issued_pair[suffix])

    def _file_arguments(self, suffix: str) -> dict[str, str]:
        mode = {"pem": "0644", "key": "0640"}[suffix]
        owner = {"pem": "root", "key": self.owner}[suffix]
        group = {"pem": "root", "key": self.group}[suffix]
        return {"path": f"{self.path}.{suffix}", "owner": owner, "group": group, "mode": mode}

    @property
    def _certificate_question(self) -> Question:
        # No content has this digest, so the whole text is told.
        return ("path", f"{self.path}.pem", "-", "text")

    @property
    def _key_question(self) -> Question:
        return ("path", f"{self.path}.key", "-", "")

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({f"path:{self.path}.pem", f"path:{self.path}.key", "certificate"})

    @property
    def needs(self) -> frozenset[str]:
        folder = self.path.rpartition("/")[0]
        return frozenset({f"path:{folder}", f"user:{self.owner}", f"group:{self.group}"})
