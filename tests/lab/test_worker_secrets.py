"""Secrets of workers reach them on real hosts, and are seen nowhere else."""

import hashlib
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from gearman_py import Client, JobFailed
from gearman_py.admin.client import AdminClient
from tests.attacks import attack
from tests.lab.hosts import root
from tests.lab.operator_commands import ROOT
from tests.lab.test_own_workers import Operator, commit, running
from tests.lab.test_secrets import processes_watched
from tests.lab.test_upgrade import SERVER, invoke

FIRST, SECOND = "canary-of-a-worker-1", "canary-of-a-worker-2"
FOLDER = "/etc/gearman/secrets"
WORKERS = """
gearman_functions: [wc]
gearman_apps:
  sealed: {source: ../sealed}
gearman_workers:
  seal: {app: sealed, command: [./seal], functions: [seal], secrets: {KEY: SECRET},
    check: {expect: "DIGEST"}}
  shout: {app: sealed, program: [python3, ./shout.py, shout], functions: [shout],
    instances: 2, secrets: {KEY: SECRET}}
  lines: {command: [wc, -l], functions: [lines]}
  resize: {secrets: {UNUSED: SECRET}}
"""
SCRIPT = """#!/bin/sh
set -e
set -- $(sha256sum "$CREDENTIALS_DIRECTORY/KEY")
printf %s "$1"
"""
# What root finds on a host. The pattern does not match itself.
SEARCH = """
grep -rl c[a]nary-of-a-worker /etc /var /tmp /opt /usr/local /home /root | sort
cat /proc/*/cmdline /proc/*/environ 2>/dev/null | grep -ac c[a]nary-of-a-worker || true
journalctl --no-pager --boot | grep -c c[a]nary-of-a-worker || true
"""


def digest_of(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).hexdigest().encode()


@pytest.fixture
def operator(lab: ModuleType, tmp_path: Path) -> Operator:
    source = tmp_path / "sealed"
    source.mkdir()
    (source / "seal").write_text(SCRIPT)
    (source / "seal").chmod(0o755)
    commit(source, "!")
    return Operator(tmp_path / "inventory")


def workers(secret: str) -> str:
    return WORKERS.replace("SECRET", secret).replace("DIGEST", digest_of(secret).decode())


@attack(
    "local user", "a secret of workers or of sudo: arguments, environments, journals, files", "held"
)
def test_a_secret_reaches_its_workers_and_is_seen_nowhere(
    lab: ModuleType, operator: Operator, tmp_path: Path
) -> None:
    operator.says(workers(FIRST))
    said = [operator.deploy()]
    with Client(SERVER, timeout=60) as client:
        assert client.do("seal", "") == digest_of(FIRST)
        assert client.do("shout", "a") == b"A!" + digest_of(FIRST)

    # Another value: its workers restart, and no other.
    before = running(lab)
    operator.says(workers(SECOND))
    with processes_watched() as seen, workers_counted("shout") as counts:
        tasks = (("plan",), ("plan", "--json"), ("deploy", "--verbose", "--yes"))
        said += [operator.invoke(*task).said for task in tasks]
    assert "secret KEY of worker seal  (another value)" in said[1]
    now = running(lab)
    restarted = {name.partition(".")[0] for name in now if now[name] != before.get(name)}
    names = ("seal", "shout", "shout:2", "resize")
    assert restarted == {f"gearman-worker@{name}" for name in names}
    assert set(counts) == {1, 2}, "one instance after the other: the function keeps a worker"
    with Client(SERVER, timeout=60) as client:
        assert client.do("seal", "") == digest_of(SECOND)
        assert client.do("shout", "a") == b"A!" + digest_of(SECOND)

    # A new release is tried with it, in a worker that runs beside.
    commit(tmp_path / "sealed", "?")
    with processes_watched() as more:
        said.append(operator.invoke("upgrade", "--app", "sealed", "--verbose", "--yes").said)
    assert "by a worker beside" in said[-1]
    with Client(SERVER, timeout=60) as client:
        assert client.do("shout", "a") == b"A?" + digest_of(SECOND)
    assert root(lab, "worker1", "ls -d /run/gearman-trial* || true") == ""

    looks = (("status",), ("history", "--json"), ("releases",), ("doctor",), ("inventory",))
    said += [operator.invoke(*task).said for task in (*looks, ("logs",), ("smoke",))]
    assert any(b"gearman-worker" in each for each in seen | more)
    assert not [each for each in seen | more if b"canary-of-a-worker" in each]
    assert not [each for each in said if "canary-of-a-worker" in each]
    found = root(lab, "worker1", SEARCH).split()
    assert found == [*(f"{FOLDER}/{name}" for name in sorted_names(lab)), "0", "0"]
    assert sorted_names(lab) == ["resize.UNUSED", "seal.KEY", "shout.KEY"]
    kept = ["grep", "-rl", "canary-of-a-worker", str(ROOT / ".cache" / "apps" / "sealed")]
    assert subprocess.run(kept, capture_output=True, text=True, check=False).stdout == ""

    # Users of the host see neither the files nor what systemd made of them.
    for path in (f"{FOLDER}/seal.KEY", "/run/credentials/gearman-worker@seal.service/KEY"):
        peek = lab.run("worker1", ["runuser", "-u", "deploy", "--", "cat", path])
        assert "Permission denied" in peek.stderr, peek
    # Nor does a worker see those of another.
    look = f"[ls, /run/credentials, {FOLDER}]"
    operator.says(workers(SECOND).replace("[wc, -l]", look))
    operator.deploy()
    with Client(SERVER, timeout=60) as client, pytest.raises(JobFailed):
        client.do("lines", "")

    done = invoke(ROOT, "deploy", "--yes")
    assert done.status == 0, done.said
    assert root(lab, "worker1", "ls -A /etc/gearman 2>/dev/null || true").split() == []


