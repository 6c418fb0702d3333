"""A parser of command lines that names the option which an unknown one may stand for."""

from argparse import ArgumentParser
from typing import NoReturn

UNKNOWN = "unrecognized arguments: "  # how argparse begins
SIMILAR = 0.75  # how much of the word must be that of an option: less offers --daemon for --mem


class OptionParser(ArgumentParser):
    """An ArgumentParser whose message about an unknown option ends with the nearest known one."""

    def error(self, message: str) -> NoReturn:
        super().error(self.with_hint(message))

    def with_hint(self, message: str) -> str:
        """The message of argparse, with a hint if it is about an option that is nearly known."""
        if not message.startswith(UNKNOWN + "--"):
            return message
        from difflib import get_close_matches  # few lines are wrong, and this takes a while

        word = message.removeprefix(UNKNOWN).split()[0].partition("=")[0]
        near = get_close_matches(word, self._option_string_actions, 1, SIMILAR)
        return f"{message}; did you mean {near[0]}?" if near else message
