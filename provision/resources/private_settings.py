"""What others have written into the files of a unit, shown without what may be secret."""

import re

PRIVATE = re.compile(
    r"^(\s*(?:Environment|SetCredential\w*|Exec\w+)\s*=)(?:[^\\\n]|\\[\s\S])*", re.MULTILINE
)
"""Settings that may hold a secret, with the lines in which they go on."""
VARIABLE = re.compile(r"^(-\s*Environment\s*=\s*)[\"']?(\w+)=(.*)$", re.MULTILINE)
HIDDEN = "<hidden>"


def hide_settings(text: str) -> str:
    """A drop-in without the values of such settings."""
    return PRIVATE.sub(rf"\1{HIDDEN}", text)


def hide_variables(diff: str, wanted: str) -> str:
    """How a unit file differs, without values of variables that are not in the wanted one."""

    def hide(line: re.Match[str]) -> str:
        name, value = line[2], line[3]
        known = name.startswith("GEARMAN") or f"Environment={name}=" in wanted
        return line[0] if known and " " not in value else f"{line[1]}{name}={HIDDEN}"

    return VARIABLE.sub(hide, diff)
