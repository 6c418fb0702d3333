"""Secrets come from where people keep them, and are seen nowhere."""

import json
import os
import pickle
import pty
import shutil
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from provision.errors import InventoryError
from provision.inventory import load as inventory
from provision.inventory.host import Host
from provision.inventory.secrets import Secret
from tests.attacks import attack

ROOT = Path(__file__).resolve().parents[3]
INVENTORIES = Path(__file__).parents[1] / "inventories"
VAULT = INVENTORIES / "vault"
KEYS = INVENTORIES / "keys"
SUDO = "ansible_become_password"
CANARY = "canary-of-the-file"  # in the vault's encrypted file
INLINE = "canary-inline ü"  # and of another vault id


@pytest.fixture(autouse=True)
def no_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE", raising=False)
    monkeypatch.delenv("ANSIBLE_VAULT_IDENTITY_LIST", raising=False)


def hosts(folder: Path) -> dict[str, Host]:
    return {host.name: host for host in inventory.load(folder).hosts}


def one(folder: Path, group_vars: str) -> Host:
    (folder / "group_vars").mkdir(parents=True, exist_ok=True)
    (folder / "hosts.yml").write_text("worker: {hosts: {w1: }}\n")
    (folder / "group_vars" / "all.yml").write_text(group_vars)
    return hosts(folder)["w1"]


def complaint(folder: Path, group_vars: str) -> str:
    with pytest.raises(InventoryError) as raised:
        one(folder, group_vars)
    return str(raised.value).replace(f"{folder}/", "")


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def inline() -> str:
    """An encrypted text of vault id prod, as it stands in a file."""
    return (VAULT / "host_vars" / "w2.yml").read_text().split("others:")[0]


# -- ansible-vault ------------------------------------------------------------------------


def test_vaults_of_several_ids_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(KEYS / "default"))
    monkeypatch.setenv("ANSIBLE_VAULT_IDENTITY_LIST", f"prod@{KEYS / 'prod'}")
    found = hosts(VAULT)
    assert found["w1"].variables[SUDO] == Secret(CANARY)
    assert found["w2"].variables[SUDO] == Secret(INLINE)
    assert found["w1"].variables["plain"] == "seen"


def test_a_program_may_give_the_vault_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = program(tmp_path / "keys-client", f'[ "$1" = --vault-id ] && cat {KEYS}/"$2"')
    monkeypatch.setenv("ANSIBLE_VAULT_IDENTITY_LIST", f"default@{ids},prod@{ids}")
    assert hosts(VAULT)["w2"].variables[SUDO] == Secret(INLINE)


def test_the_password_of_a_vaults_id_is_tried_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = program(tmp_path / "other", f"touch {tmp_path}/ran; echo x")
    monkeypatch.setenv("ANSIBLE_VAULT_IDENTITY_LIST", f"default@{other},prod@{KEYS / 'prod'}")
    assert one(tmp_path, inline()).variables[SUDO] == Secret(INLINE)
    assert not (tmp_path / "ran").exists()


def test_a_vault_that_does_not_open_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = inline()
    assert complaint(tmp_path, text) == (
        "group_vars/all.yml:1: to open this takes the vault password of 'prod': name the file "
        "that it is in by $ANSIBLE_VAULT_PASSWORD_FILE, or be at a terminal to be asked"
    )
    wrong = KEYS / "default"
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(wrong))
    assert complaint(tmp_path, text) == (
        f"group_vars/all.yml:1: no vault password opens this; tried: {wrong}"
    )
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", "/nowhere")
    assert complaint(tmp_path, text) == (
        "group_vars/all.yml:1: vault password from /nowhere: No such file or directory"
    )
    bad = program(tmp_path / "bad", "echo no key >&2; exit 3")
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(bad))
    assert complaint(tmp_path, text) == (
        "group_vars/all.yml:1: vault password from bad: `bad` ended with status 3: no key"
    )


@pytest.mark.parametrize(
    "text",
    [
        "$ANSIBLE_VAULT;1.0;AES\n6162",
        "$ANSIBLE_VAULT;1.1;DES\n6162",
        "$ANSIBLE_VAULT;1.1;AES256\n616",
        "$ANSIBLE_VAULT;1.1;AES256\n6162",
        "$ANSIBLE_VAULT;1.1;AES256\n610a620a63",
        "$ANSIBLE_VAULT",
        "open sesame",
        "",
    ],
)
def test_a_damaged_vault_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(KEYS / "prod"))
    said = complaint(tmp_path, f"{SUDO}: !vault {json.dumps(text)}")
    assert said == "group_vars/all.yml:1: not a text of ansible-vault 1.1 or 1.2"


def test_a_ciphertext_that_was_changed_does_not_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(KEYS / "prod"))
    text = inline().rstrip()
    last = "1" if text[-1] != "1" else "2"  # of 30-39 or 61-66: what is within is hexadecimal
    assert "no vault password opens this" in complaint(tmp_path, text[:-1] + last)


def test_an_inventory_without_its_vaults_password_is_read_if_nobody_needs_it(
    tmp_path: Path,
) -> None:
    host = one(tmp_path, inline().replace(SUDO, "of_somebody_else"))
    assert repr(host.variables["of_somebody_else"]) == "<secret>"


