"""A secret of the inventory does its work on a real host, and is seen nowhere on the way."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from types import ModuleType

import pytest

from tests.attacks import attack
from tests.lab.hosts import INVENTORY

ROOT = Path(__file__).resolve().parents[2]
INVENTORIES = ROOT / "tests" / "provision" / "inventories"
CANARY = "canary-of-the-file"  # in the file that ansible-vault encrypted
RULE = "/etc/sudoers.d/deploy"
WRAPPER = "/usr/local/bin/gearman"  # of a deploy's making


@pytest.fixture
def vaulted(lab: ModuleType, tmp_path: Path) -> Iterator[Path]:
    """The lab's inventory with an encrypted sudo password, which client1 asks for."""
    folder = tmp_path / "lab"
    shutil.copytree(INVENTORY, folder)
    shutil.copytree(INVENTORIES / "vault" / "group_vars", folder / "group_vars")
    script = f"cp {RULE} /root/rule; echo deploy:{CANARY} | chpasswd"
    lab.run("client1", ["sh", "-c", f"{script}; echo 'deploy ALL=(ALL) ALL' > {RULE}"])
    try:
        yield folder
    finally:
        lab.run("client1", ["sh", "-c", f"mv /root/rule {RULE}"])


def invoke(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "invoke", *arguments],
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_VAULT_PASSWORD_FILE": str(INVENTORIES / "keys" / "default")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


@contextmanager
def processes_watched() -> Iterator[set[bytes]]:
    """Every process's arguments and environment meanwhile, here and on the lab's hosts."""
    seen: set[bytes] = set()
    over = Event()

    def watch() -> None:
        while not over.wait(0.005):
            for process in Path("/proc").glob("[1-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        seen.add((process / name).read_bytes())
                    except OSError:  # it is gone
                        continue

    thread = Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


@attack(
    "local user", "a secret of workers or of sudo: arguments, environments, journals, files", "held"
)
def test_a_vaulted_sudo_password_works_and_is_seen_nowhere(lab: ModuleType, vaulted: Path) -> None:
    target = ("--hosts", str(vaulted), "--limit", "client1", "--verbose")
    assert invoke("deploy", *target, "--yes").returncode == 0
    lab.run("client1", ["rm", WRAPPER])
    with processes_watched() as seen:
        runs = [
            invoke("plan", *target),
            invoke("plan", *target, "--json"),
            invoke("deploy", *target, "--yes"),
            invoke("inventory", *target[:4]),
        ]
    assert [done.returncode for done in runs] == [2, 2, 0, 0]
    assert any(b"sudo\0" in each for each in seen)  # it was looked when there was something to see
    shown = [text.encode() for done in runs for text in (done.stdout, done.stderr)]
    assert not [each for each in [*seen, *shown] if CANARY.encode() in each]
    kept = ["grep", "-rlI", CANARY, "/etc", "/var/lib", "/var/log", "/run", "/tmp"]
    assert lab.run("client1", kept).stdout == ""
    assert not [line for line in lab.journal("client1", "--boot") if CANARY in line]
