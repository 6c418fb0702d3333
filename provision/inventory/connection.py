"""How a host is reached, from Ansible's variables as people have them.

Old names and new are the same variable. ssh's arguments are read for what they say of the way
(ssh_args.py). What Ansible would do otherwise than we can is refused; what only tunes Ansible, or
is for another kind of connection, is passed over.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from provision.errors import InventoryError
from provision.inventory.references import References
from provision.inventory.schema import Variables
from provision.inventory.ssh_args import SSHArguments, parse_ssh_arguments

INTERPRETER = "ansible_python_interpreter"
PYTHON = "/usr/bin/python3"
# Other names of a variable; of those that are set, Ansible takes the last.
OTHER_NAMES = {
    "ansible_host": ("ansible_ssh_host",),
    "ansible_port": ("ansible_ssh_port",),
    "ansible_user": ("ansible_ssh_user",),
    "ansible_ssh_private_key_file": ("ansible_private_key_file", "ansible_ssh_private_key_file"),
    "ansible_become_password": ("ansible_become_pass", "ansible_sudo_pass"),
    "ansible_become_user": ("ansible_sudo_user",),
}
ARGUMENTS = ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args")
BY_ARGUMENTS = {  # variables that ssh's arguments set, where nothing else does
    "port": "ansible_port",
    "user": "ansible_user",
    "key": "ansible_ssh_private_key_file",
    "config": "gearman_ssh_config",
}
LOGIN_PASSWORDS = ("ansible_password", "ansible_ssh_pass", "ansible_ssh_password")
KNOWN_HOSTS = ("stricthostkeychecking", "userknownhostsfile", "globalknownhostsfile")
OF_COLLECTION = re.compile(
    r"(ansible\.builtin|ansible\.legacy|community\.general|ansible\.netcommon)\."
)
ONLY = {
    "ansible_connection": ("ssh", "smart", "paramiko", "paramiko_ssh"),
    "ansible_become_method": ("sudo",),
    "ansible_become_user": ("root",),
}
CURES = {
    "ansible_connection": "hosts are reached over SSH only",
    "ansible_become_method": "set up sudo there, or log in as root (ansible_user: root)",
    "ansible_become_user": "all that a deploy does takes root",
}
AUTOMATIC = ("auto", "auto_silent", "auto_legacy", "auto_legacy_silent")
PYTHON_FORM = re.compile(r"/[^\s\0\"'\\$`]+|python3?(\.\d+)?")


@dataclass(frozen=True)
class ConnectionSettings:
    """A host's variables, with those of one meaning under one name.

    ``arguments``: what ssh's say, ``arguments_name``: the variable that says it. ``notes``: what
    was passed over.
    """

    variables: Variables
    arguments: SSHArguments
    arguments_name: str
    notes: tuple[str, ...]


def read_connection(facts: Mapping[str, str], merged: Variables) -> ConnectionSettings:
    """``facts``: as :func:`host_facts`. Raises :class:`InventoryError`."""
    variables = {name: both for name, both in merged.items() if not _is_unset(name, both[0])}
    for name, others in OTHER_NAMES.items():
        for other in others:
            if other in variables:
                variables[name] = variables[other]
    arguments_name = next((name for name in ARGUMENTS[::-1] if name in variables), ARGUMENTS[1])
    arguments = _read_arguments(facts, variables)
    for field, name in BY_ARGUMENTS.items():
        if said := getattr(arguments, field):
            variables.setdefault(name, (said, variables[arguments_name][1]))
    notes = tuple(_find_notes(variables, arguments, arguments_name))
    return ConnectionSettings(variables, arguments, arguments_name, notes)


def _is_unset(name: str, value: Any) -> bool:
    return name.startswith("ansible_") and (value is None or value == "")


def _read_arguments(facts: Mapping[str, str], variables: Variables) -> SSHArguments:
    references = References(facts, variables)
    texts = [(name, references.resolve(name)) for name in ARGUMENTS if name in variables]
    for name, text in texts:
        if not isinstance(text, str):
            raise InventoryError(
                f"{variables[name][1]}: {name} should be a string, and is {text!r}"
            )
    for name, text in texts:  # each alone: so a mistake is told where it stands
        try:
            parse_ssh_arguments(text)
        except ValueError as error:
            raise InventoryError(f"{variables[name][1]}: {name}: {error}") from None
    return parse_ssh_arguments(" ".join(text for _, text in texts))


def _find_notes(
    variables: Variables, arguments: SSHArguments, arguments_name: str
) -> Iterator[str]:
    for name in LOGIN_PASSWORDS:
        if name in variables:
            yield f"{variables[name][1]}: {name} is not used: logins are by key only"
            break
    if arguments.passed_over:
        known = any(each.lower() in KNOWN_HOSTS for each in arguments.passed_over)
        more = "; host keys are always verified" if known else ""
        yield (
            f"{variables[arguments_name][1]}: {arguments_name}: without effect here: "
            f"{', '.join(arguments.passed_over)}{more}"
        )


def check_connection(values: dict[str, Any], variables: Variables) -> None:
    """Put plain names into ``values``. Raises :class:`InventoryError` for an unsupported one."""
    for name, only in ONLY.items():
        values[name] = OF_COLLECTION.sub("", values[name])
        if values[name] not in only:
            where = variables[name][1]
            raise InventoryError(
                f"{where}: {name}: only {only[0]} is supported, and not {values[name]!r}: "
                f"{CURES[name]}"
            )
    python = values[INTERPRETER].removeprefix("/usr/bin/env ").strip()
    values[INTERPRETER] = PYTHON if python in AUTOMATIC else python
    if not PYTHON_FORM.fullmatch(values[INTERPRETER]):
        raise InventoryError(
            f"{variables[INTERPRETER][1]}: {INTERPRETER} should be an absolute path or a name such "
            f"as python3.11, and is {python!r}"
        )
