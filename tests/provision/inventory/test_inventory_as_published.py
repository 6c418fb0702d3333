"""Inventories like those that people publish, and random ones, mean what they mean to Ansible.

Compared is all that `ansible-inventory --list` says: the hosts, the groups of each, its variables.
What Ansible said of the published ones is kept in inventories/published/answers.json, and asked for
again where ansible-core is installed: beside this Python, or in the bin folder that $ANSIBLE names.
WRITE=yes keeps new answers.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provision.errors import InventoryError
from provision.inventory.load import InventoryReader, load
from provision.inventory.secrets import Secret

FOLDER = Path(__file__).parents[1] / "inventories" / "published"
ANSWERS = FOLDER / "answers.json"
PEER = Path(__file__).parent / "ansible_peer.py"
BIN = Path(os.environ.get("ANSIBLE") or Path(sys.executable).parent)
NEEDS_ANSIBLE = pytest.mark.skipif(
    not (BIN / "ansible-inventory").exists(), reason="needs ansible-core: set $ANSIBLE"
)
UNSAID = "ansible_group_priority"  # ansible-inventory leaves it out


def inventories() -> dict[str, dict[str, str]]:
    """Name -> its files. `=== NAME` begins an inventory, `--- PATH` a file of it."""
    found: dict[str, dict[str, str]] = {}
    for page in sorted(FOLDER.glob("*.txt")):
        for text in page.read_text().split("=== ")[1:]:
            name, _, rest = text.partition("\n")
            parts = re.split(r"^--- (\S+)\n", rest, flags=re.MULTILINE)[1:]
            found[f"{page.stem}: {name}"] = dict(zip(parts[::2], parts[1::2], strict=True))
    return found


INVENTORIES = inventories()


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    match value:
        case Secret():
            return value.reveal()
        case dict():
            return {str(key): plain(each) for key, each in value.items()}
        case list():
            return [plain(each) for each in value]
        case None | bool() | int() | float() | str():
            return value
    return str(value)


def ours(path: Path) -> dict[str, Any]:
    reader = InventoryReader(path)
    return {
        name: {
            "groups": sorted(reader.memberships[name]),
            "variables": plain(
                {
                    key: value
                    for key, (value, _) in reader.merged_variables(name).items()
                    if key != UNSAID
                }
            ),
        }
        for name in reader.groups.hosts
    }


def compare(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert mine.keys() == theirs.keys()
    for name, host in mine.items():
        assert host["groups"] == theirs[name]["groups"], name
        said = {key: each for key, each in theirs[name]["variables"].items() if key != UNSAID}
        assert host["variables"].keys() == said.keys(), name
        for key, value in host["variables"].items():
            other = said[key]
            if "pass" in key:  # a text stays the text that it is
                value, other = str(value).lstrip("0"), str(other).lstrip("0")
            # As JSON, which tells 1 from true and from 1.0.
            assert json.dumps(value, sort_keys=True) == json.dumps(other, sort_keys=True), (
                name,
                key,
            )


def test_there_are_many() -> None:
    assert len(INVENTORIES) >= 60


@pytest.mark.parametrize("name", INVENTORIES)
def test_a_published_inventory_means_what_it_means_to_ansible(name: str, tmp_path: Path) -> None:
    write(tmp_path, INVENTORIES[name])
    compare(ours(tmp_path), json.loads(ANSWERS.read_text())[name])


class Ansible:
    """An ansible-core, to be asked."""

    def __init__(self, home: Path) -> None:
        python = BIN / "python"
        self._process = subprocess.Popen(
            [python if python.exists() else sys.executable, PEER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"ANSIBLE_HOME": str(home)},
            cwd=home,
        )

    def ask(self, path: Path) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        said: dict[str, Any] = json.loads(self._process.stdout.readline())
        return said

    def close(self) -> None:
        self._process.communicate(timeout=120)


@pytest.fixture(scope="module")
def ansible(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ansible]:
    peer = Ansible(tmp_path_factory.mktemp("ansible"))
    yield peer
    peer.close()


@pytest.mark.slow
@NEEDS_ANSIBLE
def test_what_is_kept_is_what_ansible_says(ansible: Ansible, tmp_path: Path) -> None:
    said = {}
    for number, (name, files) in enumerate(INVENTORIES.items()):
        write(tmp_path / str(number), files)
        answer = ansible.ask(tmp_path / str(number))
        assert "hosts" in answer, (name, answer)
        said[name] = answer["hosts"]
    if os.environ.get("WRITE") == "yes":
        ANSWERS.write_text(json.dumps(said, indent=1, sort_keys=True) + "\n")
    kept = json.loads(ANSWERS.read_text())
    for name, answer in said.items():
        assert kept[name] == answer, name


@NEEDS_ANSIBLE
@pytest.mark.slow
@pytest.mark.parametrize("name", ["ini: variables of groups", "ini: diamond", "yaml: layers"])
def test_the_program_says_what_its_library_says(name: str, tmp_path: Path) -> None:
    write(tmp_path, INVENTORIES[name])
    command = [str(BIN / "ansible-inventory"), "-i", str(tmp_path), "--list"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    kept = json.loads(ANSWERS.read_text())[name]
    said = json.loads(done.stdout)["_meta"]["hostvars"]
    assert said == {host: one["variables"] for host, one in kept.items() if one["variables"]}
    # And what it printed is an inventory itself, which means the same.
    (tmp_path / "saved" / "group_vars").mkdir(parents=True)
    (tmp_path / "saved" / "hosts.json").write_text(done.stdout)
    compare(ours(tmp_path / "saved"), kept)


@NEEDS_ANSIBLE
@pytest.mark.slow
def test_a_plugin_s_configuration_is_read_by_ansible_inventory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "hosts.ini": "[web]\nw1 colour=red gearman_port=4731\nw2 colour=blue\n[web:vars]\nx=1\n",
        "z_constructed.yml": "plugin: constructed\nstrict: true\n"
        "groups: {worker: colour == 'red'}\ncompose: {ansible_port: 2200 + 22}\n",
        "group_vars/all.yml": "x: 2\ngearman_workers: {wc: {nice: 1}}\n",
        "group_vars/worker.yml": "gearman_workers: {wc: {memory: 1G}}\n",
        "known_hosts": "w1 ssh-ed25519 AAAA\n",
    }
    write(tmp_path, files)
    monkeypatch.setenv("PATH", str(BIN), prepend=os.pathsep)
    found = load(tmp_path)
    (w1,) = found.hosts
    assert (w1.port, w1.variables["x"], w1.variables["gearman_port"]) == (2222, 2, 4731)
    assert w1.variables["gearman_workers"] == {"wc": {"nice": 1, "memory": "1G"}}
    assert [other.name for other in found.others] == ["w2"]
    (tmp_path / "z_constructed.yml").write_text("plugin: nosuch.cloud.vms\n")
    with pytest.raises(InventoryError, match=r"z_constructed\.yml:1: ansible-inventory ended wit"):
        load(tmp_path)


# -- random ones ----------------------------------------------------------------------------

GROUPS = ["a", "b", "c", "d", "e", "web-1", "all", "ungrouped"]
OWN_GROUPS = GROUPS[:-2]
HOSTS = ["h1", "h2", "h3", "h[1:3]", "h[01:02].lan", "x[a:b]y", "h1:2222", "10.0.0.1", "fd00::1"]
NAMES = ["x", "y", "ansible_host", "ansible_port", UNSAID]
WORDS = st.sampled_from(
    """1|007|1.5|yes|True|None|text|[1, 'b']|{'k': 1}|{{ x }}|é|a#b|a=b|'quoted'|1e3|(1, 2)||0x1f
