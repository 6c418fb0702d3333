"""What tests/fork_server.py forks for `./invoke`: the toolkit with all that its commands import."""

import sys

import paramiko  # noqa: F401  # imported when a host is first connected to
from invoke.main import program

import provision.commands.history
import provision.commands.smoke
import provision.commands.status
import provision.doctor.doctor
import provision.fleet.deploy
import provision.fleet.retire
import provision.fleet.rollout
import provision.report.json
import provision.report.text
import provision.ssh.connection  # noqa: F401
import tasks  # noqa: F401  # what it imports: each command reads tasks.py itself


def main() -> None:
    sys.argv[0] = "invoke"
    program.run()
