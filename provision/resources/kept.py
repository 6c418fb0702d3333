"""What is kept beside a release, so that a rollback brings it back: unit files, and checks."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from provision.remote.messages import Question
from provision.resources.base import Answers, Resource
from provision.resources.health import CheckFile, Health, WorkerHealth
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
    texts = _read_texts([*files.values(), *checks], ask)
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


def running_workers(resources: Sequence[Resource], ask: Ask) -> list[Resource]:
    """The units of workers that run, with the files, checks and links that they have now."""
    workers = {each.unit for each in resources if isinstance(each, WorkerHealth)}
    units = [each for each in resources if isinstance(each, Unit) and each.name in workers]
    states = ask([("unit", each.name) for each in units])
    checks = [each for each in resources if isinstance(each, CheckFile)]
    texts = _read_texts([each.path for each in (*checks, *(unit.file for unit in units))], ask)

    running = [
        replace(each, file=each.file.with_text(texts[each.file.path]))
        for each in units
        if each.file.path in texts and (states["unit", each.name] or {}).get("active") == "active"
    ]
    return [
        *dict.fromkeys(each.file for each in running),
        *(replace(e, content=texts[e.path].encode()) for e in checks if e.path in texts),
        *dict.fromkeys(each.current for each in running),
        *running,
    ]


def _read_texts(paths: Iterable[str], ask: Ask) -> dict[str, str]:
    """The texts of those files that are there and not empty."""
    # No content has an empty digest, so the whole text is told.
    answers = ask([("path", path, "-", "text") for path in dict.fromkeys(paths)])
    found = {path: one["content"] for (_, path, *_), one in answers.items() if one}
    return {path: content for path, content in found.items() if content}
