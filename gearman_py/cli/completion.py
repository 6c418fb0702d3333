"""Completion of all commands for bash, zsh and fish, generated from their parsers.

The name of an argument in --help decides how it is completed: FILE as a file, FUNCTION as one of
the functions of the server on the command line.
"""

from argparse import SUPPRESS, Action, ArgumentParser
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from gearman_py.functions import BUNDLED

_FUNCTIONS = {
    # not compgen -W: it would expand the names of functions.
    "bash": r"""
_gearman_functions() {
  local word last where=()
  for word in $COMP_LINE; do
    case $last in -h | -p | --host | --port) where+=("$last" "$word") ;; esac
    last=$word
  done
  while read -r word; do
    [[ $word == "$1"* ]] && COMPREPLY+=("$(printf %q "$word")")
  done < <(timeout 2 gearadmin "${where[@]}" --status 2> /dev/null | cut -s -f 1)
}
""",
    "zsh": r"""
_gearman_functions() {
  local i where=()
  for ((i = 2; i < CURRENT; i++)); do
    case $words[i] in -h | -p | --host | --port) where+=($words[i] ${(Q)words[i+1]}) ;; esac
  done
  compadd -- ${(f)"$(timeout 2 gearadmin $where --status 2> /dev/null | cut -s -f 1)"}
}
""",
    "fish": r"""
function __gearman_functions
  set -l last
  set -l where
  for word in (commandline -opc)
    contains -- "$last" -h -p --host --port; and set -a where $last $word
    set last $word
  end
  timeout 2 gearadmin $where --status 2> /dev/null | cut -s -f 1
end
""",
}


class _Option(NamedTuple):
    """An option: its flags, and the name of its argument, if it takes one."""

    flags: Sequence[str]
    help: str
    word: str  # "" if it takes none
    words: tuple[str, ...]  # the choices, if there are any

    @property
    def is_file(self) -> bool:
        return self.word == "FILE"

    @property
    def is_function(self) -> bool:
        return self.word == "FUNCTION"


def completion_script(shell: str, parsers: Iterable[ArgumentParser]) -> str:
    """The completion of the commands with these parsers, in the language of ``shell``."""
    commands = {parser.prog: parser for parser in parsers}
    made = {"bash": _bash_script, "zsh": _zsh_script, "fish": _fish_script}[shell]
    parts = [made(name, list(_list_options(parser))) for name, parser in commands.items()]
    if shell == "zsh":
        first = f"#compdef {' '.join(commands)}\n"
        cases = "".join(parts)
        return f'{first}{_FUNCTIONS[shell]}\ncase "$service" in\n{cases}esac\n'
    return _FUNCTIONS[shell].lstrip() + "".join(parts)


def _list_options(parser: ArgumentParser) -> Iterator[_Option]:
    for action in parser._actions:  # argparse has no public API for this
        if action.option_strings and action.help != SUPPRESS:
            yield _Option(action.option_strings, action.help or "", *_option_word(action))


def _option_word(action: Action) -> tuple[str, tuple[str, ...]]:
    if action.nargs == 0:
        return "", ()
    metavar = action.metavar[0] if isinstance(action.metavar, tuple) else action.metavar
    choices = tuple(map(str, action.choices or ()))
    return metavar or action.dest.upper(), choices


def _plain_words(command: str) -> str:
    """The known words of a command that are not options."""
    return " ".join(BUNDLED) if command == "gearman-worker" else ""


def _bash_script(command: str, options: list[_Option]) -> str:
    cases: dict[str, list[str]] = {}  # action: the flags it is for
    for option in options:
        if option.is_function:
            then = '_gearman_functions "$2"'
        elif option.words:
            then = f'COMPREPLY=($(compgen -W "{" ".join(option.words)}" -- "$2"))'
        else:  # no action: bash completes files
            then = ":"
        if option.word:
            cases.setdefault(then, []).extend(option.flags)
    lines = "".join(
        f"    {' | '.join(flags)}) {then}; return ;;\n" for then, flags in cases.items()
    )
    flags = " ".join(flag for option in options for flag in option.flags)
    name = "_" + command.replace("-", "_")
    return f"""
{name}() {{
  local words="{_plain_words(command)}"
  COMPREPLY=()
  case $3 in
{lines}  esac
  [[ $2 == -* ]] && words="{flags}"
  COMPREPLY=($(compgen -W "$words" -- "$2"))
}}
complete -o default -F {name} {command}
"""


def _zsh_script(command: str, options: list[_Option]) -> str:
    specs = []
    for option in options:
        if option.is_file:
            action = "_files"
        elif option.is_function:
            action = "_gearman_functions"
        else:
            action = f"({' '.join(option.words)})" if option.words else " "
        word = f":{_escape_zsh(option.word)}:{action}" if option.word else ""
        for flag in option.flags:
            joined = "=" if word and flag.startswith("--") else ""
            specs.append(_quote_word(f"*{flag}{joined}[{_escape_zsh(option.help)}]{word}"))
    rest = f"({_plain_words(command)})" if _plain_words(command) else "_files"
    specs.append(_quote_word(f"*:word:{rest}"))
    lines = " \\\n      ".join(specs)
    return f"  {command})\n    _arguments -s -S \\\n      {lines} ;;\n"


def _escape_zsh(text: str) -> str:
    for mark in "\\[]:":
        text = text.replace(mark, f"\\{mark}")
    return text


def _fish_script(command: str, options: list[_Option]) -> str:
    lines = []
    for option in options:
        flags = " ".join(
            f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags
        )
        if option.is_file:
            word = " -r -F"
        elif option.is_function:
            word = " -x -a '(__gearman_functions)'"
        elif option.words:
            word = f" -x -a {_quote_word(' '.join(option.words))}"
        else:
            word = " -x" if option.word else ""
        lines.append(f"complete -c {command} {flags}{word} -d {_quote_word(option.help)}\n")
    if words := _plain_words(command):
        lines.append(f"complete -c {command} -f -a {_quote_word(words)}\n")
    return "\n" + "".join(lines)


def _quote_word(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
