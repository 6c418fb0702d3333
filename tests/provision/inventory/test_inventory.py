"""What an inventory means, and what a person reads who made a mistake in one."""

import itertools
import re
from pathlib import Path

import pytest
import yaml

from provision.errors import InventoryError
from provision.inventory import load as inventory
from provision.inventory import schema
from provision.inventory.host import Host
from provision.inventory.patterns import choose_hosts
from provision.inventory.secrets import Secret
from tests.attacks import attack

ROOT = Path(__file__).resolve().parents[3]
CODE = [
    *(ROOT / "provision").rglob("*.py"),
    *(ROOT / "roles").glob("*.py"),
    *(ROOT / "templates").iterdir(),
]
WORKER = "worker: {hosts: {w1: }}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "prod"


def write(folder: Path, **files: str) -> None:
    """Files by name, `__` for `/`."""
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".yml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def load(folder: Path, **files: str) -> dict[str, Host]:
    write(folder, **files)
    return {host.name: host for host in inventory.load(folder).hosts}


def complaint(folder: Path, **files: str) -> str:
    """What is said, with the folder left out."""
    write(folder, **files)
    with pytest.raises(InventoryError) as raised:
        inventory.load(folder)
    return str(raised.value).replace(f"{folder}/", "").replace(f"{folder.parent}/", "")


def test_the_example_to_edit_is_the_three_hosts_of_the_tutorial() -> None:
    known = inventory.load(ROOT / "inventory" / "prod")
    addresses = {host.name: (host.address, *host.groups) for host in known.hosts}
    assert addresses == {
        "client1": ("10.0.0.246", "client"),
        "job1": ("10.0.0.247", "job_server"),
        "worker1": ("10.0.0.248", "worker"),
    }


def test_all_that_the_schema_shows_may_be_written(folder: Path) -> None:
    shown = yaml.safe_load(schema.SCHEMA.read_text().replace(schema.EXAMPLE, ""))
    shown["all"]["children"]["worker"] = {"hosts": {"w1": None}}
    host = load(folder, hosts=yaml.safe_dump(shown))["w1"]
    assert host.address == "w1"
    assert host.key_file == folder / "id_ed25519"
    assert host.variables["gearman_functions"] == ["reverse", "resize", "wc"]


def test_a_host_of_which_nothing_is_said_has_the_usual(folder: Path) -> None:
    host = load(folder, hosts=WORKER)["w1"]
    assert (host.address, host.port, host.become, host.key_file) == ("w1", 22, True, None)
    assert host.where == f"{folder}/hosts.yml:1"


def test_a_host_has_the_default_of_every_variable_that_is_not_set(folder: Path) -> None:
    own = "{ansible_host: 10.0.0.9, gearman_port: 5, gearman_packages: [jq]}"
    both = f"worker: {{hosts: {{w1: , w2: {own}}}}}"
    found = load(folder, hosts=both)
    w1, w2 = found["w1"], found["w2"]
    assert (w1.variables["gearman_port"], w1.variables["gearman_packages"]) == (4730, [])
    assert (w2.variables["gearman_port"], w2.variables["gearman_packages"]) == (5, ["jq"])
    # What refers to another variable follows it.
    assert (w1.variables["gearman_listen"], w2.variables["gearman_listen"]) == ("w1", "10.0.0.9")
    assert w2.is_set("gearman_port")
    assert not w1.is_set("gearman_port")
    assert w1.where_is("gearman_port") == w1.where
    assert w1.variables.keys() == schema.schema().defaults.keys()


def test_what_is_set_cannot_refer_to_a_default_as_it_cannot_for_ansible(folder: Path) -> None:
    hosts = 'worker: {hosts: {w1: {gearman_listen: "{{ ansible_host }}"}}}'
    assert "w1 has no such variable" in complaint(folder, hosts=hosts)


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_default_stands_beside_the_schema(path: Path) -> None:
    """``.get("gearman_memory", "75%")``, or a template's ``gearman_memory | default``."""
    names = "|".join(map(re.escape, schema.schema().defaults))
    again = re.compile(rf"""\.get\(\s*["']({names})["']|\b({names})\b[^}}\n]*\|\s*default""")
    assert not again.search(path.read_text())


