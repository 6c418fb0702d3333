"""What a program reads: each event as a line of JSON on stdout, from the stream that people see."""

import json
import sys
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, TextIO

from provision.errors import ToolkitError
from provision.remote.messages import Operation
from provision.report.events import Event, Row
from provision.report.lines import put_line


def tell_error(kind: str, status: int, message: str) -> None:
    """What ended a command, as its last line; people read the sentence on stderr."""
    error = {"kind": kind, "status": status, "message": message}
    put_line(json.dumps({"event": "error", "time": _now(), "error": error}), sys.stdout)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class JsonReport:
    """Shows the same events; never asks."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._out = stream or sys.stdout
        self._one = Lock()
        self._silent = False

    def show(self, event: Event) -> None:
        if isinstance(event, Row):
            self._put_line({"event": "row", **event.data})
        else:
            self._tell(type(event).__name__.lower(), **_to_json(event))

    def recap(self, seconds: float) -> None:
        self._tell("recap", seconds=round(seconds, 3))

    def end(self, seconds: float, *, limit: bool = True) -> None:
        self.recap(seconds)

    def say(self, line: str) -> None:
        self._tell("remark", text=line)

    def silence(self, *lines: str) -> None:
        for line in lines:
            self.say(line)
        with self._one:
            self._silent = True

    def confirm(self, question: str) -> bool:
        raise ToolkitError("--json asks no questions: use --yes to apply")

    def _tell(self, what: str, **about: Any) -> None:
        """What happens now, as a log entry."""
        self._put_line({"event": what, "time": _now(), **about})

    def _put_line(self, content: dict[str, Any]) -> None:
        with self._one:
            if self._silent:
                return
            put_line(json.dumps(content), self._out)


def _to_json(value: Any) -> Any:
    """A value as JSON has it. Contents of files are not told: they may be large, or secret."""
    if isinstance(value, Operation):
        return {"kind": value.kind, "arguments": _to_json(dict(value.arguments))}
    if isinstance(value, ToolkitError):
        kind = type(value).__name__
        return {"kind": kind, "status": value.status, "message": str(value)}
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _to_json(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, dict) or hasattr(value, "items"):
        return {str(key): _to_json(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_to_json(each) for each in value]
    return str(value) if isinstance(value, Path) else value
