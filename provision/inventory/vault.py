"""Texts that ansible-vault encrypted (formats 1.1 and 1.2), opened.

The format is Ansible's lib/ansible/parsing/vault: a header line, then in hexadecimal a salt, an
HMAC-SHA256 and an AES-256-CTR ciphertext; PBKDF2 makes the keys of password and salt. The HMAC is
compared first, in constant time: what a wrong password yields is never looked at.

The passwords are where Ansible looks for them: the file or program $ANSIBLE_VAULT_PASSWORD_FILE,
and those of $ANSIBLE_VAULT_IDENTITY_LIST (`dev@FILE,prod@prompt`). Where neither is set, the
person at the terminal is asked, once for each vault id.
"""

import hashlib
import hmac
import os
import sys
from binascii import Error as NotHexadecimal
from binascii import unhexlify
from collections.abc import Iterator
from functools import cache
from getpass import getpass
from pathlib import Path

from provision.errors import InventoryError
from provision.inventory.secrets import from_command

FILE = "ANSIBLE_VAULT_PASSWORD_FILE"
LIST = "ANSIBLE_VAULT_IDENTITY_LIST"
MARK = "$ANSIBLE_VAULT;"
DEFAULT = "default"  # the vault id of what names none
ROUNDS = 10_000  # of PBKDF2
ASKED = ("prompt", "prompt_ask_vault_pass")


def is_encrypted(text: str) -> bool:
    return text.startswith(MARK)


def is_password_source(path: Path) -> bool:
    """Whether passwords are read from this file, or printed by this program."""
    entries = os.environ.get(LIST, "").split(",")
    named = [os.environ.get(FILE, ""), *(entry.rpartition("@")[2].strip() for entry in entries)]
    return any(path.resolve() == Path(each).expanduser().resolve() for each in named if each)


def open_vault(text: str, where: str) -> str:
    """The text that was encrypted. Raises :class:`InventoryError`, which begins with ``where``."""
    try:
        vault_id, salt, digest, ciphertext = _parse_vault(text)
    except (ValueError, NotHexadecimal):
        raise InventoryError(f"{where}: not a text of ansible-vault 1.1 or 1.2") from None
    tried = []
    for source, password in _find_passwords(vault_id, where):
        keys = hashlib.pbkdf2_hmac("sha256", password, salt, ROUNDS, 80)
        if hmac.compare_digest(hmac.digest(keys[32:64], ciphertext, "sha256"), digest):
            return _decode_text(_decrypt_text(keys[:32], keys[64:], ciphertext), where)
        tried.append(source)
    if tried:
        raise InventoryError(f"{where}: no vault password opens this; tried: {', '.join(tried)}")
    raise InventoryError(
        f"{where}: to open this takes the vault password of {vault_id!r}: name the file that it "
        f"is in by ${FILE}, or be at a terminal to be asked"
    )


def _parse_vault(text: str) -> tuple[str, bytes, bytes, bytes]:
    """Vault id, salt, HMAC and ciphertext."""
    header, *lines = text.split()
    _, version, cipher, *label = header.split(";")
    if version not in ("1.1", "1.2") or cipher != "AES256":
        raise ValueError
    salt, digest, ciphertext = unhexlify("".join(lines)).split(b"\n", 2)
    return "".join(label) or DEFAULT, unhexlify(salt), unhexlify(digest), unhexlify(ciphertext)


def _decrypt_text(key: bytes, start: bytes, ciphertext: bytes) -> bytes:
    # Imported late: most inventories have no vault.
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    decryptor = Cipher(algorithms.AES(key), modes.CTR(start)).decryptor()
    padded = decryptor.update(ciphertext) + decryptor.finalize()
    return padded[: -padded[-1]]


def _decode_text(plain: bytes, where: str) -> str:
    try:
        return plain.decode()
    except UnicodeDecodeError:
        # Not the error itself: it holds what was encrypted.
        raise InventoryError(f"{where}: the decrypted value is not UTF-8 text") from None


def _find_passwords(vault_id: str, where: str) -> Iterator[tuple[str, bytes]]:
    """Every password that there is and where it is from, those of this vault id first."""
    sources = []
    if path := os.environ.get(FILE):
        sources.append((DEFAULT, path))
    for entry in filter(None, os.environ.get(LIST, "").split(",")):
        label, at, source = entry.strip().rpartition("@")
        sources.append((label if at else DEFAULT, source))
    if not sources:
        sources.append((vault_id, ASKED[0]))
    for label, source in sorted(sources, key=lambda each: each[0] != vault_id):
        if source not in ASKED:
            try:
                yield source, _from_file(source, label)
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else error
                raise InventoryError(f"{where}: vault password from {source}: {why}") from None
        elif sys.stdin.isatty() and sys.stderr.isatty():
            yield f"what you typed for {label!r}", _ask_password(label)


@cache
def _ask_password(label: str) -> bytes:
    return getpass(f"vault password ({label}): ").encode()


@cache
def _from_file(source: str, label: str) -> bytes:
    path = Path(source).expanduser()
    if not os.access(path, os.X_OK) or path.is_dir():
        return path.read_bytes().strip()
    # Ansible's rule: a program named so may serve several ids.
    client = ("--vault-id", label) if path.stem.endswith("-client") else ()
    return from_command((str(path.absolute()), *client)).strip().encode()
