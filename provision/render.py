"""Files that hold a variable: Jinja2 over ``templates/``, strict. An undefined name is an error."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import jinja2

from provision.errors import ToolkitError

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"


class TemplateError(ToolkitError):
    """A template is missing or wrong, or uses an undefined name. Begins with its line."""


def render_template(name: str, variables: Mapping[str, object], folder: Path = TEMPLATES) -> str:
    """The text of template ``name`` with ``variables`` put in. Raises :class:`TemplateError`."""
    try:
        return _environment(folder).get_template(name).render(variables)
    except jinja2.TemplateNotFound as error:
        raise TemplateError(f"no template {folder / str(error)}") from error
    except jinja2.TemplateSyntaxError as error:
        where = f"{folder / (error.name or name)}:{error.lineno}"
        raise TemplateError(f"{where}: {error.message}") from error
    except jinja2.UndefinedError as error:
        raise TemplateError(f"{_template_line(error, folder) or folder / name}: {error}") from error


def exec_word(word: str) -> str:
    """A word of an ExecStart= line, as systemd reads it."""
    return _quoted(word.replace("$", "$$"))


def assignment(pair: tuple[str, str]) -> str:
    """NAME=VALUE of an Environment= line."""
    return _quoted("=".join(pair))


def digest(values: Iterable[object]) -> str:
    """A short digest of these values."""
    return hashlib.sha256(repr([str(each) for each in values]).encode()).hexdigest()[:12]


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return escaped if re.fullmatch(r"[\w@+=:,./-]+", text, re.ASCII) else f'"{escaped}"'


@cache
def _environment(folder: Path) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,  # else each use looks whether the file has changed
        autoescape=False,  # noqa: S701 (unit files and scripts, never HTML)
    )
    environment.filters |= {"exec_word": exec_word, "assignment": assignment, "digest": digest}
    return environment


def _template_line(error: BaseException, folder: Path) -> str | None:
    """The innermost ``template:line`` that an error passed: Jinja2 rewrites tracebacks so."""
    where = None
    step = error.__traceback__
    while step:
        file = Path(step.tb_frame.f_code.co_filename)
        if file.is_relative_to(folder):
            where = f"{file}:{step.tb_lineno}"
        step = step.tb_next
    return where