def test_what_is_shown_is_not_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(KEYS / "prod"))
    assert complaint(tmp_path, inline().replace(SUDO, "ansible_user")) == (
        "group_vars/all.yml:1: ansible_user is shown to whoever deploys, so it cannot be a secret: "
        "write it where it is not encrypted"
    )
    (tmp_path / "hosts.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n6162\n")
    with pytest.raises(InventoryError, match="the list of hosts cannot be encrypted"):
        inventory.load(tmp_path)


# -- the environment, commands -------------------------------------------------------------


def test_a_password_may_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"{SUDO}: {{env: SUDO_OF_PROD}}"
    assert complaint(tmp_path, text) == (f"group_vars/all.yml:1: {SUDO}: $SUDO_OF_PROD is not set")
    monkeypatch.setenv("SUDO_OF_PROD", CANARY)
    assert one(tmp_path, text).variables[SUDO] == Secret(CANARY)


def test_a_password_may_come_from_a_command_which_runs_once(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shown = program(tmp_path / "show", f"echo {CANARY}; echo x >> {runs}")
    host = one(tmp_path / "prod", f"{SUDO}: {{cmd: [{shown}, prod/sudo]}}")
    assert host.variables[SUDO] == Secret(CANARY)
    assert runs.read_text() == "x\n"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{cmd: ['false']}", ": `false` ended with status 1"),
        ("{cmd: [/nowhere]}", ": `/nowhere`: No such file or directory"),
        ("{cmd: ['true']}", ": there is nothing in it"),
        ("{cmd: echo}", ": a secret comes from {env: NAME} or {cmd: [PROGRAM, ARGUMENT]}"),
        ("{env: A, cmd: [b]}", ": a secret comes from {env: NAME} or {cmd: [PROGRAM, ARGUMENT]}"),
        ("'{{ x }}'", " refers to x, and w1 has no such variable"),
    ],
)
def test_a_secret_that_is_nowhere_is_told(tmp_path: Path, written: str, said: str) -> None:
    assert complaint(tmp_path, f"{SUDO}: {written}") == f"group_vars/all.yml:1: {SUDO}{said}"


def test_all_of_an_encrypted_file_is_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(KEYS / "default"))
    found = inventory.load(INVENTORIES / "vault-of-many-kinds").hosts[0].variables
    assert found[SUDO] == Secret("canary{{")
    assert found["db_password"] == Secret("canary{{ x")
    shown = [found["number"], found["jinja"], found["nested"]]
    assert repr(shown) == "[<secret>, <secret>, {'a': [<secret>, None]}]"


def test_an_encrypted_file_that_is_no_text_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(KEYS / "default"))
    with pytest.raises(
        InventoryError, match=r"all: the decrypted value is not UTF-8 text"
    ) as raised:
        inventory.load(INVENTORIES / "vault-of-bytes")
    assert "canary" not in "".join(traceback.format_exception(raised.value))


# -- seen nowhere --------------------------------------------------------------------------


def test_a_secret_shows_itself_to_nobody() -> None:
    secret = Secret(CANARY)
    shown = [str(secret), repr(secret), f"{secret}", f"{secret!r}", repr({"x": [secret]})]
    assert all(CANARY not in each for each in shown)
    assert not hasattr(secret, "__dict__")
    with pytest.raises(TypeError):
        json.dumps(secret)
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    try:
        raise ValueError(secret)
    except ValueError:
        assert CANARY not in traceback.format_exc()


@attack("colleague", "a secret inside a text, which would show it", "held")
def test_a_text_with_a_secret_in_it_is_refused(tmp_path: Path) -> None:
    text = f"{SUDO}: {CANARY}\ngearman_listen: 'x{{{{ {SUDO} }}}}'"
    said = complaint(tmp_path, text)
    assert said.endswith(f"{SUDO} cannot be part of a string: it is a secret")
    said = complaint(tmp_path, f"{SUDO}: {CANARY}\ngearman_listen: '{{{{ {SUDO} }}}}'")
    assert CANARY not in said and "cannot be a secret" in said


def invoke(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "invoke", *arguments]


@pytest.mark.slow
def test_the_inventory_is_shown_without_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(KEYS / "default"))
    monkeypatch.setenv("ANSIBLE_VAULT_IDENTITY_LIST", f"prod@{KEYS / 'prod'}")
    for more in ((), ("--json",)):
        command = invoke("inventory", "--hosts", str(VAULT), *more)
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert "<secret>" in done.stdout and "vaulted_sudo" in done.stdout
        assert "canary" not in done.stdout + done.stderr


@pytest.mark.slow
def test_at_a_terminal_each_vault_id_is_asked_for_once_and_not_echoed(tmp_path: Path) -> None:
    folder = tmp_path / "prod"
    shutil.copytree(VAULT, folder)
    again = folder / "host_vars" / "w1.yml"  # one more to open with the same password
    shutil.copy(folder / "group_vars" / "all" / "vault.yml", again)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        invoke("inventory", "--hosts", str(folder)),
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    said = b""
    for vault_id in ("default", "prod"):
        while f"vault password ({vault_id}): ".encode() not in said:
            said += os.read(ours, 1000)
        os.write(ours, (KEYS / vault_id).read_bytes())
    while piece := _read(ours):
        said += piece
    os.close(ours)
    assert process.wait() == 0, said
    assert said.count(b"vault password") == 2
    assert b"sesame" not in said and b"pass\r" not in said and b"canary" not in said


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1000)
    except OSError:  # the other end was closed
        return b""