@contextmanager
def workers_counted(function: str) -> Iterator[list[int]]:
    """How many workers the job server has for a function, from moment to moment."""
    counts: list[int] = []
    over = threading.Event()

    def count() -> None:
        with AdminClient(SERVER) as admin:
            while not over.wait(0.01):
                counts.extend(row.workers for row in admin.status() if row.name == function)

    counting = threading.Thread(target=count)
    counting.start()
    try:
        yield counts
    finally:
        over.set()
        counting.join()


PYTHON = """
gearman_functions: [wc]
gearman_apps:
  thumbnails: {source: ../thumbnails}
gearman_workers:
  thumbnails:
    app: thumbnails
    run: thumbnails.worker:worker
    secrets: {KEY: SECRET}
    check: {function: seal, expect: "DIGEST"}
"""
SEAL = """

@worker.function("seal", workload=True)
def seal(_: bytes) -> str:
    import hashlib, os, pathlib
    key = pathlib.Path(os.environ["CREDENTIALS_DIRECTORY"], "KEY").read_bytes()
    return hashlib.sha256(key).hexdigest()
"""


def test_a_python_project_finds_its_secrets_in_its_processes_and_on_trial(
    lab: ModuleType, operator: Operator, tmp_path: Path
) -> None:
    source = tmp_path / "thumbnails"
    unwanted = shutil.ignore_patterns("__pycache__", ".*")
    shutil.copytree(ROOT / "examples" / "thumbnails", source, ignore=unwanted)
    module = source / "src" / "thumbnails" / "worker.py"
    module.write_text(module.read_text() + SEAL)
    text = PYTHON.replace("SECRET", FIRST).replace("DIGEST", digest_of(FIRST).decode())
    operator.says(text)
    operator.deploy()
    with Client(SERVER, timeout=60) as client:
        assert client.do("seal", "") == digest_of(FIRST)

    # A new secret and a new release at once: the release is tried with the new one.
    text = PYTHON.replace("SECRET", SECOND).replace("DIGEST", digest_of(SECOND).decode())
    operator.says(text)
    module.write_text(f"{module.read_text()}\n# another release\n")
    done = operator.invoke("upgrade", "--app", "thumbnails", "--gap", "--yes")
    assert done.status == 0, done.said
    with Client(SERVER, timeout=60) as client:
        assert client.do("seal", "") == digest_of(SECOND)
    done = invoke(ROOT, "deploy", "--yes")
    assert done.status == 0, done.said


def sorted_names(lab: ModuleType) -> list[str]:
    return root(lab, "worker1", f"ls {FOLDER}").split()
