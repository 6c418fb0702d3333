"""The manual page of a command, made from the parser that makes its --help."""

import re
import textwrap
from argparse import SUPPRESS, Action, ArgumentParser, HelpFormatter, _ArgumentGroup
from collections.abc import Iterator

from gearman_py import __version__

SECTIONS = {
    "gearmand": 8,
    "gearman-web": 8,
    "gearman": 1,
    "gearadmin": 1,
    "gearman-worker": 1,
}
# In a usage: flags, which are bold, and what stands for something, which is in italics.
_MARKED = re.compile(r"((?<![\w-])--?[a-zA-Z][\w-]*|\b[A-Z]{2,}\b)")


def manual_page(parser: ArgumentParser, date: str) -> str:
    """The page, in man's macros. ``date`` stands at its foot."""
    command, description = parser.prog, parser.description or ""
    prose, sections = _read_epilog(parser.epilog or "")
    summary = (description[0].lower() + description[1:]).rstrip(".")
    title = f'{_escape(command)} {SECTIONS[command]} "{date}" "gearman_py {__version__}"'
    lines = [
        *(f".TH {title}", ".SH NAME", f"{_escape(command)} \\- {_escape(summary)}"),
        *(".SH SYNOPSIS", *_synopsis(parser)),
        *(".SH DESCRIPTION", *_fill(description)),
    ]
    for paragraph in prose:
        lines += [".PP", *_fill(paragraph)]
    lines.append(".SH OPTIONS")
    for group in parser._action_groups:  # argparse has no public way to list them
        lines += _describe_group(group, parser)
    for heading, text in sections.items():
        lines += [f".SH {heading.upper()}", ".EX", *map(_escape, text), ".EE"]
    lines.append(".SH SEE ALSO")
    others = [name for name in SECTIONS if name != command]
    for name in others:
        comma = "" if name == others[-1] else ","
        lines.append(f".BR {_escape(name)} ({SECTIONS[name]}){comma}")
    return "\n".join(lines) + "\n"


def _synopsis(parser: ArgumentParser) -> Iterator[str]:
    usage = parser.usage or f"{parser.prog} [option]..."
    for number, line in enumerate(usage.splitlines()):
        command, _, words = line.strip().partition(" ")
        if number:
            yield ".br"
        yield f".B {_escape(command)}"
        yield _MARKED.sub(_emphasize, words).replace("-", r"\-")


def _emphasize(found: re.Match[str]) -> str:
    font = "B" if found[0].startswith("-") else "I"
    return rf"\f{font}{found[0]}\fR"


def _describe_group(group: _ArgumentGroup, parser: ArgumentParser) -> Iterator[str]:
    actions = [action for action in group._group_actions if action.help != SUPPRESS]
    title = group.title or ""
    if actions and title not in ("options", "positional arguments"):
        yield f".SS {_escape(title[0].upper() + title[1:])}"
    formatter = HelpFormatter(parser.prog)
    for action in actions:
        yield ".TP"
        yield _describe_flags(action)
        yield from _fill(formatter._expand_help(action))


def _describe_flags(action: Action) -> str:
    metavar = action.metavar or action.dest.upper()
    names = (metavar,) if isinstance(metavar, str) else metavar
    words = "" if action.nargs == 0 else " ".join(f"\\fI{_escape(name)}\\fR" for name in names)
    flags = (f"\\fB{_escape(flag)}\\fR {words}".rstrip() for flag in action.option_strings)
    return ", ".join(flags) or words


def _read_epilog(text: str) -> tuple[list[str], dict[str, list[str]]]:
    """An epilog's paragraphs of prose, and the lines that stand under each ``heading:``."""
    prose: list[str] = []
    sections: dict[str, list[str]] = {}
    for paragraph in text.strip().split("\n\n"):
        first, *rest = paragraph.splitlines()
        if first.endswith(":"):
            sections[first[:-1]] = rest
        else:
            prose.append(paragraph)
    return prose, sections


def _fill(text: str) -> list[str]:
    lines = textwrap.wrap(text, 72, break_long_words=False, break_on_hyphens=False)
    return [_escape(line) for line in lines]


def _escape(text: str) -> str:
    """Text that is shown as it stands: a minus can be copied, and no line becomes a macro."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return f"\\&{text}" if text.startswith(".") else text
