"""What to try next on the host when an operation failed there."""

from provision.invoke_line import invoke_line
from provision.remote.messages import Operation


def advice_for(operation: Operation) -> str:
    """Empty when the host's own words say it all."""
    if operation.kind in ("unit", "program"):
        return invoke_line("logs", str(operation.arguments["name"]))
    if operation.kind == "close_server" and operation.arguments["command"]:
        return (
            "the same command once the servers that take its jobs answer; a job server of a "
            f"release that cannot move jobs is upgraded first ({invoke_line('upgrade')})"
        )
    if operation.kind == "packages":
        return "see that the host has a way to its package registry"
    if operation.kind == "signature":
        return "docs/security.md, signed releases: how keys are replaced"
    if operation.kind == "release":
        return "deploying again: it is rebuilt"
    return operation.shell_line
