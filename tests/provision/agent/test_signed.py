"""Signed releases, with a real agent and ssh-keygen's own signatures."""

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from provision.errors import ToolkitError
from provision.fleet.signing import sign, with_signatures
from provision.remote.messages import Operation
from provision.remote.session import Session
from provision.resources.release_signers import ReleaseSigners
from tests.attacks import attack
from tests.provision.agent.test_agent import NOW, apply, tar
from tests.provision.local import session

ID = "1.0-abc"


def make_key(folder: Path, name: str) -> Path:
    """A new private key; the public one is beside it."""
    command = ["ssh-keygen", "-qt", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)]
    subprocess.run(command, check=True)
    return folder / name


def signers(root: Path, *keys: Path) -> Operation:
    """The operation that has a host take these keys."""
    resource = ReleaseSigners.of(str(root), [Path(f"{key}.pub").read_text() for key in keys])
    return Operation("signers", {"root": str(root)}, resource.content)


def sign_signers(key: Path, operation: Operation, now: float) -> Operation:
    assert isinstance(operation.content, bytes)
    digest = hashlib.sha256(operation.content).hexdigest()
    return sign(key, operation.arguments["root"], "release_signers", digest, now)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return make_key(tmp_path, "ana")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "gearman" / "releases").mkdir(parents=True)
    return tmp_path / "gearman"


@pytest.fixture
def host(root: Path, key: Path, tmp_path: Path) -> Iterator[Session]:
    """One that takes releases that are signed by ``key``."""
    with session(tmp_path) as agent:
        agent.lock(NOW)
        assert [each.error for each in apply(agent, signers(root, key))] == [None]
        yield agent


def release(root: Path, content: bytes = b"new", id: str = ID) -> Operation:
    digest = tar(root.parent / f"{id}.tar", app__file=content)
    arguments = {"root": str(root), "id": id, "digest": digest}
    return Operation("release", arguments, root.parent / f"{id}.tar")


def stage(host: Session, *operations: Operation) -> str | None:
    """What the last of the operations failed with."""
    outcomes = apply(host, *operations)
    assert all(each.error is None for each in outcomes[:-1])
    return outcomes[-1].error


def signature(key: Path, operation: Operation, now: float | None = None) -> Operation:
    told = operation.arguments
    return sign(key, told["root"], told["id"], told["digest"], time.time() if now is None else now)


def test_a_signed_release_is_unpacked_and_can_be_sent_again(
    host: Session, root: Path, key: Path
) -> None:
    wanted = release(root)
    signed = signature(key, wanted)
    assert stage(host, signed, wanted) is None
    assert (root / "releases" / ID / "app" / "file").read_bytes() == b"new"
    assert stage(host, Operation("prune", {"root": str(root), "id": ID})) is None
    assert stage(host, signed, wanted) is None  # the latest statement is no replay


@attack("in the middle", "a release that is not signed, to hosts that want signatures", "held")
def test_an_unsigned_release_is_refused_before_it_is_unpacked(host: Session, root: Path) -> None:
    said = stage(host, release(root))
    assert said == (
        f"it is not signed, and {root}/release_signers says that it must be: set "
        "gearman_signing_key; nothing was changed"
    )
    assert os.listdir(root / "releases") == []


@attack("in the middle", "a release signed by another key", "held")
def test_a_wrong_key_is_refused(host: Session, root: Path, tmp_path: Path) -> None:
    wanted = release(root)
    said = stage(host, signature(make_key(tmp_path, "eve"), wanted), wanted)
    assert said == f"its signature is not by a key in {root}/release_signers; nothing was changed"
    assert os.listdir(root / "releases") == []