def test_a_sudo_password_is_never_shown(folder: Path) -> None:
    host = load(folder, hosts=WORKER, host_vars__w1="ansible_become_password: open sesame")["w1"]
    assert host.variables["ansible_become_password"] == Secret("open sesame")
    assert "sesame" not in repr(host)
    assert complaint(folder, hosts=WORKER, host_vars__w1="ansible_become_password: 1234") == (
        "host_vars/w1.yml:1: ansible_become_password should be a string, and is something else; "
        "put it in quotes"
    )


def test_other_peoples_variables_are_let_through(folder: Path) -> None:
    """Whatever they hold: Jinja, lists, numbers. Those that only hurry Ansible, too."""
    text = "ntp: {servers: [a, b]}\nmotd: '{{ x | upper }}'\nraw: !unsafe '{{ x }}'\n"
    text += "ansible_pipelining: true\n"
    host = load(folder, hosts=WORKER, group_vars__all=text)["w1"]
    assert host.variables["ntp"] == {"servers": ["a", "b"]}
    assert host.variables["motd"] == "{{ x | upper }}"


def test_jump_hosts_may_be_a_reference_and_a_wrong_one_is_told(folder: Path) -> None:
    text = "ansible_ssh_common_args: -J ana@{{ gate }}:2222\ngate: gate.lan\n"
    assert load(folder, hosts=WORKER, group_vars__all=text)["w1"].jump == ("ana@gate.lan:2222",)
    said = complaint(folder, group_vars__all="ansible_ssh_common_args: -J a:b:c")
    assert said == (
        "group_vars/all.yml:1: ansible_ssh_common_args: 'a:b:c' is not a jump host: write "
        "[user@]host[:port]"
    )


LAYERS: list[tuple[str, str]] = [
    ("hosts", "all: {vars: {gearman_port: 1}}"),
    ("parent", "europe: {vars: {gearman_port: 2}, children: {berlin: }}"),
    ("child", "berlin: {vars: {gearman_port: 3}, hosts: {w1: }}"),
    ("group_vars__all", "gearman_port: 4"),
    ("group_vars__europe", "gearman_port: 5"),
    ("group_vars__berlin", "gearman_port: 6"),
    ("own", "worker: {hosts: {w1: {gearman_port: 7}}}"),
    ("host_vars__w1", "gearman_port: 8"),
]


@pytest.mark.parametrize("count", range(1, len(LAYERS) + 1))
def test_what_is_nearer_to_the_host_wins(folder: Path, count: int) -> None:
    bare = {"a": WORKER, "b": "europe: {children: {berlin: {hosts: {w1: }}}}"}
    files = bare | dict(LAYERS[:count])
    host = load(folder, **files)["w1"]
    assert host.variables["gearman_port"] == count
    assert host.groups == {"worker", "berlin", "europe"}
    assert host.where_is("gearman_port").startswith(
        str(folder / LAYERS[count - 1][0].replace("__", "/"))
    )


def test_of_equally_deep_groups_priority_decides_and_then_the_name(folder: Path) -> None:
    groups = (
        "a: {vars: {gearman_port: 1}, hosts: {w1: }}\nb: {vars: {gearman_port: 2}, hosts: {w1: }}"
    )
    assert load(folder, hosts=WORKER, more=groups)["w1"].variables["gearman_port"] == 2
    first = groups.replace("port: 1}", "port: 1, ansible_group_priority: 2}")
    assert load(folder, hosts=WORKER, more=first)["w1"].variables["gearman_port"] == 1


