"""Which files an inventory is read from, and in which form each is.

A folder is all of its files, and those of its folders, in the order of their names; what Ansible
passes over (hidden files, group_vars, host_vars, *.cfg, *.md ...) and what is ours (known_hosts,
keys, tls/) are not among them. A file is an inventory of its own.

The forms: YAML or JSON (yaml_source.py), INI (ini_source.py), an executable or what one printed
(list_source.py). A plugin's configuration, or TOML, is asked of `ansible-inventory`, together with
all other sources, because a plugin may compute groups from what the sources before it say.
"""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from provision.errors import InventoryError
from provision.inventory import document, vault
from provision.inventory.document import INPUT, Place
from provision.inventory.groups import Groups
from provision.inventory.ini_source import first_line, has_sections, read_ini, starts_with_section
from provision.inventory.list_source import (
    META,
    NotAnInventory,
    parse_list,
    read_list,
    run_executable,
    run_program,
)
from provision.inventory.vars_files import SUFFIXES
from provision.inventory.yaml_source import read_yaml

PASSED_OVER = (
    *(".pyc", ".pyo", ".swp", ".bak", "~", ".rpm", ".md", ".txt", ".rst"),  # as Ansible does
    *(".orig", ".cfg", ".retry"),
    *(".pub", ".pem", ".key", ".crt"),  # and what else lies beside inventories
)
OURS = ("known_hosts", "ssh_config", "tls")
FOLDERS_OF_VARIABLES = ("group_vars", "host_vars", "vars_plugins")
KEY_STARTS = ("-----BEGIN", "ssh-", "ecdsa-")
PROGRAM_STARTS = (b"#!", b"\x7fELF")
START_SIZE = 1 << 16  # bytes by which it is seen that a file is not an inventory
STARTS_YAML = re.compile(r"[{\"'?]|\S+\s*:(\s|$)")
PLUGIN = "plugin"
PASSED = ": the file is passed over"
ANSIBLE = "ansible-inventory"


@dataclass(frozen=True)
class Source:
    """A file, and what was found in it. ``form``: yaml, ini, list, executable or plugin."""

    path: Path
    form: str
    text: str = ""
    node: yaml.Node | None = None
    plugin: str = ""  # its name


def base_folder(path: Path) -> Path:
    """Where group_vars, known_hosts and relative paths of an inventory are."""
    if path.is_dir():
        return path
    return path.parent if path.is_file() else Path()  # of a pipe: the current folder


def read_sources(path: Path) -> Groups:
    """All that an inventory's sources say. Raises :class:`InventoryError`."""
    groups = Groups(path)
    sources = list(_find_sources(path, groups))
    if plugins := [each for each in sources if each.form == PLUGIN]:
        _ask_ansible(sources, plugins[0], groups)
        return groups
    for source in sources:
        try:
            _read_source(source, groups)
        except NotAnInventory as error:
            _pass_over(groups if path.is_dir() else None, error)
    return groups


def _find_sources(path: Path, groups: Groups) -> Iterator[Source]:
    if path.is_dir():
        found = [source for each in _files_within(path) if (source := _recognize(each, groups))]
        for source in found:
            if source.form == "executable" and source.path.parent != path:
                raise InventoryError(
                    f"{source.path}: programs in folders of an inventory are not run: name it, or "
                    "make it not executable"
                )
        if not found:
            if groups.warnings:
                raise InventoryError(groups.warnings[0].partition(PASSED)[0])
            raise InventoryError(f"{path}: it holds no inventory, such as hosts.yml or hosts.ini")
        yield from found
    elif path == INPUT or path.exists():
        source = _recognize(path)
        assert source is not None  # noqa: S101  # alone, a file is read or refused
        yield source
    else:
        named = (
            each for end in ("", ".ini", *SUFFIXES) for each in path.parent.glob(f"*/hosts{end}")
        )
        beside = sorted({each.parent for each in named})
        known = f"; there is {' and '.join(map(str, beside))}" if beside else ""
        raise InventoryError(f"{path}: no such file or folder{known}")


def _files_within(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir(), key=lambda each: each.name):
        name = path.name
        if name.startswith(".") or name in OURS or name.endswith(PASSED_OVER):
            continue
        if path.is_dir():
            if name not in FOLDERS_OF_VARIABLES and not folder.resolve().is_relative_to(
                path.resolve()
            ):
                _check_part(path)
                yield from _files_within(path)
        elif path.is_file():
            yield path


def _check_part(folder: Path) -> None:
    """A folder within an inventory is a part of it, unless it has what only whole ones have."""
    for name in (*FOLDERS_OF_VARIABLES, *OURS):
        if (folder / name).exists():
            raise InventoryError(
                f"{folder} is an inventory of its own, for it has {name}: name it, or a file of "
                f"{folder.parent}"
            )


