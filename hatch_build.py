"""`pip install -e .` in a checkout brings the toolkit; the wheel is the job system alone."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class EditableNeedsToolkit(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            extras = self.metadata.core.optional_dependencies
            build_data["dependencies"] = [*extras["toolkit"], *extras["dev"]]
