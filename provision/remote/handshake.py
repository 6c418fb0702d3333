"""How an agent is started on a host: one line for its shell, sudo's question, the agent's word."""

import re
import shlex
import time
from collections.abc import Callable
from typing import Protocol

from provision import distributions
from provision.errors import PasswordRefused, Unreachable
from provision.inventory.secrets import Secret

PYTHON = "/usr/bin/python3"
OLDEST_PYTHON = (3, 9)  # that understands the agent

START_TIMEOUT = 30.0  # seconds until the agent is there, or sudo has said no
GREETING_LIMIT = 1 << 20  # bytes that a login may print before the agent is there
LINE_LIMIT = 200  # characters of a line that a host said
REFUSED = "sudo refused the password: it was tried once"
# What sudo says, and then sudo-rs.
WRONG_PASSWORD = re.compile(rb"incorrect (password|authentication)")
MAY_NOT = re.compile(rb"not in the sudoers|not allowed|may not run|I'm afraid I can't do that")

# Runs as root, and loads the agent. Any Python must be able to read it.
BOOTSTRAP = """\
import os, resource, sys
def read(n):
    b = b""
    while len(b) < n:
        p = os.read(0, n - len(b))
        if not p: sys.exit(1)
        b += p
    return b
os.write(1, ("%s ready %%d.%%d\\n" %% sys.version_info[:2]).encode())
os.umask(0o077)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
out, null = os.dup(1), os.open(os.devnull, os.O_RDWR)
os.dup2(null, 1)
os.dup2(null, 2)
m = type(sys)("provision.agent.link")
sys.modules[m.__name__] = m
exec(compile(read(int(read(8), 16)), m.__name__, "exec"), m.__dict__)
m.serve(0, out)
"""


class AgentChannel(Protocol):
    """A command that runs on a host. What it says on stderr comes mixed with the rest."""

    def send(self, data: bytes) -> None:
        """Raises :class:`Unreachable` when the connection, or the command, is gone."""

    def receive(self, seconds: float) -> bytes:
        """What came, empty when the command has ended.

        Raises TimeoutError, or :class:`Unreachable` when the connection is gone.
        """

    def close(self) -> None: ...


Start = Callable[[str], AgentChannel]
"""Starts a shell command line on the host."""

Password = Callable[[], Secret | None]
"""Gives the password for sudo, if there is one; called only when sudo asks for it."""


def no_password() -> Secret | None:
    return None


def command_line(token: str, *, sudo: bool, python: str = PYTHON) -> str:
    """The shell line that starts an agent. No secret is in it.

    ``python``: its path, or a name on the PATH.
    """
    # In one line: some login shells take no others. Who has no Python says what system it is.
    argv = [python, "-I", "-S", "-c", f"exec({BOOTSTRAP % token!r})"]
    prefix = f"LC_ALL=C sudo -S -p {token}: " if sudo else "LC_ALL=C "
    found = "test -x" if python.startswith("/") else "command -v"
    return f"{found} {shlex.quote(python)} || cat /etc/os-release; {prefix}{shlex.join(argv)}"


def shake_hands(
    channel: AgentChannel, name: str, token: str, password: Password | None, python: str = PYTHON
) -> bytes:
    """Wait for the agent, give sudo its password if it asks; what was already said after that.

    ``password``: None where no sudo is run, so that whoever asks for one there is not sudo.
    Raises :class:`Unreachable`, or :class:`PasswordRefused`.
    """
    said = b""
    prompt = f"{token}:".encode()
    given = False
    end = time.monotonic() + START_TIMEOUT
    while not (ready := re.search(rb"%s ready (\d+)\.(\d+)\n" % token.encode(), said)):
        if password and prompt in said:
            if given:
                raise PasswordRefused(f"{name}: {REFUSED}")
            _give_password(channel, name, password)
            given = True
            said = said.replace(prompt, b"", 1)
            # A person may have thought of the password meanwhile.
            end = time.monotonic() + START_TIMEOUT
            continue
        try:
            piece = channel.receive(max(end - time.monotonic(), 0))
        except TimeoutError:
            raise Unreachable(
                f"{name}: no agent after {START_TIMEOUT:.0f} s; {_last_words(said)}"
            ) from None
        if not piece and given and WRONG_PASSWORD.search(said):
            raise PasswordRefused(f"{name}: {REFUSED}")
        if not piece:
            raise Unreachable(f"{name}: {_explain_refusal(said, python)}")
        said += piece
        if len(said) > GREETING_LIMIT:
            raise Unreachable(f"{name}: no agent within {GREETING_LIMIT >> 20} MiB of output")
    version = int(ready[1]), int(ready[2])
    if version < OLDEST_PYTHON:
        raise Unreachable(
            f"{name}: {python} there is {version[0]}.{version[1]}: 3.9 or newer "
            "is needed to look at it, and 3.11 to run a release; upgrade the host"
        )
    return said[ready.end() :]


def _give_password(channel: AgentChannel, name: str, password: Password) -> None:
    secret = password()
    if secret is None:
        raise Unreachable(
            f"{name}: sudo asks for a password, and there is none: set "
            "GEARMAN_SUDO_PASSWORD, or run this at a terminal"
        )
    channel.send(secret.reveal().encode() + b"\n")


def _explain_refusal(said: bytes, python: str) -> str:
    if python.rpartition("/")[2].encode() in said and (
        b"not found" in said or b"No such file" in said
    ):
        if python != PYTHON:
            return f"{python} is not there: set ansible_python_interpreter to one that is"
        system = distributions.os_release(said.decode(errors="replace"))
        command = distributions.install_command(system, "python3")
        how = f"`{command}` there" if command else "install it there"
        return f"/usr/bin/python3 is missing ({distributions.system_name(system)}): {how}"
    if b"sudo" in said and b"not found" in said:
        return "sudo is missing: install it, or connect as root (ansible_user)"
    if MAY_NOT.search(said):
        return f"sudo does not let this user become root; {_last_words(said)}"
    if b"must have a tty" in said:
        return "sudo wants a terminal: set `Defaults:USER !requiretty` in its rules there"
    if b"password has expired" in said:
        return f"the password there has expired: log in and change it; {_last_words(said)}"
    return f"the agent did not start; {_last_words(said)}"


def _last_words(said: bytes) -> str:
    lines = said.decode(errors="backslashreplace").strip().splitlines()
    # sudo quotes the command that it refuses, and ours is a program.
    lines = [each if len(each) < LINE_LIMIT else f"{each[:70]} ... {each[-30:]}" for each in lines]
    return f"the host said: {' / '.join(lines[-3:])}" if lines else "the host said nothing"