def _recognize(path: Path, groups: Groups | None = None) -> Source | None:
    """The source that a file is. One of a folder (with ``groups``) may be something else: None."""
    if groups is not None and vault.is_password_source(path):
        return None
    if _is_program(path):
        return Source(path, "executable")
    try:
        if groups is not None:
            _check_start(path)
        text = document.read_text(path)
    except InventoryError as error:
        _pass_over(groups, error)
        return None
    if vault.is_encrypted(text):
        raise InventoryError(
            f"{path}: the list of hosts cannot be encrypted: write it in plain text, and "
            "what is secret into an encrypted file of group_vars"
        )
    if groups is not None and text.startswith(KEY_STARTS):
        return None
    if path.suffix == ".toml":
        return Source(path, PLUGIN, plugin="toml")
    if path.suffix in ("", *SUFFIXES) and not starts_with_section(text):
        try:
            return _recognize_yaml(path, text, document.parse_yaml(path, text), groups)
        except _NotYAML as error:
            if path.suffix:
                _pass_over(groups, InventoryError(str(error)))
                return None
        except InventoryError:
            if path.suffix or text.startswith("---"):
                raise
    if groups is not None and not has_sections(text):
        # Perhaps a list of hosts without groups; perhaps a README or a Makefile.
        try:
            read_ini(path, text, Groups(path))
        except InventoryError as error:
            _pass_over(groups, error)
            return None
    return Source(path, "ini", text)


def _check_start(path: Path) -> None:
    """Raises :class:`InventoryError` if a large file of a folder cannot be an inventory.

    So the whole of an image, a dump or a log that lies there is not read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(START_SIZE)
    except OSError:
        return  # which read_text() tells
    if b"\0" in start:
        raise InventoryError(f"{path}: it is not text")
    lines, _, end = start.rpartition(b"\n")
    text = (lines or end).decode(errors="replace")
    may_be_yaml = path.suffix in SUFFIXES or (
        not path.suffix and STARTS_YAML.match(first_line(text, "%"))
    )
    if len(start) < START_SIZE or may_be_yaml:
        return
    if not lines:
        raise InventoryError(f"{path}: its first line is too long for a list of hosts")
    if not has_sections(text):
        read_ini(path, text, Groups(path))


class _NotYAML(Exception):
    pass


def _recognize_yaml(path: Path, text: str, node: yaml.Node, groups: Groups | None) -> Source:
    if not isinstance(node, yaml.MappingNode):
        kind = "a list" if isinstance(node, yaml.SequenceNode) else "a string"
        raise _NotYAML(f"{document.place_of(path, node)}: expected `name:` lines, found {kind}")
    keys = {key.value: value for key, value in node.value if isinstance(key, yaml.ScalarNode)}
    plugin = keys.get(PLUGIN)
    if isinstance(plugin, yaml.ScalarNode) and plugin.value:
        return Source(path, PLUGIN, plugin=str(plugin.value))
    return Source(path, "list" if META in keys else "yaml", text, node)


def _pass_over(groups: Groups | None, error: InventoryError) -> None:
    """Warn of a file of a folder; raise for one that was named."""
    if groups is None:
        raise error
    groups.warnings.append(f"{error}{PASSED}")


def _is_program(path: Path) -> bool:
    """Whether it can be run. A list of hosts that is marked executable by mistake cannot."""
    if not path.is_file() or not os.access(path, os.X_OK):
        return False
    try:
        with path.open("rb") as file:
            return file.read(4).startswith(PROGRAM_STARTS)
    except OSError:
        return False


def _read_source(source: Source, groups: Groups) -> None:
    if source.form == "executable":
        run_executable(source.path, groups)
    elif source.form == "ini":
        read_ini(source.path, source.text, groups)
    elif source.node is not None:
        repeated = document.repeated_names(source.path, source.node)
        groups.warnings += (f"{each}: the last one counts" for each in repeated)
        if source.form == "list":
            said = document.read_tables(source.path, source.node)
            read_list(said, Place(source.path, 1), groups)
        else:
            read_yaml(source.path, source.node, groups)


def _ask_ansible(sources: Sequence[Source], plugin: Source, groups: Groups) -> None:
    program = shutil.which(ANSIBLE)
    paths = [argument for each in sources for argument in ("-i", str(each.path))]
    what = "TOML" if plugin.plugin == "toml" else f"a configuration of Ansible's {plugin.plugin}"
    if program is None:
        raise InventoryError(
            f"{plugin.path}: it is {what}, which takes ansible-core: install it (pipx install "
            f"ansible-core), or keep as hosts.json what `{ANSIBLE} {' '.join(paths)} --list "
            "--export` prints elsewhere"
        )
    environment = os.environ | {
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true",
        "ANSIBLE_NOCOLOR": "true",
        "ANSIBLE_VARS_ENABLED": "",  # group_vars and host_vars are read here
    }
    if any("use_vars_plugins" in document.read_text(each.path) for each in sources if each.plugin):
        del environment["ANSIBLE_VARS_ENABLED"]
    where = Place(plugin.path, 1)
    printed = run_program([program, *paths, "--list", "--export"], where, environment)
    read_list(parse_list(printed, where), where, groups)
