"""What may be said of workers, apps and schedules in tables, as schema.yml shows it.

Each file's part is checked as it is read, so a mistake is told with its line whether or not another
file overrides it. What only the whole can tell is checked in workers.py.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from provision.errors import InventoryError
from provision.inventory.document import Place, Table
from provision.inventory.references import has_reference
from provision.inventory.secrets import Secret, make_secret
from provision.inventory.writable_folders import why_refused

NAME = r"[A-Za-z0-9_][A-Za-z0-9_-]*"
LONGEST_NAME = 100  # characters; a unit's, with what we add, may have 255
MEMORY = r"\d+(\.\d+)?[KMGTPE%]?|infinity", "as systemd writes it: 512M, 1.5G, 75%"
PACKAGE = r"[a-z0-9][a-z0-9+.-]+", "a Debian package's name"
FUNCTION = r"[A-Za-z0-9_][A-Za-z0-9_.:/+-]*", "letters, digits, `_.:/+-`"
CHOICES = {
    "log_level": ("info", "debug"),
    "stop_signal": (*("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH"),),
    "priority": ("high", "normal", "low"),
    "missed": ("once", "all", "none"),
    "overlap": ("allow", "skip"),
}
KINDS = {
    str: "a string",
    int: "a whole number",
    bool: "true or false",
    list: "a list of strings",
    dict: "`name: value` pairs",
}

# What a text, or each of a list, has to look like.
FORMS = {
    "functions": FUNCTION,
    "memory": MEMORY,
    "cpu": (r"0*[1-9]\d*%", "a share of one CPU: 50%, 200%"),
    "command": (r"[^\0-\x1f]*", "on one line"),
    "program": (r"[^\0-\x1f]*", "on one line"),
    "run": (r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", "as shop.tasks:worker, MODULE:OBJECT"),
    "app": (NAME, "the name of an app"),
    "packages": PACKAGE,
    "source": (r"[^\0-\x1f]+", "a folder"),
    "ref": (r"[^\0-\x20-][^\0-\x20]*", "a commit, tag or branch"),
    "lock": (r"[^\0-\x1f]+", "a file"),
    "build": (r"[^\0]*", "without NUL"),
    "function": (r"[^\0\t\n]{1,512}", "at most 512 characters on one line"),
    "unique": (r"[^\0\t\n]{1,64}", "at most 64 characters on one line"),
}
RANGES = {
    "processes": (1, 512),
    "concurrency": (1, 512),
    "instances": (1, 64),
    "timeout": (1, 7 * 86400),
    "retries": (1, 100),
    "stop_timeout": (1, 86400),
    "nice": (-20, 19),
}
CHECK = ("function", "workload", "file", "expect", "expect_file")
FILES_OF_CHECK = ("file", "expect_file")
CREDENTIAL = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"
VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
READABLE = "users of the host may read it there; put it into secrets"
PASSWORD = re.compile(r"[a-z][a-z0-9+.-]*://[^/@]*:[^/]*@")  # in a URL
RESERVED = (  # which the unit sets, or systemd for it
    *("GEARMAN_", "GEARMAND_", "NOTIFY_SOCKET", "WATCHDOG_", "CREDENTIALS_DIRECTORY"),
    *("INVOCATION_ID", "JOURNAL_STREAM", "LISTEN_", "MAINPID", "MANAGERPID", "SYSTEMD_EXEC_PID"),
)

Hint = Callable[[str, Iterable[str]], str]


def check_table(
    variable: str, value: Any, where: Place, known: Mapping[str, Any], hint: Hint
) -> None:
    """Raises :class:`InventoryError` for an invalid setting of a worker, app or schedule.

    ``known``: setting -> an example of the right kind.
    """
    noun = variable.removeprefix("gearman_").removesuffix("s")
    for name, settings in _table(variable, value, where).items():
        place = value.places[name]
        if not re.fullmatch(NAME, name, re.ASCII):
            raise InventoryError(
                f"{place}: {noun} {name!r} is not a valid name; use letters, digits, `_` and `-`"
            )
        if len(name) > LONGEST_NAME:
            raise InventoryError(
                f"{place}: {noun} {name[:20]}...: a name has at most {LONGEST_NAME} characters, "
                f"and this one {len(name)}"
            )
        if settings is None:  # not here, though a wider group has it
            continue
        for key, one in _table(f"{noun} {name}", settings, place).items():
            _check(f"{noun} {name}", key, one, settings.places[key], known, hint)


def check_groups(value: Any, where: Place, roles: Iterable[str]) -> None:
    """Raises :class:`InventoryError` for what does not say which groups have which roles."""
    for role, names in _table("gearman_groups", value, where).items():
        place = value.places[role]
        if role not in roles:
            raise InventoryError(
                f"{place}: gearman_groups: unknown role {role!r}; expected "
                f"{', '.join(sorted(roles))}"
            )
        listed = [names] if isinstance(names, str) else names or []
        if not isinstance(listed, list) or not all(type(each) is str for each in listed):
            raise InventoryError(
                f"{place}: gearman_groups: {role} should be the name of a group or a list of them, "
                f"and is {_shown(names)}"
            )


def _table(what: str, value: Any, where: Place) -> Table:
    if not isinstance(value, Table):
        raise InventoryError(
            f"{where}: {what} should be `name: value` pairs, and is {_shown(value)}"
        )
    return value


def _check(
    what: str, key: str, value: Any, where: Place, known: Mapping[str, Any], hint: Hint
) -> None:
    if key not in known:
        raise InventoryError(
            f"{where}: {what}: unknown setting {key!r}"
            f"{hint(key, known) or '; expected one of ' + ', '.join(sorted(known))}"
        )
    if isinstance(value, Secret):
        why = "name each" if key == "secrets" else READABLE
        why = "gearadmin --schedules shows it" if what.startswith("schedule ") else why
        raise InventoryError(f"{where}: {what}: {key} cannot be a secret: {why}")
    if isinstance(value, list) and any(isinstance(each, Secret) for each in value):
        raise InventoryError(f"{where}: {what}: {key} cannot have a secret in it: {READABLE}")
    if has_reference(value):
        return  # which is checked when it is followed
    if key in CHOICES:
        _check_choice(what, key, value, where, hint)
    if key == "processes" and isinstance(value, str):
        _check_process_range(what, value, where)
        return
    kind, ours = _kind(known[key]), _kind(value)
    texts = kind is not list or all(type(each) is str for each in value or ())
    if ours is not kind or not texts or value in ("", []):
        quoted = "; put it in quotes" if kind is str and ours in (int, float) else ""
        raise InventoryError(
            f"{where}: {what}: {key} should be {KINDS[kind]}, and is {_shown(value)}{quoted}"
        )
    if kind is int:
        least, most = RANGES[key]
        if not least <= value <= most:
            raise InventoryError(
                f"{where}: {what}: {key} should be from {least} to {most}, and is {value}"
            )
    form, like = FORMS.get(key, (".*", ""))
    for text in value if kind is list else [value] if kind is str else ():
        if not re.fullmatch(form, text, re.ASCII | re.DOTALL):
            raise InventoryError(f"{where}: {what}: {key}: {text!r} should be {like}")
        if key == "source" and PASSWORD.match(text):
            raise InventoryError(
                f"{where}: {what}: the URL of its source has a password: leave it out; git asks "
                "its credential helper for it (gitcredentials(7)), or take an ssh URL"
            )
        if key == "writes" and (why := why_refused(text)):
            name = what.rpartition(" ")[2]
            raise InventoryError(
                f"{where}: {what}: writes: {text} {why}; expected a folder such as /var/lib/{name}"
            )
    if key == "check":
        _check_check(what, value, where, hint)
    if key == "environment":
        _check_environment(what, value)
    if key == "secrets":
        _read_secrets(what, value)


def _check_choice(what: str, key: str, value: Any, where: Place, hint: Hint) -> None:
    *first, last = CHOICES[key]
    if value not in CHOICES[key]:
        near = hint(value, CHOICES[key]) if isinstance(value, str) else ""
        raise InventoryError(
            f"{where}: {what}: {key} should be {', '.join(first)} or {last}, and is "
            f"{_shown(value)}{near}"
        )


def _check_process_range(what: str, value: str, where: Place) -> None:
    least, most = RANGES["processes"]
    found = re.fullmatch(r"(\d{1,3})-(\d{1,3})", value, re.ASCII)
    if not found or not least <= int(found[1]) <= int(found[2]) <= most:
        raise InventoryError(
            f"{where}: {what}: processes should be a whole number from {least} to {most}, or the "
            f"least and the most, as 2-8, and is {value!r}"
        )


def _check_check(what: str, value: Table, where: Place, hint: Hint) -> None:
    for name, text in value.items():
        if name not in CHECK:
            raise InventoryError(
                f"{value.places[name]}: {what}: unknown part of check {name!r}"
                f"{hint(name, CHECK) or '; expected one of ' + ', '.join(CHECK)}"
            )
        if isinstance(text, Secret):
            raise InventoryError(
                f"{value.places[name]}: {what}: {name} of check cannot be a secret: {READABLE}"
            )
        if type(text) is not str:
            raise InventoryError(
                f"{value.places[name]}: {what}: {name} of check should be a string, and is "
                f"{_shown(text)}"
            )
    for pair in (("workload", "file"), ("expect", "expect_file")):
        if all(name in value for name in pair):
            raise InventoryError(
                f"{value.places[pair[1]]}: {what}: check has {' and '.join(pair)}; expected one"
            )
    if "expect" not in value and "expect_file" not in value:
        raise InventoryError(f"{where}: {what}: check has no expect: say the answer it should have")


def _check_environment(what: str, value: Table) -> None:
    """Numbers and booleans become texts, as JSON writes them: they are not from YAML."""
    for name, text in value.items():
        if isinstance(text, (bool, int, float)):
            value[name] = text = json.dumps(text)
        where = value.places[name]
        if not re.fullmatch(VARIABLE, name, re.ASCII):
            raise InventoryError(f"{where}: {what}: {name!r} is not a variable name")
        if name.startswith(RESERVED):
            raise InventoryError(f"{where}: {what}: {name} is set by the deploy or systemd itself")
        if isinstance(text, Secret):
            raise InventoryError(f"{where}: {what}: {name} cannot be a secret: {READABLE}")
        if type(text) is not str:
            raise InventoryError(
                f"{where}: {what}: {name} should be a string, and is {_shown(text)}"
            )
        if not has_reference(text) and re.search(r"[\0-\x1f]", text):
            raise InventoryError(f"{where}: {what}: {name} should be on one line")


def _read_secrets(what: str, value: Table) -> None:
    """Each of them becomes a :class:`Secret`."""
    for name, given in value.items():
        where = value.places[name]
        if not re.fullmatch(CREDENTIAL, name, re.ASCII):
            raise InventoryError(
                f"{where}: {what}: {name!r} is not a valid name of a secret; use letters, digits, "
                "`_.-`"
            )
        value[name] = make_secret(f"{what}: secret {name}", given, where)


def _kind(value: Any) -> type[Any]:
    return dict if isinstance(value, Table) else type(value)


def _shown(value: Any) -> str:
    if isinstance(value, Table):
        return "`name: value` pairs"
    return "nothing" if value is None else repr(value)