def test_a_later_file_wins_and_hosts_yml_has_its_place_among_them(folder: Path) -> None:
    files = {"a": "all: {vars: {gearman_port: 1, gearman_memory: 1G}}", "hosts": WORKER}
    files["hosts"] += "all: {vars: {gearman_port: 2, gearman_memory: 2G}}"
    files["z"] = "all: {vars: {gearman_port: 3}}"
    host = load(folder, **files)["w1"]
    assert (host.variables["gearman_port"], host.variables["gearman_memory"]) == (3, "2G")


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("w[1:3]", "w1 w2 w3"),
        ("w[08:11].lan", "w08.lan w09.lan w10.lan w11.lan"),
        ("w[1:7:3]", "w1 w4 w7"),
        ("db-[a:c]", "db-a db-b db-c"),
        ("r[1:2]h[a:b]", "r1ha r1hb r2ha r2hb"),
        ("w[0:1]", "w0 w1"),
    ],
)
def test_a_range_stands_for_many_hosts(folder: Path, name: str, names: str) -> None:
    found = load(folder, hosts=f"worker: {{hosts: {{'{name}': {{gearman_port: 7}}}}}}")
    assert list(found) == names.split()
    assert {host.variables["gearman_port"] for host in found.values()} == {7}


def test_variables_are_found_where_ansible_finds_them(folder: Path) -> None:
    write(folder, hosts="worker: {hosts: {w1: , w2: , w3: }}\n")
    texts = {
        "group_vars/worker/b.yml": "gearman_port: 2\ngearman_memory: 2G\n",
        "group_vars/worker/a": "gearman_port: 1\nansible_port: 2201\n",
        "group_vars/worker/more/c.yaml": "ansible_user: ops\n",
        "group_vars/worker/.hidden.yml": "gearman_port: 9\n",
        "group_vars/worker.yml": "gearman_port: 8\n",  # the folder was found first
        "host_vars/w1": "gearman_port: 3\n",
        "host_vars/w2.json": '{"gearman_port": 4}',
    }
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = {host.name: host for host in inventory.load(folder).hosts}
    ports = {name: host.variables["gearman_port"] for name, host in found.items()}
    assert ports == {"w1": 3, "w2": 4, "w3": 2}
    assert found["w3"].variables["gearman_memory"] == "2G"
    assert (found["w3"].port, found["w3"].user) == (2201, "ops")


LIMITS = [
    ("w1", "w1"),
    ("worker", "w1 w2 w3 w10"),
    ("w*,!w2", "w1 w3 w10"),
    ("w*:!w2", "w1 w3 w10"),
    ("!worker", "j1"),
    ("all", "w1 w2 w3 w10 j1"),
    ("worker:&berlin", "w2 w3"),
    ("&berlin,worker", "w2 w3"),
    ("!w3:&berlin:worker", "w2"),
    ("~w\\d$", "w1 w2 w3"),
    ("worker[0]", "w1"),
    ("worker[-1]", "w10"),
    ("worker[1:2]", "w2 w3"),
    ("worker[1:2]:j1", "w2 w3 j1"),
    ("worker[2:]", "w3 w10"),
    ("w[12]", "w3"),
]


@pytest.mark.parametrize(("limit", "names"), LIMITS)
def test_a_limit_chooses_as_in_ansible(folder: Path, limit: str, names: str) -> None:
    text = "worker: {hosts: {w1: , w2: , w3: , w10: }}\njob_server: {hosts: {j1: }}\n"
    write(folder, hosts=text, more="berlin: {hosts: {w2: , w3: }}\n")
    if limit == "w[12]":  # a subscript, not a set of characters
        with pytest.raises(InventoryError, match="no host or group is named 'w'"):
            inventory.load(folder, limit)
    else:
        known = inventory.load(folder, limit)
        assert [host.name for host in known.hosts] == names.split()
        assert [host.name for host in known.group("job_server")] == ["j1"]


