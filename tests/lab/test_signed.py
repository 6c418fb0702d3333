"""Hosts that take signed releases alone: a deploy, what is refused, and other keys by the book."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from provision.fleet import deploy
from provision.options import Options
from roles import ROLES
from tests.lab.hosts import INVENTORY, root
from tests.lab.operator_commands import ROOT
from tests.lab.test_upgrade import invoke, release, tree
from tests.provision.agent.test_signed import make_key

HOSTS = ("server1", "worker1", "client1")
LISTED = "ls /opt/gearman/releases"


class SignedFleet:
    """The lab's inventory, with keys of its own in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(INVENTORY, folder)
        for name in ("ana", "bo", "eve"):
            make_key(folder, name)

    def accept(self, names: Sequence[str], signed_by: str) -> None:
        """Say in the inventory whose signatures count, and who signs."""
        keys = [(self.folder / f"{name}.pub").read_text().strip() for name in names]
        signing = f", gearman_signing_key: {signed_by}" if signed_by else ""
        more = f"all: {{vars: {{gearman_release_keys: {keys!r}{signing}}}}}\n"
        (self.folder / "more.yml").write_text(more)


@pytest.fixture
def fleet(lab: ModuleType, tmp_path: Path) -> Iterator[SignedFleet]:
    yield SignedFleet(tmp_path / "fleet")
    for host in HOSTS:
        root(lab, host, "rm -f /opt/gearman/release_signers /opt/gearman/.release_signatures")
    assert deploy.deploy(INVENTORY, ROLES, Options(yes=True)) == 0


def test_releases_are_signed_and_keys_are_replaced(
    lab: ModuleType, fleet: SignedFleet, tmp_path: Path
) -> None:
    fleet.accept(["ana"], "ana")
    first = invoke(ROOT, "deploy", "--yes", hosts=fleet.folder)
    assert first.status == 0
    assert "release_signers" in first.said
    assert invoke(ROOT, "plan", hosts=fleet.folder).status == 0  # it is all there
    before, listed = release(lab, "worker1"), [root(lab, host, LISTED) for host in HOSTS]

    other = tree(tmp_path / "tree")
    for signed_by, refusal in (
        ("", "it is not signed, and /opt/gearman/release_signers says that it must be"),
        ("eve", "its signature is not by a key in /opt/gearman/release_signers"),
    ):
        fleet.accept(["ana"], signed_by)
        refused = invoke(other, "upgrade", "--yes", hosts=fleet.folder)
        assert refused.status not in (0, 2)
        assert refusal in refused.said
        assert [root(lab, host, LISTED) for host in HOSTS] == listed
    assert release(lab, "worker1") == before

    fleet.accept(["eve"], "eve")  # who has no key that counts cannot give himself one
    assert "is not by a key in" in invoke(other, "deploy", "--yes", hosts=fleet.folder).said
    fleet.accept(["ana", "bo"], "ana")
    assert invoke(other, "deploy", "--yes", hosts=fleet.folder).status == 0
    fleet.accept(["ana", "bo"], "bo")
    assert invoke(other, "upgrade", "--yes", hosts=fleet.folder).status == 0
    assert release(lab, "worker1") != before
    fleet.accept(["bo"], "bo")
    assert invoke(other, "deploy", "--yes", hosts=fleet.folder).status == 0
    assert "ana" not in root(lab, "worker1", "cat /opt/gearman/release_signers")
    back = invoke(other, "rollback", "--yes", hosts=fleet.folder)
    assert back.status == 0, "what is on the hosts is not sent again"
    assert release(lab, "worker1") == before
