"""Inventories mean what they mean to Ansible: inventories/NAME/ to us, NAME.json by Ansible 2.19.

With $ANSIBLE (the bin folder of one that is installed) its answers are asked for again;
WRITE=yes besides keeps them.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from provision.inventory import load as inventory
from provision.inventory.host import Host
from provision.inventory.references import has_reference
from provision.inventory.secrets import Secret

FOLDER = Path(__file__).parents[1] / "inventories"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
ANSIBLE = os.environ.get("ANSIBLE")
# Every variable of a host, templated.
ALL = '{{ dict(query("varnames", names) | zip(query("vars", *query("varnames", names)))) }}'
OPEN = {"kind"}  # refers to another, and no variable of ours
UNSAID = "ansible_group_priority"  # ansible-inventory leaves it out
IDENTITIES = f"{FOLDER}/keys/default,prod@{FOLDER}/keys/prod"


@pytest.fixture(autouse=True)
def passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_VAULT_IDENTITY_LIST", IDENTITIES)


def bare(value: Any) -> Any:
    return value.reveal() if isinstance(value, Secret) else value


def _set(host: Host) -> dict[str, Any]:
    return {name: value for name, value in host.variables.items() if host.is_set(name)}


@pytest.mark.parametrize("name", NAMES)
def test_variables_are_those_that_ansible_has(name: str) -> None:
    theirs = json.loads((FOLDER / f"{name}.json").read_text())
    ours = {host.name: _set(host) for host in inventory.load(FOLDER / name).hosts}
    assert ours.keys() == theirs.keys()
    for host, variables in ours.items():
        found = {key: bare(value) for key, value in variables.items() if key != UNSAID}
        # What refers to another variable is followed where it is used, in those of schema.yml.
        followed = {key for key, value in found.items() if not has_reference(value)}
        assert {key: found[key] for key in followed} == {key: theirs[host][key] for key in followed}
        assert followed | OPEN == theirs[host].keys() | OPEN


if ANSIBLE:

    @pytest.mark.parametrize("name", NAMES)
    def test_what_is_kept_is_what_ansible_says(name: str) -> None:
        kept = FOLDER / f"{name}.json"
        said = asked(FOLDER / name)
        if os.environ.get("WRITE") == "yes":
            kept.write_text(json.dumps(said, indent=1, sort_keys=True) + "\n")
        assert said == json.loads(kept.read_text())


def asked(folder: Path) -> dict[str, dict[str, Any]]:
    """Each host's variables, with no host asked."""
    hosts = json.loads(ansible("ansible-inventory", folder, "--list"))["_meta"]["hostvars"]
    names = "|".join(sorted({name for variables in hosts.values() for name in variables}))
    template = ("-m", "debug", "-a", f"msg={ALL}", "-e", json.dumps({"names": f"^({names})$"}))
    lines = ansible("ansible", folder, "all", "--one-line", *template).splitlines()
    return {
        line.split(" | ")[0]: json.loads(line[line.index("{") :])["msg"]
        for line in lines
        if " | " in line
    }


def ansible(program: str, folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [f"{ANSIBLE}/{program}", "-i", str(folder), *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