def test_a_limit_may_come_from_a_file(folder: Path, tmp_path: Path) -> None:
    write(folder, hosts="worker: {hosts: {w1: , w2: , w3: }}")
    (tmp_path / "retry").write_text("w1\n\nw3\n")
    known = inventory.load(folder, f"@{tmp_path / 'retry'}")
    assert [host.name for host in known.hosts] == ["w1", "w3"]
    with pytest.raises(InventoryError, match="--limit @nowhere: No such file"):
        inventory.load(folder, "@nowhere")


def test_a_limit_looks_at_a_host_once_for_each_pattern() -> None:
    looked: list[str] = []

    def names(host: str) -> list[str]:
        looked.append(host)
        return [host, "all"]

    hosts = [f"w{number}" for number in range(100)]
    assert choose_hosts(hosts, "w1*:&w?:!w10", names) == ["w1"]
    assert len(looked) == 3 * len(hosts)


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("workers", "--limit: no host or group is named 'workers'; did you mean 'worker'?"),
        ("w1,!worker", "--limit w1,!worker: that leaves no host"),
        ("worker[7]", "--limit worker[7]: the last of them is worker[0]"),
        ("", "--limit : it names no host"),
        (" , ", "--limit  , : it names no host"),
        ("worker[", "--limit worker[: what does '[' mean there?"),
        ("~(", "--limit ~(: invalid regular expression: missing ), unterminated subpattern"),
    ],
)
def test_a_limit_that_means_nobody_is_told(folder: Path, limit: str, message: str) -> None:
    write(folder, hosts=WORKER)
    with pytest.raises(InventoryError) as raised:
        inventory.load(folder, limit)
    assert str(raised.value).startswith(message)


def test_a_limit_from_an_empty_file_is_nobody_and_not_everybody(
    folder: Path, tmp_path: Path
) -> None:
    write(folder, hosts=WORKER)
    (tmp_path / "retry").write_text("\n")
    with pytest.raises(InventoryError, match="it names no host"):
        inventory.load(folder, f"@{tmp_path / 'retry'}")


