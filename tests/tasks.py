"""Tasks that run this project's tests and benchmarks."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from invoke.context import Context

from provision.cli import ROOT, command, run_python, start_python
from provision.errors import ToolkitError
from provision.lab import lab
from provision.lab import programs as local

# What the tests talk to: other people's Gearman.
PEERS = {
    "/usr/sbin/gearmand": "gearman-job-server",
    "/usr/bin/gearmand": "gearman-server",
    "gearman": "gearman-tools",
    "php": "php-cli",
    "/usr/share/doc/php-gearman": "php-gearman",
    "/usr/share/doc/php-imagick": "php-imagick",
    "/usr/share/perl5/Gearman/Client.pm": "libgearman-client-perl",
    "/usr/share/perl5/Gearman/Server.pm": "gearman-server",
    "strace": "strace",  # makes a disk fail
    "faketime": "faketime",  # sets a server's clock
    "promtool": "prometheus",  # reads our metrics
    "prometheus-alertmanager": "prometheus-alertmanager",
    "prometheus-node-exporter": "prometheus-node-exporter",
    "chromium": "chromium",  # looks at the dashboard, with
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf": "fonts-dejavu-core",
    "/usr/lib/postgresql": "postgresql",
    "redis-server": "redis-server",
    "/usr/sbin/mariadbd": "mariadb-server",
    "memcached": "memcached",
    "man": "man-db",
    "zsh": "zsh",
    "fish": "fish",
    "lintian": "lintian",
    "rpmlint": "rpmlint",
    "createrepo_c": "createrepo-c",  # makes a repository for dnf and zypper
    "gpg": "gpg",
    "podman": "podman",  # builds and runs the image
}


BENCHES = (
    "job_server",
    "floors",
    "instructions",
    "calls",
    "libraries",
    "resize",
    "converge",
    "shared_queue",
    "steering",
)
# More processes than cores: most tests wait for another process. Each costs some 15 s of CPU: it
# collects all tests, and boots a lab of its own.
SIDE_BY_SIDE = ("--numprocesses", "6", "--dist", "loadgroup", "--no-loadscope-reorder")
FAST = (
    *("-m", "not lab and not interop and not slow", "--hypothesis-profile", "fast"),
    *("--numprocesses", "3"),  # few of these wait
)
WITHOUT_FOLDERS = ("--ignore=tests/lab", "--ignore=tests/interop")  # not even read
TESTS_FAILED = 1  # pytest's status when all ran and some failed
RUN_AGAIN_AT_MOST = 3  # files with failed tests
CHECKS = (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",))


@command(
    iterable=["only"],
    help={
        "only": "these tests alone: a path, or path::name (repeatable)",
        "fast": "in a minute or so: no lab, no peers, nothing slow, few examples of a property",
        "python": "on 3.12, 3.13 or 3.14, as root: only what needs no lab, no peers and no checks",
    },
)
def test(
    c: Context, only: Sequence[str] | None = None, fast: bool = False, python: str = ""
) -> int:
    """Run every check and every test: style, types, other people's Gearman, real hosts."""
    if python:
        flag = ("--fast",) if fast else ()
        return run_python("-m", "tests.pythons", python, *flag, *(only or ()))
    from packages.accelerator import PROGRAMS as COMPILER
    from packages.build import PACKAGERS

    try:
        if not fast:
            builders = PACKAGERS["deb"] | PACKAGERS["rpm"] | COMPILER
            local.ensure(PEERS | builders | lab.PROGRAMS | {"sudo": "sudo"}, print)
    except ToolkitError as error:
        if os.environ.get("CI") == "true":
            raise
        print(f"{error}; the tests that need them are skipped")
    options = () if only else (*SIDE_BY_SIDE, "--cache-clear")
    if fast:
        options += (*FAST, *(() if only else WITHOUT_FOLDERS))
    with ExitStack() as stack:
        checks = [
            (check[0], stack.enter_context(start_python("-m", *check)))
            for check in (() if only else CHECKS)
        ]
        if not only and not fast:  # compile the tests once, or each process would do it
            run_python("-m", "pytest", "--collect-only", "--quiet", output=subprocess.DEVNULL)
        status = run_python("-m", "pytest", *options, *(only or ()))
        if status == TESTS_FAILED and not only and not fast:
            status = _run_failed_again()
        failed = [name for name, check in checks if check.wait()]
    if status:
        failed.append("pytest")
    if failed:
        print(f"invoke test: failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


@command(
    iterable=["row"],
    help={
        "what": "job_server and floors (and C's), instructions and calls (by valgrind), "
        "libraries (and "
        "pygearman, gear, pecl), resize (and PHP's), converge (and Ansible, pyinfra), "
        "steering (ours with and without)",
        "row": "only this row (repeatable), such as latency, single, worker",
    },
)
def bench(c: Context, what: str = "job_server", row: Sequence[str] | None = None) -> int:
    """Compare our job server, libraries or resize with others', in turn (minutes)."""
    if what not in BENCHES:
        print(
            f"invoke bench: unknown benchmark {what!r}; expected one of {', '.join(BENCHES)}",
            file=sys.stderr,
        )
        return 1
    local.ensure(PEERS, print)
    return run_python("-m", f"tests.bench.{what}", *(row or ()))


@command(
    iterable=["row"],
    help={"row": "only this row of docs/reliability.md (repeatable), such as kill, clock, cut"},
)
def reliability(c: Context, row: Sequence[str] | None = None) -> int:
    """Break the job server in every known way, and count (as root, half an hour)."""
    local.ensure(PEERS, print)
    return run_python("-m", "tests.reliability", *(row or ()))


@command(
    iterable=["target"],
    help={
        "target": "only this one (repeatable), such as codec, server, inventory, resize",
        "seconds": "for each (60)",
    },
)
def fuzz(c: Context, target: Sequence[str] | None = None, seconds: int = 60) -> int:
    """Look for input that breaks the server, the bundled functions or the inventory's reader."""
    os.environ["SECONDS"] = str(seconds)
    return run_python("-m", "tests.fuzz", *(target or ()))


def _run_failed_again() -> int:
    """Run the files of the tests that failed once more, alone, as CPython's regrtest does.

    Six processes on two cores delay each other by seconds. What fails alone too is a fault; what
    passes is named, since it tells of a test or of a program that cannot bear a busy machine.
    """
    failed = json.loads((ROOT / ".pytest_cache/v/cache/lastfailed").read_text())
    files = sorted({name.partition("::")[0] for name in failed})
    if len(files) > RUN_AGAIN_AT_MOST:
        return TESTS_FAILED
    print(f"invoke test: running again, alone: {' '.join(files)}", file=sys.stderr)
    status = run_python("-m", "pytest", *files)
    if not status:
        print(f"invoke test: passed only alone: {' '.join(sorted(failed))}", file=sys.stderr)
    return status