a b|- 1|~|null|a: b|#""".replace("\n", "|").split("|")
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5000) | st.text("ab:#{} -'\"é", max_size=6),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=2)
    ),
    max_leaves=3,
)


def variables(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    def fit(found: dict[str, Any]) -> dict[str, Any]:
        if UNSAID in found:
            found[UNSAID] = len(str(found[UNSAID])) % 4
        return found

    return st.dictionaries(st.sampled_from(NAMES), values, max_size=3).map(fit)


@st.composite
def ini_texts(draw: st.DrawFn) -> str:
    """Sections in any order; children only of later letters, so that none is within itself."""
    lines = [f"[{name}]" for name in OWN_GROUPS] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 6))):
        group = draw(st.sampled_from(GROUPS))
        kind = draw(st.sampled_from(["", ":vars", ":children"]))
        if kind == ":children" and group not in OWN_GROUPS:
            continue
        lines.append(f"[{group}{kind}]" + draw(st.sampled_from(["", "  # why", " "])))
        for _ in range(draw(st.integers(0, 3))):
            if kind == ":children":
                below = OWN_GROUPS[OWN_GROUPS.index(group) + 1 :]
                lines += [draw(st.sampled_from(below))] if below else []
            elif kind == ":vars":
                for key, value in draw(variables(WORDS)).items():
                    lines.append(f"{key}{draw(st.sampled_from(['=', ' = ']))}{value}")
            else:
                own = draw(variables(WORDS)).items()
                pairs = (
                    f'{key}="{value}"' if " " in str(value) else f"{key}={value}"
                    for key, value in own
                )
                lines.append(" ".join([draw(st.sampled_from(HOSTS)), *pairs]))
        lines.append(draw(st.sampled_from(["", "# comment", "; comment", "   "])))
    return "\n".join(lines) + "\n"


