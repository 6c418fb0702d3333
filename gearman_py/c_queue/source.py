"""Where a C gearmand stored its queue, as an operator writes it: `TYPE:KEY=VALUE ...`.

The types and the defaults are those of the C gearmand's options.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from gearman_py.c_queue.base import Rows, SourceError, refuse_open
from gearman_py.c_queue.open_file import find_holder
from gearman_py.config import PASSWORD, read_password
from gearman_py.optional_module import late_imports

Values = dict[str, str]

USE = {"in_use": "refuse", "again": "no"}
MYSQL = {"host": "localhost", "port": "3306", "user": "", "db": "", "passfile": ""}
REDIS = {"host": "127.0.0.1", "port": "6379", "prefix": "_gear_", "passfile": ""}
DEFAULTS: dict[str, Values] = {
    "libsqlite3": {"file": "", "table": "gearman_queue", **USE},
    "libpq": {"table": "queue", **USE},
    "mysql": {**MYSQL, "table": "gearman_queue", **USE},
    "redis": {**REDIS, "functions": "", **USE},
    "libmemcached": {
        "host": "127.0.0.1",
        "port": "11211",
        "prefix": "gear_",
        "functions": "",
        "again": "no",
    },
}
NO_IDENTITY = {"again", "functions", "in_use", "passfile"}
WORD = re.compile(r"(?:[^\s']|'(?:[^'\\]|\\.)*')+")
"""A word of a connection string of libpq: its quotes are single, and a backslash escapes."""
OTHER_NAMES = {"sqlite": "libsqlite3", "postgres": "libpq", "memcached": "libmemcached"}


@dataclass(frozen=True)
class StoredQueue:
    """A queue that a C gearmand stored. ``conninfo`` are the words that libpq understands."""

    kind: str
    values: Values
    conninfo: str
    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def identity(self) -> str:
        """Which queue it is, however the operator writes it."""
        values = {key: self.values[key] for key in self.values.keys() - NO_IDENTITY}
        if self.kind == "libsqlite3":
            values["file"] = os.path.realpath(values["file"])
        return repr((self.kind, sorted(values.items()), sorted(self.conninfo.split())))

    @classmethod
    def parse(cls, text: str) -> "StoredQueue":
        """Raises ValueError with a message for operators."""
        name, colon, rest = text.partition(":")
        kind = OTHER_NAMES.get(name.lower(), name.lower())
        if not colon or kind not in DEFAULTS:
            raise ValueError(
                f"unknown type {name!r}; expected {_format_choice(DEFAULTS)}, a colon and where "
                "the queue is, such as libsqlite3:FILE"
            )
        if (
            kind == "libsqlite3"
            and rest
            and not rest.startswith(tuple(f"{key}=" for key in DEFAULTS[kind]))
        ):
            return cls(kind, {**DEFAULTS[kind], "file": rest}, "", text)
        if PASSWORD.search(rest):
            other = "set $PGPASSFILE" if kind == "libpq" else "use passfile=FILE"
            raise ValueError(f"every user of this machine could read the password: {other}")
        values, others = _read_words(rest, DEFAULTS[kind])
        if others and kind != "libpq":
            expected = _format_choice(values)
            raise ValueError(f"{others[0]!r} is not KEY=VALUE with the key {expected}")
        if not values.get("file", "-"):
            raise ValueError("the file is missing: libsqlite3:FILE")
        if not values.get("port", "0").isdecimal():
            raise ValueError(f"port: {values['port']!r} is not a number")
        for key, choice in (("in_use", ("refuse", "ignore")), ("again", ("no", "yes"))):
            if values.get(key, choice[0]) not in choice:
                raise ValueError(f"{key}: {values[key]!r} is not {' or '.join(choice)}")
        return cls(kind, values, " ".join(others), text)

    @property
    def again(self) -> bool:
        """Whether to import also what was imported before and is no longer in our queue."""
        return self.values["again"] == "yes"

    @property
    def _refuse_open(self) -> bool:
        return self.values.get("in_use") == "refuse"

    def check_file(self) -> None:
        """Raise SourceError if a process of this machine has the file of the queue open.

        This is known of others' processes while this one is root. Databases are asked by `read`.
        """
        file = self.values.get("file")
        if file and self._refuse_open and (holder := find_holder(Path(file))):
            raise refuse_open(f"{holder} has {file} open")

    @late_imports(SourceError)
    def read(self) -> Rows:
        """The jobs, and what cannot be read. Nothing is written. Raises SourceError.

        A reader is imported when it is used: a server without one starts faster.
        """
        values = self.values
        try:
            password = read_password(values.get("passfile", ""))
        except ValueError as error:
            raise SourceError(str(error)) from error
        functions = [each.encode() for each in values.get("functions", "").split(",") if each]
        address = values.get("host", ""), int(values.get("port", 0))
        match self.kind:
            case "libsqlite3":
                from gearman_py.c_queue.sqlite import read_sqlite

                return read_sqlite(values["file"], values["table"])
            case "libpq":
                from gearman_py.c_queue.postgres import read_postgres

                return read_postgres(self.conninfo, values["table"], self._refuse_open)
            case "mysql":
                from gearman_py.c_queue.mysql import read_mysql

                account = values["user"], password
                table = values["db"], values["table"]
                return read_mysql(*address, *account, *table, self._refuse_open)
            case "redis":
                from gearman_py.c_queue.redis import read_redis

                return read_redis(
                    *address, password, values["prefix"], functions, self._refuse_open
                )
        from gearman_py.c_queue.memcached import read_memcached

        return read_memcached(*address, values["prefix"], functions)


def _read_words(text: str, defaults: Values) -> tuple[Values, list[str]]:
    """The values of the keys that have a default, and the other words as they are."""
    if WORD.sub("", text).strip():
        raise ValueError("a single quote is not closed")
    values, others = dict(defaults), []
    for word in WORD.findall(text):
        key, equals, value = word.partition("=")
        if equals and key in values:
            values[key] = re.sub(r"\\(.)", r"\1", value[1:-1]) if value[:1] == "'" else value
            if not values[key] and key != "prefix":
                raise ValueError(f"{key}: the value is empty")
        else:
            others.append(word)
    return values, others


def _format_choice(names: Values | dict[str, Values]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