@attack("in the middle", "a byte of a signed release, or of what was signed", "held")
def test_a_flipped_byte_is_refused_before_anything_is_unpacked(
    host: Session, root: Path, key: Path
) -> None:
    wanted = release(root)
    signed = signature(key, wanted)
    assert isinstance(wanted.content, Path)
    content = bytearray(wanted.content.read_bytes())
    content[600] ^= 1  # in the file: the tar is still one
    wanted.content.write_bytes(content)
    assert "content arrived as sha256" in str(stage(host, signed, wanted))
    other = hashlib.sha256(content).hexdigest()
    changed = replace(wanted, arguments={**wanted.arguments, "digest": other})
    assert str(stage(host, changed)).startswith("it is not signed, and ")
    told = json.loads(signed.arguments["statement"]) | {"digest": other}
    forged = replace(signed, arguments={**signed.arguments, "statement": json.dumps(told)})
    assert "is not by a key in" in str(stage(host, forged))
    assert os.listdir(root / "releases") == []


@attack("in the middle", "an older release, with the signature that it had", "held")
def test_an_older_release_is_not_brought_back_by_its_old_signature(
    host: Session, root: Path, key: Path
) -> None:
    now = time.time()
    old, new = release(root, b"old", "1.0-old"), release(root, b"new", "1.0-new")
    of_old = signature(key, old, now - 60)
    assert stage(host, of_old, old) is None
    assert stage(host, signature(key, new, now), new) is None
    assert stage(host, Operation("prune", {"root": str(root), "id": "1.0-old"})) is None
    assert "an old signature does not count again" in str(stage(host, of_old))
    assert os.listdir(root / "releases") == ["1.0-new"]
    assert stage(host, signature(key, old, now + 1), old) is None  # it may be signed anew


@attack("in the middle", "a signature of another app's release, or from the future", "held")
def test_a_signature_counts_for_its_root_and_from_its_time_on(
    host: Session, root: Path, key: Path
) -> None:
    shop = root / "apps" / "shop"
    (shop / "releases").mkdir(parents=True)
    wanted = release(shop)
    assert str(stage(host, wanted)).startswith("it is not signed, and ")
    moved = signature(key, release(root))
    elsewhere = replace(moved, arguments={**moved.arguments, "root": str(shop)})
    said = stage(host, elsewhere)
    assert said == f"its signature is for {root}, and not for {shop}"
    later = signature(key, wanted, time.time() + 3600)
    assert "which is later than now here" in str(stage(host, later))
    assert stage(host, signature(key, wanted), wanted) is None


def test_keys_are_replaced_by_those_whose_signature_counts(
    host: Session, root: Path, key: Path, tmp_path: Path
) -> None:
    new, now = make_key(tmp_path, "new"), time.time()
    both, last = signers(root, key, new), signers(root, new)
    assert str(stage(host, both)).startswith("it is not signed, and ")
    assert "is not by a key in" in str(stage(host, sign_signers(new, both, now)))
    adding = sign_signers(key, both, now)
    assert stage(host, adding, both) is None
    assert stage(host, sign_signers(new, last, now + 1), last) is None
    assert "is not by a key in" in str(stage(host, adding))  # so the old key does not come back
    wanted = release(root)
    assert "is not by a key in" in str(stage(host, signature(key, wanted)))
    assert stage(host, signature(new, wanted, now + 2), wanted) is None


def test_a_host_without_signers_takes_unsigned_and_signed_releases(
    root: Path, key: Path, tmp_path: Path
) -> None:
    with session(tmp_path) as agent:
        agent.lock(NOW)
        wanted = release(root)
        assert stage(agent, signature(key, wanted), wanted) is None
        assert stage(agent, release(root, id="1.0-other")) is None
    assert sorted(os.listdir(root)) == ["releases"]


def test_what_has_to_be_signed_is_preceded_by_its_signature(
    root: Path, key: Path, tmp_path: Path
) -> None:
    wanted, other = release(root), Operation("daemon_reload")
    kinds = [each.kind for each in with_signatures(key, [signers(root, key), wanted, other])]
    assert kinds == ["signature", "signers", "signature", "release", "daemon_reload"]
    assert list(with_signatures(None, [wanted])) == [wanted]
    with pytest.raises(ToolkitError, match=r"none cannot sign: .*No such file or directory"):
        list(with_signatures(tmp_path / "none", [wanted]))