MISTAKES: list[tuple[dict[str, str], str]] = [
    (
        {"hosts": "worker:\n  hosts:\n    w1: {gearman_prot: 4731}\n"},
        "hosts.yml:3: unknown variable 'gearman_prot'; did you mean 'gearman_port'?",
    ),
    (
        {"hosts": "all:\n  vars: {gearman_port: yes}\n"},
        "hosts.yml:2: gearman_port should be a whole number, and is True",
    ),
    (
        {"hosts": "all: {vars: {gearman_port: 70000}}"},
        "hosts.yml:1: gearman_port should be from 1 to 65535, and is 70000",
    ),
    (
        {"hosts": "all: {vars: {gearman_certificate_days: 0}}"},
        "hosts.yml:1: gearman_certificate_days should be from 1 to 3650, and is 0",
    ),
    (
        {"hosts": "all: {vars: {gearman_memory: 1GG}}"},
        "hosts.yml:1: gearman_memory: '1GG' should be as systemd writes it: 512M, 1.5G, 75%",
    ),
    (
        {"hosts": "all: {vars: {gearman_functions: [wc, ../x]}}"},
        "hosts.yml:1: gearman_functions: '../x' should be letters, digits, `_.:-`",
    ),
    (
        {"hosts": "all: {vars: {gearman_packages: [--reinstall]}}"},
        "hosts.yml:1: gearman_packages: '--reinstall' should be a Debian package's name",
    ),
    (
        {"hosts": "worker: {hosts: {'w[1:999999999]': }}"},
        "hosts.yml:1: w[1:999999999] stands for more than 10000 hosts",
    ),
    (
        {"hosts": WORKER + "all: {vars: {ansible_user: [ana]}}"},
        "hosts.yml:2: ansible_user should be a string, and is ['ana']",
    ),
    (
        {"hosts": WORKER + "all: {vars: {ansible_port: ssh}}"},
        "hosts.yml:2: ansible_port should be a whole number, and is 'ssh'",
    ),
    (
        {"hosts": "all: {vars: {gearman_functions: wc}}"},
        "hosts.yml:1: gearman_functions should be a list of strings, and is 'wc'",
    ),
    (
        {"hosts": "worker:\n  host:\n    w1:\n"},
        "hosts.yml:2: a group has hosts, children and vars, and no 'host'; did you mean 'hosts'?",
    ),
    (
        {"hosts": "worker:\n  hosts:\n    - w1\n"},
        "hosts.yml:3: expected `name:` lines, found a list",
    ),
    (
        {"hosts": "worker: {hosts: {'w[3:1]': }}"},
        "hosts.yml:1: [3:1] is empty: it ends before it begins",
    ),
    (
        {"hosts": "worker: {hosts: {'w[1:a]': }}"},
        "hosts.yml:1: [1:a] is neither a range of numbers nor of letters",
    ),
    (
        {"hosts": "worker: {hosts: {'w[1]': }}"},
        "hosts.yml:1: [1] is not a range; ranges are [1:9], [01:10], [a:f] or [1:9:2]",
    ),
    (
        {"hosts": "worker: {hosts: {'w 1': }}"},
        (
            "hosts.yml:1: 'w 1' is not a valid name of a host of ours; use letters, digits, "
            "`.`, `_` and `-`"
        ),
    ),
    (
        {"hosts": "worker:\n  hosts: [w1\n"},
        "hosts.yml:3: invalid YAML: expected ',' or ']', but got '<stream end>'",
    ),
    (
        {"hosts": "a: {children: {b: }}\nb: {children: {a: }}\n"},
        "hosts.yml:1: group 'a' is among its own children",
    ),
    (
        {"hosts": WORKER, "host_vars__w1": "gearman_prot: 1"},
        "host_vars/w1.yml:1: unknown variable 'gearman_prot'; did you mean 'gearman_port'?",
    ),
    ({"hosts": "# nothing yet\n"}, "prod: it has no hosts"),
    (
        {"hosts": "all: {vars: {gearman_postgres: 1}}"},
        "hosts.yml:1: unknown variable 'gearman_postgres'",
    ),
    (
        {"hosts": "all: {vars: {gearman_timeout: 1}}"},
        "hosts.yml:1: unknown variable 'gearman_timeout'",
    ),
    (
        {"hosts": "all: {vars: {gearman_allow_everything_from_everywhere: 1}}"},
        "hosts.yml:1: unknown variable 'gearman_allow_everything_from_everywhere'",
    ),
    (
        {"hosts": WORKER + "all: {vars: {ansible_become_method: doas}}"},
        (
            "hosts.yml:2: ansible_become_method: only sudo is supported, and not 'doas': set up "
            "sudo there, or log in as root (ansible_user: root)"
        ),
    ),
    (
        {"hosts": WORKER + "all: {vars: {ansible_connection: local}}"},
        (
            "hosts.yml:2: ansible_connection: only ssh is supported, and not 'local': hosts are "
            "reached over SSH only"
        ),
    ),
    (
        {"hosts": WORKER + "all: {vars: {ansible_python_interpreter: python3 -E}}"},
        (
            "hosts.yml:2: ansible_python_interpreter should be an absolute path or a name such as "
            "python3.11, and is 'python3 -E'"
        ),
    ),
    (
        {"hosts": "all: {vars: {gearman_port: !env PORT}}"},
        ("hosts.yml:1: invalid value: could not determine a constructor for the tag '!env'"),
    ),
    (
        {"hosts": WORKER, "group_vars__all": "gearman_listen: '{{ a | upper }}'"},
        (
            "group_vars/all.yml:1: gearman_listen: of Jinja only {{ variable }} is read here, "
            "with a default, and no other expression: write the value itself"
        ),
    ),
    (
        {"hosts": WORKER, "group_vars__all": "gearman_port: '{{ port }}'"},
        "group_vars/all.yml:1: gearman_port refers to port, and w1 has no such variable",
    ),
    (
        {"hosts": WORKER, "group_vars__all": "gearman_port: '{{ port }}'\nport: high"},
        "group_vars/all.yml:1: gearman_port should be a whole number, and is 'high'",
    ),
    (
        {
            "hosts": WORKER,
            "group_vars__all": "gearman_listen: '{{ a }}'\na: '{{ gearman_listen }}'",
        },
        ("group_vars/all.yml:1: gearman_listen refers to itself, by gearman_listen and a"),
    ),
]


