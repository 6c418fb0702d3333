"""Whether a job server could use the database of its queue, asked in a unit with its settings."""

from __future__ import annotations

import base64

from provision.agent.change import OPERATIONS
from provision.agent.command import run_command
from provision.agent.files import Content, Failure
from provision.agent.link import FrameLink
from provision.agent.queue_check import unit_command

NOT_KNOWN = "unrecognized arguments: --check-queue"  # to a release that is older than the option


def try_queue(
    link: FrameLink, content: Content, command: list[str], properties: list[str], seconds: float
) -> str:
    """Run ``command`` in a transient unit with these ``properties``; the output in Base64."""
    try:
        said = run_command(link, unit_command(command, properties, seconds))
    except Failure as failure:
        if NOT_KNOWN in failure.output:
            return ""
        raise Failure(f"`gearmand {command[1]}` failed", failure.output) from failure
    return base64.b64encode(said.encode()).decode()


OPERATIONS["trial_queue"] = try_queue