@st.composite
def yaml_texts(
    draw: st.DrawFn, top: bool = True, names: tuple[str, ...] = tuple(OWN_GROUPS)
) -> Any:
    """Groups within groups, as JSON, which is YAML."""
    said: dict[str, Any] = {}
    for name in draw(
        st.lists(st.sampled_from([*names, *["all"] * top] or ["z"]), max_size=3, unique=True)
    ):
        group: dict[str, Any] = {}
        if draw(st.booleans()):
            hosts = draw(st.lists(st.sampled_from(HOSTS), max_size=2, unique=True))
            group["hosts"] = {host: draw(st.none() | variables(VALUES)) for host in hosts}
        if draw(st.booleans()):
            group["vars"] = draw(variables(VALUES))
        later = tuple(OWN_GROUPS) if name == "all" else names[names.index(name) + 1 :]
        deeper = draw(st.booleans())
        if later and deeper:
            group["children"] = draw(yaml_texts(top=False, names=later))
        said[name] = draw(st.sampled_from([group, group, group or None]))
    return said


SOURCES = ["hosts", "hosts.ini", "a.yml", "b.json", "z"]
VARS = st.dictionaries(
    st.sampled_from(
        [
            f"{kind}_vars/{name}{end}"
            for kind, names in (("group", GROUPS), ("host", ["h1", "h2"]))
            for name in names
            for end in ("", ".yml", ".json", "/main.yml")
        ]
    ),
    variables(VALUES),
    max_size=4,
)


@st.composite
def folders(draw: st.DrawFn) -> dict[str, str]:
    files = {}
    for name in draw(st.lists(st.sampled_from(SOURCES), min_size=1, max_size=3, unique=True)):
        is_yaml = name in ("a.yml", "b.json") or (name == "z" and draw(st.booleans()))
        files[name] = (
            json.dumps(draw(yaml_texts()) or {"a": None}) if is_yaml else draw(ini_texts())
        )
    for name, said in draw(VARS).items():
        if not any(
            str(Path(one)) in map(str, Path(other).parents)
            for one, other in [(name, each) for each in files] + [(each, name) for each in files]
        ):
            files[name] = json.dumps(said)
    return files


@NEEDS_ANSIBLE
@pytest.mark.slow
@settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(files=folders())
def test_random_inventories_mean_what_they_mean_to_ansible(
    ansible: Ansible, tmp_path_factory: pytest.TempPathFactory, files: dict[str, str]
) -> None:
    folder = tmp_path_factory.mktemp("random")
    write(folder, files)
    theirs = ansible.ask(folder)
    try:
        mine = ours(folder)
    except InventoryError as error:
        if theirs.get("hosts"):
            raise AssertionError(f"Ansible reads it: {theirs}") from error
    else:
        assert "hosts" in theirs, theirs
        compare(mine, theirs["hosts"])