@attack("colleague", "templates, tags and aliases of YAML that run, read or exhaust", "held")
@pytest.mark.parametrize(("files", "message"), MISTAKES)
def test_a_mistake_is_told_with_its_line(folder: Path, files: dict[str, str], message: str) -> None:
    assert complaint(folder, **files) == message


def test_a_folder_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    write(tmp_path / "lab", hosts=WORKER)
    with pytest.raises(InventoryError) as raised:
        inventory.load(tmp_path / "prd")
    there = "no such file or folder; there is"
    assert str(raised.value) == f"{tmp_path}/prd: {there} {tmp_path}/lab"

    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InventoryError, match=r"it holds no inventory, such as hosts\.yml"):
        inventory.load(empty)


@attack("colleague", "references of variables that grow without bound, hang or go deep", "mended")
@pytest.mark.slow
def test_what_would_grow_without_end_is_refused(folder: Path) -> None:
    """A colleague's group_vars, or a slip: none of them may hold up the operator."""
    hosts = "  hosts: {w1: {ansible_host: '{{ b }}'}}\n"
    letters = "abcdefghijklmnopqrstuvwxyz"
    aliases = ["    a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n"]
    pairs = list(itertools.pairwise(letters))
    aliases += [f"    {new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in pairs]
    references = [f"    {old}: '{f'{{{{ {new} }}}}' * 9}'\n" for old, new in pairs]
    for text, problem in (
        ("".join(aliases), "its aliases (*name) expand to more than 1,000,000 value"),
        ("".join(references) + "    z: word\n", "it is longer than 65,536 characters"),
        (f"    a: {'[' * 5000}{']' * 5000}\n", "it is nested too deeply"),
        (series("[{0}, {0}, {0}, {0}]", "[x, x]"), "come to more than 100,000 values when"),
        (series("[{0}, {0}, {0}, {0}]", "x" * 60_000), "come to more than 100,000 values when"),
        (series("'{0}'", "word", 4000), "is reached by more than 50 references"),
    ):
        write(folder, hosts=f"worker:\n  vars:\n{text}{hosts}")
        with pytest.raises(InventoryError) as raised:
            load(folder)
        assert problem in str(raised.value)


@attack("colleague", "empty texts that refer to each other 2 to the power of 40 times", "mended")
def test_each_variable_is_worked_out_once(folder: Path) -> None:
    empty = series("'{0}{0}'", "''", 40)
    hosts = "  hosts: {w1: {ansible_host: '10.0.0.{{ b }}9'}}\n"
    write(folder, hosts=f"worker:\n  vars:\n{empty}{hosts}")
    assert load(folder)["w1"].address == "10.0.0.9"


def series(value: str, last: str, length: int = 20) -> str:
    """Variables, b the first, each with references to the next one in place of ``{0}``."""
    names = ["b", *(f"t{number}" for number in range(length))]
    quoted = "" if value.startswith("'") else "'"
    values = [value.format(f"{quoted}{{{{ {name} }}}}{quoted}") for name in names[1:]]
    rows = zip(names, [*values, last], strict=True)
    return "".join(f"    {name}: {row}\n" for name, row in rows)
