"""Completes the wheel: manual pages and the shells' completion, made from its own parsers; and the
accelerator, where it can be built.

Without a C compiler, or with GEARMAN_PURE=1 in the environment, the wheel is one for all machines.
"""

import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# Where bash, zsh and fish look for what completes a command.
COMPLETION = {
    "bash": "share/bash-completion/completions/{command}",
    "zsh": "share/zsh/site-functions/_{command}",
    "fish": "share/fish/vendor_completions.d/{command}.fish",
}


class MadeFiles(BuildHookInterface):  # type: ignore[type-arg]  # the parameter is the builder's
    """Hatchling's custom hook: makes files and says where installing puts them."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":  # a checkout's .venv needs no manual
            return
        self._folder = tempfile.TemporaryDirectory()
        epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
        made = shared_data(Path(self.root), epoch)
        for number, (place, text) in enumerate(made.items()):
            path = Path(self._folder.name, str(number))
            path.write_text(text)
            build_data["shared_data"][str(path)] = place
        if sys.platform == "linux":
            self._add_accelerator(build_data)

    def _add_accelerator(self, build_data: dict[str, Any]) -> None:
        from packages.accelerator import CannotBuild, build_accelerator, is_turned_off, wheel_tag

        if is_turned_off():
            return
        try:
            module = build_accelerator(Path(self.root), Path(self._folder.name))
        except CannotBuild as error:
            self.app.display_warning(f"gearman_py is installed without its accelerator: {error}")
        else:
            build_data["force_include"][str(module)] = module.name
            build_data["pure_python"] = False
            build_data["tag"] = wheel_tag(module)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            self._folder.cleanup()


def shared_data(root: Path, epoch: int) -> dict[str, str]:
    """What belongs beside a Python's site-packages, by its place there: the text of each file."""
    sys.path.insert(0, str(root))  # this tree's commands, whatever else is installed
    from gearman_py.cli.completion import completion_script
    from gearman_py.cli.gearman import all_parsers
    from packages import manual

    date = datetime.fromtimestamp(epoch, UTC).date().isoformat() if epoch else ""
    made = {}
    for parser in all_parsers():
        command, section = parser.prog, manual.SECTIONS[parser.prog]
        page = manual.manual_page(parser, date)
        made[f"share/man/man{section}/{command}.{section}"] = page
        for shell, place in COMPLETION.items():
            made[place.format(command=command)] = completion_script(shell, [parser])
    return made
