"""Fields of a dataclass that are command-line options too: see gearman_py.server.settings."""

import argparse
from dataclasses import field
from typing import Any

LEVELS = {
    level: min(2, max(0, number - 4))
    for number, level in enumerate(
        ("FATAL", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG")
    )
}
"""The C gearmand's log levels, and the number of -v that each corresponds to."""


def process_number(text: str) -> int:
    """The number of a process, from a command line."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not the number of a process")
    return int(text)


def option(default: Any, flags: str, help: str, **argparse_options: Any) -> Any:
    """A field that is also a command-line option; ``flags`` are separated by spaces."""
    metadata = {"flags": flags.split(), "help": help, "argparse": argparse_options}
    return field(default=default, metadata=metadata)


def queue_option(
    queues: str,
    default: Any,
    flags: str,
    help: str,
    *,
    required: bool = False,
    place: bool = False,
    **more: Any,
) -> Any:
    """An option of one or more kinds of queue, which are separated by spaces.

    ``place``: it says where the queue is, so that a reload cannot change it.
    """
    names = queues.split()
    metadata = {
        "flags": flags.split(),
        "help": f"with -q {' or '.join(names)}: {help}",
        "argparse": more,
        "queues": names,
        "required": required,
        "place": place,
    }
    return field(default=default, metadata=metadata)


def ignored_option(flags: str, why: str, **argparse_options: Any) -> Any:
    """An option of the C gearmand that is accepted and has no effect; ``why`` is shown."""
    meta = {"flags": flags.split(), "help": argparse.SUPPRESS, "argparse": argparse_options}
    return field(default=None, metadata={**meta, "ignored": why})
