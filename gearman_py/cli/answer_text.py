"""How gearadmin prints answers: as the C tool does, in columns with headings, or as JSON.

With several job servers, a last column or the key ``server`` says which of them answered.
"""

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from gearman_py.admin.client import AdminClient
from gearman_py.cli import common
from gearman_py.cli.gearadmin_table import format_table
from gearman_py.cli.questions import (
    QUESTIONS,
    JobReport,
    ListingQuestion,
    SteeringAction,
    ValueQuestion,
)
from gearman_py.printable import printable

Found = list[tuple[str, Any]]
"""The answers of several servers, each with its address."""


def is_listing(name: str) -> bool:
    """Whether the answer is a list of rows, as lines or parsed."""
    question = QUESTIONS[name]
    return isinstance(question, ListingQuestion) or (
        isinstance(question, JobReport) and question.optional
    )


def ask_question(client: AdminClient, options: Namespace, name: str) -> Any:
    """Ask; return a value, text, what is known of a job, rows, or the lines of a listing."""
    question = QUESTIONS[name]
    if isinstance(question, ValueQuestion):
        return question.ask(client)
    if isinstance(question, SteeringAction):
        words = vars(options)[name]
        if question.to_servers:
            words = [common.parse_servers_of(options, words)]
        filters = {"reason": options.reason, "until": options.until}
        more = filters if question.filtered else {}
        return question.act(client, *(words if isinstance(words, list) else ()), **more) or "OK"
    if isinstance(question, JobReport):
        return question.read(client, options)
    if options.json or sys.stdout.isatty():
        return question.rows(client)
    return client.listing(question.command)


def format_answer(name: str, answer: Any, options: Namespace) -> str | bytes:
    """The answer of one server; bytes are written as they are."""
    if not is_listing(name):
        return _format_value(answer, options)
    if options.json:
        return json.dumps([_as_json(row) for row in answer])
    if sys.stdout.isatty():
        return format_table(name, answer)
    return "\n".join([*map(_format_line, answer), "."])


def format_answers(name: str, found: Found, options: Namespace) -> str:
    """The answers of several servers as one."""
    if not is_listing(name):
        if options.json:
            return json.dumps([_with_server(answer, server) for server, answer in found])
        return "\n".join(f"{printable(str(answer))}\t{server}" for server, answer in found)
    rows = [(server, row) for server, part in found for row in part]
    if options.json:
        return json.dumps([_with_server(row, server, "unique") for server, row in rows])
    if sys.stdout.isatty():
        return format_table(name, [row for _, row in rows], [server for server, _ in rows])
    return "\n".join([*(f"{_format_line(row)}\t{server}" for server, row in rows), "."])


def _format_value(answer: Any, options: Namespace) -> str | bytes:
    if isinstance(answer, bytes):
        return json.dumps(answer.decode(errors="backslashreplace")) if options.json else answer
    if options.json:
        return json.dumps(_as_json(answer))
    if isinstance(answer, dict):
        width = max(map(len, answer))
        return "\n".join(f"{key:{width}}  {printable(str(value))}" for key, value in answer.items())
    return printable(str(answer))


def _format_line(row: str | Sequence[Any]) -> str:
    if isinstance(row, str):
        return printable(row, keep="\t")
    return "\t".join("-" if cell is None else printable(str(cell), keep="") for cell in row[:-1])


def _as_json(answer: Any) -> Any:
    return answer._asdict() if hasattr(answer, "_asdict") else answer


def _with_server(answer: Any, server: str, key: str = "value") -> dict[str, Any]:
    facts = _as_json(answer)
    return (facts if isinstance(facts, dict) else {key: facts}) | {"server": server}
