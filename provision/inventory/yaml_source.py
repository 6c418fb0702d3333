"""A source in YAML or JSON: groups with their hosts, children and vars."""

from pathlib import Path

import yaml

from provision.errors import InventoryError
from provision.inventory.document import Place, mapping_pairs, place_of
from provision.inventory.groups import Groups
from provision.inventory.schema import read_variables
from provision.wording import nearest_hint

SECTIONS = ("hosts", "children", "vars")
NOTHING = "tag:yaml.org,2002:null"
TEXT = "tag:yaml.org,2002:str"


def read_yaml(path: Path, node: yaml.Node, groups: Groups) -> None:
    """Add what it says. Raises :class:`InventoryError`."""
    reader = _YAMLReader(path, groups)
    for key, value in mapping_pairs(path, node):
        reader.read_group(key, value)


class _YAMLReader:
    def __init__(self, path: Path, groups: Groups) -> None:
        self._path = path
        self._groups = groups

    def read_group(self, key: yaml.ScalarNode, value: yaml.Node) -> str | None:
        """Its name; None if it is not a group, which Ansible passes over as well."""
        name, where = str(key.value), place_of(self._path, key)
        if not isinstance(value, yaml.MappingNode) and value.tag != NOTHING:
            self._warn(where, f"{name} is not a group: it has no hosts, children or vars")
            return None
        group = self._groups.add_group(name, where)
        for section, content in mapping_pairs(self._path, value):
            place = place_of(self._path, section)
            if section.value == "vars":
                group.variables.update(read_variables(self._path, _as_mapping(content)))
            elif section.value == "children":
                for below, inner in mapping_pairs(self._path, _as_mapping(content)):
                    child = self.read_group(below, inner)
                    if child is not None:
                        group.children[child] = None
            elif section.value == "hosts":
                for pattern, own in mapping_pairs(self._path, _as_mapping(content)):
                    variables = read_variables(self._path, own)
                    at = place_of(self._path, pattern)
                    self._groups.add_hosts(name, str(pattern.value), at, variables)
            else:
                self._refuse_or_warn(place, name, str(section.value))
        return name

    def _refuse_or_warn(self, place: Place, group: str, section: str) -> None:
        """What is nearly a section would lose its hosts in silence; other things are let be."""
        problem = f"a group has hosts, children and vars, and no {section!r}"
        if near := nearest_hint(section, SECTIONS):
            raise InventoryError(f"{place}: {problem}{near}")
        self._warn(place, f"{problem}: it is not read (group {group})")

    def _warn(self, where: Place, text: str) -> None:
        self._groups.warnings.append(f"{where}: {text}")


def _as_mapping(node: yaml.Node) -> yaml.Node:
    """As Ansible has it, `hosts: web1` is the mapping `hosts: {web1: }`."""
    if not isinstance(node, yaml.ScalarNode) or node.tag != TEXT:
        return node
    nothing = yaml.ScalarNode(NOTHING, "", node.start_mark, node.end_mark)
    return yaml.MappingNode(
        "tag:yaml.org,2002:map", [(node, nothing)], node.start_mark, node.end_mark
    )
