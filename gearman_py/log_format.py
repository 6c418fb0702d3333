"""What log entries look like: text for people, or JSON for machines."""

import json
import logging
import os
from datetime import UTC, datetime
from typing import Any

from gearman_py.printable import EntryFormatter

LOG_FORMATS = ("text", "json")
# Attributes of a record about a job, of gearman_py.worker.
JOB_FIELDS = ("function", "handle", "unique", "attempt", "outcome", "seconds")


class JSONFormatter(logging.Formatter):
    """An entry is a line: an object with time, level, logger, message, and what it is about.

    Entries about a job have JOB_FIELDS; an error's traceback is ``exception``.
    """

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in JOB_FIELDS:
            if (value := getattr(record, name, None)) is not None:
                entry[name] = value
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def make_formatter(log_format: str | None) -> logging.Formatter:
    """A formatter for one of LOG_FORMATS; None: text."""
    if log_format == "json":
        return JSONFormatter()
    # journald adds time and name itself.
    stamp = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    return EntryFormatter(f"{stamp}%(levelname)s %(message)s")
