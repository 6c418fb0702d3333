"""Our commands as processes, forked from one that has imported them: see tests/fork_server.py.

What tests about being started (a terminal, another user, a daemon, a reload, the interpreter's own
options) is a fresh process, as all are that are started with ``command_of``.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock
from typing import IO, Any, AnyStr

from tests.leftovers import TEST_MARK

ROOT = Path(__file__).resolve().parents[1]

# With these the process outlives its command, changes its user, or is replaced by a program.
_FRESH = {"-d", "--daemon", "--user", "--reload", "--file-descriptors"}
_FORKABLE = {"stdin", "stdout", "stderr", "cwd", "env", "start_new_session"}

_ARGUMENTS_LIMIT = 50_000  # characters: a request is one message

_lock = Lock()
_controls: dict[str, socket.socket] = {}  # by module
_started: list[ExitStack] = []
_environment = dict(os.environ)  # that of the servers: others may concern the interpreter


def command_of(tool: str) -> list[str]:
    """The words that run a command of ours: gearmand, gearman, gearadmin, worker or web."""
    return [sys.executable, "-m", f"gearman_py.cli.{tool}"]


def start_tool(tool: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start a command of ours with these options of subprocess.Popen: forked where that is safe."""
    if _is_forkable(tool, arguments, options):
        return ForkedProcess(f"gearman_py.cli.{tool}", arguments, **options)
    return subprocess.Popen([*command_of(tool), *arguments], **options)


def run_tool(
    tool: str, *arguments: str, input: bytes = b"", timeout: float, env: Mapping[str, str]
) -> subprocess.CompletedProcess[bytes]:
    """Run it to its end, as subprocess.run with captured output does."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with start_tool(tool, *arguments, env=env, **pipes) as process:
        try:
            output, errors = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def run_text(tool: str, *arguments: str, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run it to its end without input, in this environment; what it says is text."""
    done = run_tool(tool, *arguments, timeout=timeout, env=os.environ)
    said = done.stdout.decode(), done.stderr.decode()
    return subprocess.CompletedProcess(done.args, done.returncode, *said)


def _is_forkable(tool: str, arguments: tuple[str, ...], options: Mapping[str, Any]) -> bool:
    environment = os.environ if options.get("env") is None else options["env"]
    names = {*_environment, *environment}
    changed = {name for name in names if _environment.get(name) != environment.get(name)}
    streams = [options.get(name) for name in ("stdin", "stdout", "stderr")]
    return (
        bool(_started)
        and sum(map(len, arguments)) < _ARGUMENTS_LIMIT
        and options.keys() <= _FORKABLE
        and all(name.startswith(("GEARMAN", "PYTEST_")) for name in changed)
        and _FRESH.isdisjoint(word.partition("=")[0] for word in arguments)
        and not (tool == "gearmand" and "-u" in arguments)
        and not any(map(_is_terminal, streams))
    )


def _is_terminal(stream: int | IO[bytes] | None) -> bool:
    if isinstance(stream, int):
        return stream >= 0 and os.isatty(stream)
    return stream is not None and stream.isatty()


@contextmanager
def fork_servers() -> Iterator[None]:
    """Commands are forked in the block; the servers that were started for it end with it."""
    with ExitStack() as stack:
        _started.append(stack)
        try:
            yield
        finally:
            _started.remove(stack)
            _controls.clear()


def fork_control(module: str) -> socket.socket:
    """Where to ask for forks of a process that has imported ``module``."""
    with _lock:
        if module not in _controls:
            _controls[module] = _start_server(module)
        return _controls[module]


def _start_server(module: str) -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", "tests.fork_server", str(theirs.fileno()), module]
    ours_too = {name: os.environ[name] for name in os.environ if name.startswith("GEARMAN")}
    environment = {**_environment, **ours_too}
    environment.pop(TEST_MARK, None)  # it outlives the test
    with theirs:
        server = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.PIPE,  # as most of its forks have
            stdout=subprocess.DEVNULL,
        )
    _started[-1].enter_context(server)
    return _started[-1].enter_context(ours)  # closed first, which ends the server


class ForkedProcess(subprocess.Popen[AnyStr]):
    """A process that became ``module.main()``; it is not our child, and is used as one."""

    def __init__(self, module: str, arguments: tuple[str, ...], **options: Any) -> None:
        self._control = fork_control(module)
        self._answers, self._answer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        super().__init__(arguments, **options)

    # The methods of Popen that make system calls.

    def _execute_child(self, arguments: tuple[str, ...], *options: Any) -> None:
        folder, environment, pipes, session = options[4], options[5], options[9:15], options[20]
        request = {
            "arguments": arguments,
            "environment": dict(os.environ if environment is None else environment),
            "folder": os.getcwd() if folder is None else os.fspath(folder),
            "session": session,
        }
        theirs = (pipes[0], pipes[3], pipes[5])
        descriptors: list[int] = [own if given == -1 else given for own, given in enumerate(theirs)]
        with self._answer as answer:
            message = [json.dumps(request).encode()]
            socket.send_fds(self._control, message, [*descriptors, answer.fileno()])
        self.pid = int(self._answers.recv(32))
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]  # Popen's own

    def _internal_poll(self, _deadstate: object = None) -> int | None:
        with self._waitpid_lock:  # type: ignore[attr-defined]  # Popen's own
            if self.returncode is None:
                pid, status = self._wait_answer(self.pid, os.WNOHANG)
                if pid:
                    self._handle_exitstatus(status)  # type: ignore[attr-defined]  # Popen's own
        return self.returncode

    def _try_wait(self, flags: int) -> tuple[int, int]:
        return self._wait_answer(self.pid, flags)

    def _wait_answer(self, pid: int, flags: int) -> tuple[int, int]:
        """os.waitpid."""
        try:
            answer = self._answers.recv(32, socket.MSG_DONTWAIT if flags else 0)
        except BlockingIOError:
            return 0, 0
        self._answers.close()
        return pid, int(answer or signal.SIGKILL)  # without one, its server was killed
