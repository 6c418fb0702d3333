"""Part of a plan: a tag is a role (`worker`) or a kind of resource (`file`, `unit`, `release`)."""

from collections.abc import Iterable

from provision.errors import ToolkitError
from provision.inventory.schema import hint
from provision.resources.base import Resource, kinds


def parse(tags: str, roles: Iterable[str]) -> frozenset[str]:
    """The tags of a comma-separated list. Raises :class:`ToolkitError` for one that is none."""
    found = frozenset(tag.strip() for tag in tags.split(",") if tag.strip())
    if tags and not found:
        raise ToolkitError(f"--tags {tags}: it names nothing; without it, all is meant")
    known = sorted({*roles, *kinds()})
    for tag in sorted(found.difference(known)):
        near = hint(tag, known) or f"; there are {', '.join(known)}"
        raise ToolkitError(f"--tags: unknown tag {tag!r}{near}")
    return found


def matches(tags: frozenset[str], role: str, resource: Resource) -> bool:
    """Whether a resource of a role is meant; without tags everything is."""
    return not tags or role in tags or resource.kind in tags
