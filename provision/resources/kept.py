"""What a host ran with, to be put back: unit files and checks.

With another release those that are kept beside it; where only settings change, those that it had.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import PurePosixPath

from provision.release.build import ON_HOSTS
from provision.remote.messages import Question
from provision.resources.base import Answers, Resource
from provision.resources.files import Link
from provision.resources.former_units import FormerUnits
from provision.resources.health import CheckFile, Health
from provision.resources.program import Program
from provision.resources.sample_jobs import read_checks
from provision.resources.unit import FOLDER, WORKER_UNITS, FormerWorker, Socket, Unit, UnitFile
from provision.resources.unit_text import with_servers_of

Ask = Callable[[Iterable[Question]], Answers]
WORKERS_QUESTION: Question = ("units", WORKER_UNITS)
SERVER = f"{FOLDER}/gearmand."


def as_kept(
    resources: Sequence[Resource], ask: Ask, before: Mapping[str, str] | None = None
) -> list[Resource]:
    """The same resources with the unit files and the checks that are kept beside their release.

    ``ask`` asks the host. A unit file that is not kept stays as it is; a worker whose release keeps
    no check is asked whether it answers. Where job servers are is the fleet's matter, and no
    release's: they stay where the host's files have them, or had them ``before``.
    """
    files = {each: each.kept.path for each in resources if isinstance(each, UnitFile) and each.kept}
    checks = [each.path for each in resources if isinstance(each, CheckFile)]
    texts = _read_texts([*files.values(), *checks], ask)
    now = before or _read_texts((each.path for each in files), ask)
    moves = any(
        path in texts and _listens(texts[path]) != _listens(now.get(file.path, texts[path]))
        for file, path in files.items()
    )
    old = {
        file: file.with_text(with_servers_of(texts[path], now.get(file.path, "")))
        for file, path in files.items()
        if path in texts and not (moves and SERVER in file.path)
    }

    def restored(resource: Resource) -> Resource:
        if isinstance(resource, Unit | Socket):
            return replace(resource, file=old.get(resource.file, resource.file))
        if isinstance(resource, Health):
            return _with_check(resource, texts)
        if isinstance(resource, CheckFile):
            return replace(resource, content=texts[resource.path].encode())
        return old.get(resource, resource) if isinstance(resource, UnitFile) else resource

    def is_kept(resource: Resource) -> bool:
        return not isinstance(resource, CheckFile) or resource.path in texts

    return [restored(each) for each in resources if is_kept(each)]


def _listens(text: str) -> tuple[list[str], bool]:
    """Where a job server does, as its unit files say, and whether it speaks TLS."""
    return re.findall(r"^ListenStream=(.*)$", text, re.MULTILINE), " --ssl " in text


@dataclass(frozen=True)
class Ran:
    """What a host had before it was changed, to be put back if that fails.

    ``texts``: of its unit files and checks, by path. ``known``: the units of its workers that were
    there, and of these ``active`` those that ran.
    """

    texts: Mapping[str, str]
    known: frozenset[str]
    active: frozenset[str]


def what_runs(resources: Iterable[Resource], ask: Ask) -> Ran:
    """What a host has now, of what ``resources`` are about to change there."""
    units = ask([WORKERS_QUESTION])[WORKERS_QUESTION]
    known = {name for name, found in units.items() if found["ours"]}
    active = frozenset(name for name in known if units[name]["active"])
    paths = [each.path for each in resources if isinstance(each, UnitFile | CheckFile)]
    own = (f"{FOLDER}/{file}" for name in active for file in (name, _template_of(name)))
    return Ran(_read_texts([*paths, *own], ask), frozenset(known), active)


def as_ran(resources: Sequence[Resource], ran: Ran) -> list[Resource]:
    """The same resources with the workers that ran, and files as they were."""
    old = {
        each: each.with_text(ran.texts[each.path])
        for each in resources
        if isinstance(each, UnitFile) and each.path in ran.texts
    }
    left = {each.name for each in resources if isinstance(each, Unit) and not _ran(each, ran)}
    kept = [restored for each in resources for restored in _restored(each, ran, old, left)]
    there = {each.name for each in kept if isinstance(each, Unit)}
    files = {each.path: each for each in kept if isinstance(each, UnitFile)}
    programs = {_instance_of(each.name): each for each in resources if isinstance(each, Program)}
    for name in sorted(ran.active - there):
        file = _file_of(name, ran.texts)
        file = file and files.get(file.path, file)  # a template's may be there
        if file and (program := programs.get(_instance_of(name))):
            kept += [file, replace(program, name=name, file=file, folder="")]
        elif file:
            kept += [file, FormerWorker(name, file, Link(f"{ON_HOSTS}/current"))]
    return list(dict.fromkeys(kept))


def without_new_workers(resources: Sequence[Resource], ran: Ran) -> list[Resource]:
    """The same resources without the workers that were not there, which are then removed.

    A release from before them may lack their code. A program has a unit for each release.
    """
    there = {*ran.known, *map(_instance_of, ran.known)} - {""}
    units = [e for e in resources if isinstance(e, Unit) and fnmatch(e.name, WORKER_UNITS)]
    new = [e for e in units if there.isdisjoint((e.name, _instance_of(e.name) or e.name))]
    names = {each.name for each in new}
    files = {each.file for each in new} - {each.file for each in units if each not in new}

    def is_new(each: Resource) -> bool:
        if isinstance(each, Health):
            return each.unit in names
        return each in new or each in files

    def without(each: Resource) -> Resource:
        if not isinstance(each, FormerUnits):
            return each
        gone = {PurePosixPath(file.path).name for file in files}
        wanted = tuple(name for name in each.wanted if name not in names)
        left = tuple(name for name in each.files if name not in gone)
        newer = tuple(sorted(_instance_of(name) or _stem_of(name) for name in names))
        return replace(each, wanted=wanted, files=left, newer=newer)

    return [without(each) for each in resources if not is_new(each)]


def workers_alone(resources: Iterable[Resource]) -> list[Resource]:
    """Of what a host should be its workers, with their files, checks and links."""
    found = list(resources)
    units = [e for e in found if isinstance(e, Unit) and fnmatch(e.name, WORKER_UNITS)]
    return [
        *dict.fromkeys(each.file for each in units),
        *(each for each in found if isinstance(each, CheckFile)),
        *dict.fromkeys(each.current for each in units if each.current in found),
        *units,
        *(each for each in found if isinstance(each, FormerUnits) and "@" in each.pattern),
    ]


def _ran(unit: Unit, ran: Ran) -> bool:
    """Whether it was there; of a worker, whether it ran."""
    is_worker = fnmatch(unit.name, WORKER_UNITS)
    return unit.file.path in ran.texts and (not is_worker or unit.name in ran.active)


def _restored(
    each: Resource, ran: Ran, old: Mapping[UnitFile, UnitFile], left: AbstractSet[str]
) -> Iterator[Resource]:
    """One of the resources as it was; nothing, if it was not there."""
    if isinstance(each, UnitFile):
        yield from [old[each]] if each in old else []
    elif isinstance(each, Unit):
        yield from [] if each.name in left else [replace(each, file=old[each.file])]
    elif isinstance(each, Socket):
        yield from [replace(each, file=old[each.file])] if each.file in old else []
    elif isinstance(each, Health):
        yield from [] if each.unit in left else [_with_check(each, ran.texts)]
    elif isinstance(each, CheckFile):
        if each.path in ran.texts:
            yield replace(each, content=ran.texts[each.path].encode())
    elif isinstance(each, FormerUnits) and "@" in each.pattern:
        files = (PurePosixPath(path).name for path in ran.texts)
        yield replace(each, wanted=tuple(sorted(ran.known)), files=tuple(sorted(files)))
    else:
        yield each


def _with_check(health: Health, texts: Mapping[str, str]) -> Health:
    """The same with the check that is kept; where none is, a job that any release does."""
    if not health.check_file:
        return health
    checks = read_checks(texts.get(health.check_file.path, ""))
    last, *earlier = dict.fromkeys(health.with_check(*each) for each in checks)
    return replace(last, earlier=tuple(earlier))


def _file_of(name: str, texts: Mapping[str, str]) -> UnitFile | None:
    """The file of a unit that ran: its own, or its template's."""
    paths = (f"{FOLDER}/{each}" for each in (name, _template_of(name)))
    return next(
        (UnitFile(path, content=texts[path].encode()) for path in paths if path in texts), None
    )


def _template_of(name: str) -> str:
    return re.sub(r"@.*\.", "@.", name)


def _instance_of(name: str) -> str:
    """Of a program's unit what is before the digest of its file."""
    return _stem_of(name).rpartition(".")[0]


def _stem_of(name: str) -> str:
    return name.removesuffix(".service")


def _read_texts(paths: Iterable[str], ask: Ask) -> dict[str, str]:
    """The texts of those files that are there and not empty."""
    # No content has an empty digest, so the whole text is told.
    answers = ask([("path", path, "-", "text") for path in dict.fromkeys(paths)])
    found = {path: one["content"] for (_, path, *_), one in answers.items() if one}
    return {path: content for path, content in found.items() if content}
