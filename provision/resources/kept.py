"""What is kept beside a release, so that a rollback brings it back: unit files, and checks."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from provision.remote.messages import Question
from provision.resources.base import Answers, Resource
from provision.resources.health import CheckFile, Health
from provision.resources.sample_jobs import read_check
from provision.resources.unit import Socket, Unit, UnitFile

Ask = Callable[[Iterable[Question]], Answers]


def as_kept(resources: Sequence[Resource], ask: Ask) -> list[Resource]:
    """The same resources with the unit files and the checks that are kept beside their release.

    ``ask`` asks the host. A unit file that is not kept stays as it is; a worker whose release keeps
    no check is asked whether it answers.
    """
    files = {each: each.kept.path for each in resources if isinstance(each, UnitFile) and each.kept}
    checks = [each.path for each in resources if isinstance(each, CheckFile)]
    # No content has an empty digest, so the whole text is told.
    answers = ask([("path", path, "-", "text") for path in (*files.values(), *checks)])
    found = {path: one["content"] for (_, path, *_), one in answers.items() if one}
    texts = {path: content for path, content in found.items() if content}
    old = {file: file.with_text(texts[path]) for file, path in files.items() if path in texts}

    def restored(resource: Resource) -> Resource:
        if isinstance(resource, Unit | Socket):
            return replace(resource, file=old.get(resource.file, resource.file))
        if isinstance(resource, Health) and resource.check_file:
            return resource.with_check(*read_check(texts.get(resource.check_file.path, "")))
        if isinstance(resource, CheckFile):
            return replace(resource, content=texts[resource.path].encode())
        return old.get(resource, resource) if isinstance(resource, UnitFile) else resource

    def is_kept(resource: Resource) -> bool:
        return not isinstance(resource, CheckFile) or resource.path in texts

    return [restored(each) for each in resources if is_kept(each)]
