"""Part of a plan: a tag is a role (`worker`) or a kind of resource (`file`, `unit`, `release`)."""

from collections.abc import Iterable, Sequence

from provision.errors import ToolkitError
from provision.resources.base import Resource, resource_kinds
from provision.resources.health import Health
from provision.resources.release import Release, ReleaseLeftOut
from provision.resources.unit import Unit
from provision.wording import nearest_hint

ACCOUNTS = ("user:", "group:")  # of what resources provide and need


def parse(tags: str, roles: Iterable[str]) -> frozenset[str]:
    """The tags of a comma-separated list. Raises :class:`ToolkitError` for one that is none."""
    found = frozenset(tag.strip() for tag in tags.split(",") if tag.strip())
    if tags and not found:
        raise ToolkitError(f"--tags {tags}: no tag given; leave it out to mean all")
    known = sorted({*roles, *resource_kinds()})
    for tag in sorted(found.difference(known)):
        near = nearest_hint(tag, known) or f"; expected one of {', '.join(known)}"
        raise ToolkitError(f"--tags: unknown tag {tag!r}{near}")
    return found


def select(tags: frozenset[str], named: Sequence[tuple[str, Resource]]) -> list[Resource]:
    """The resources that are meant, each given with its role; without tags all are.

    The accounts that these need come along: a unit does not start without its user; and the jobs
    by which a unit is tried. A release does not, and has to be there.
    """
    if not tags:
        return [resource for _, resource in named]
    meant = {one for role, one in named if role in tags or one.kind in tags}
    while more := _accounts_of(meant, named) - meant:
        meant |= more
    found = [resource for _, resource in named if resource in meant]
    for release in {one for _, one in named if isinstance(one, Release)} - meant:
        if any(each.needs & release.provides for each in found):
            found.append(ReleaseLeftOut(release, in_use=release.current not in meant))
    units = {each.name for each in found if isinstance(each, Unit)}
    healths = (one for _, one in named if isinstance(one, Health) and one not in meant)
    found += (each for each in healths if each.unit in units)
    provided = frozenset().union(*(each.provides for each in found))
    return [each.within(provided) for each in found]


def _accounts_of(
    resources: Iterable[Resource], named: Iterable[tuple[str, Resource]]
) -> set[Resource]:
    needs = {need for each in resources for need in each.needs if need.startswith(ACCOUNTS)}
    return {resource for _, resource in named if resource.provides & needs}
