"""`gearman_workers` of an inventory: what a host comes to run, and every mistake with its line."""

from dataclasses import replace
from pathlib import Path

import pytest

from gearman_py.functions import BUNDLED
from provision.commands.show_inventory import inventory_lines
from provision.errors import InventoryError
from provision.inventory import load as inventory
from provision.inventory.workers import WorkerDefinition, workers
from provision.options import Options
from provision.resources.sample_jobs import stated_sample

HOSTS = "worker:\n  hosts:\n    w1:\n    w2:\n"


def load(folder: Path, **files: str) -> dict[str, dict[str, WorkerDefinition]]:
    for name, text in {"hosts": HOSTS, **files}.items():
        path = folder / (name.replace("__", "/") + ".yml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = inventory.load(folder).hosts
    return {host.name: {each.name: each for each in workers(host)} for host in found}


def complaint(folder: Path, **files: str) -> str:
    with pytest.raises(InventoryError) as raised:
        load(folder, **files)
    return str(raised.value).replace(f"{folder}/", "")


def test_without_a_word_a_host_serves_all_that_is_bundled(tmp_path: Path) -> None:
    found = load(tmp_path)["w1"]
    assert list(found) == ["reverse", "resize", "wc"]
    assert all(each.is_plain and each.memory == "1G" for each in found.values())


def test_they_are_worked_out_once_and_a_changed_copy_of_a_host_has_its_own(tmp_path: Path) -> None:
    load(tmp_path)
    host = inventory.load(tmp_path).hosts[0]
    assert workers(host) is workers(host)
    changed = replace(host, variables={**host.variables, "gearman_functions": ["wc"]})
    assert [each.name for each in workers(changed)] == ["wc"]
    assert [each.name for each in workers(host)] == ["reverse", "resize", "wc"]


def test_a_worker_is_what_is_said_of_it(tmp_path: Path) -> None:
    text = """
gearman_worker_memory: 500M
gearman_workers:
  lines: {command: [wc, -l], functions: [lines], concurrency: 8, timeout: 5}
  pictures: {functions: [resize], processes: 4, memory: 2G, environment: {B: "2", A: "1"}}
  shout: {program: [perl, shout.pl], functions: [shout, yell], instances: 2, jit: true}
  wc:
"""
    found = load(tmp_path, group_vars__all=text.replace("  wc:\n", "  wc: {}\n"))["w1"]
    assert list(found) == ["lines", "pictures", "shout", "wc"]
    assert found["lines"].kind == "command"
    assert found["lines"].argv == ("wc", "-l")
    assert (found["lines"].memory, found["pictures"].memory) == ("500M", "2G")
    assert found["pictures"].environment == (("A", "1"), ("B", "2"))
    assert found["shout"].kind == "program"
    assert found["shout"].functions == ("shout", "yell")
    assert found["wc"].is_plain
    assert found["lines"].where == f"{tmp_path}/group_vars/all.yml:4"


def test_processes_may_be_as_many_as_are_needed(tmp_path: Path) -> None:
    text = "gearman_workers: {resize: {processes: 2-8}, wc: {processes: 3}, reverse: {}}"
    found = load(tmp_path, group_vars__all=text)["w1"]
    assert found["resize"].settings == ("--processes", "2-8")
    assert [each.most_jobs for each in found.values()] == [8, 3, 1]


def test_variables_are_texts_as_they_are_written(tmp_path: Path) -> None:
    text = """
gearman_workers:
  environment: {functions: [resize], processes: 2, environment: &same {A: 010, B: 1.10, C: yes}}
  wc: {environment: {<<: *same, D: true, E: -1e3, F: 2024-01-01, G: "x", H: '{{ port }}'}}
port: 4730
"""
    (tmp_path / "host_vars").mkdir()
    (tmp_path / "host_vars" / "w2.json").write_text(
        '{"gearman_workers": {"wc": {"environment": {"A": 1, "B": 1.5, "C": false}}}}'
    )
    found = load(tmp_path, group_vars__all=text)
    assert found["w1"]["environment"].settings == ("--processes", "2")
    assert dict(found["w1"]["wc"].environment) == {
        "A": "010",
        "B": "1.10",
        "C": "yes",
        "D": "true",
        "E": "-1e3",
        "F": "2024-01-01",
        "G": "x",
        "H": "4730",
    }
    assert found["w2"]["wc"].environment[:3] == (("A", "1"), ("B", "1.5"), ("C", "false"))


def test_what_is_nearer_to_the_host_is_merged_over_what_is_wider(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        group_vars__all="gearman_functions: [wc, reverse]\ngearman_workers:\n"
        "  lines: {command: [wc, -l], functions: [lines], memory: 1G}\n",
        group_vars__worker="gearman_workers: {wc: {nice: 5}, lines: {memory: 2G, cpu: 50%}}",
        host_vars__w2="size: 3G\ngearman_workers: {lines: , wc: {memory: '{{ size }}'}}",
    )
    assert found["w1"]["lines"].memory == "2G"
    assert found["w1"]["lines"].argv == ("wc", "-l")
    assert (found["w1"]["wc"].nice, found["w1"]["wc"].functions) == (5, ("wc",))
    assert list(found["w2"]) == ["wc", "reverse"]
    assert (found["w2"]["wc"].memory, found["w2"]["wc"].nice) == ("3G", 5)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("[wc]", "2: gearman_workers should be `name: value` pairs, and is ['wc']"),
        ("{'a b': {}}", "2: worker 'a b' is not a valid name; use letters, digits, `_` and `-`"),
        ("{a: wc}", "2: worker a should be `name: value` pairs, and is 'wc'"),
        (
            "\n  a:\n    comand: [wc]\n",
            "4: worker a: unknown setting 'comand'; did you mean 'command'?",
        ),
        (
            "{a: {xyzzy: 1}}",
            "2: worker a: unknown setting 'xyzzy'; expected one of app, check, command, ",
        ),
        (
            "{wc: {memory: 7}}",
            "2: worker wc: memory should be a string, and is 7; put it in quotes",
        ),
        ("{wc: {memory: 1GG}}", "2: worker wc: memory: '1GG' should be as systemd writes it"),
        ("{wc: {processes: 0}}", "2: worker wc: processes should be from 1 to 512, and is 0"),
        ("{wc: {processes: 2-x}}", "number from 1 to 512, or the least and the most, as 2-8, and"),
        ("{wc: {processes: 8-2}}", "2: worker wc: processes should be a whole number from 1 to"),
        ("{wc: {processes: 0-2}}", "processes should be a whole number from 1 to 512, or the"),
        ("{wc: {processes: '2'}}", "or the least and the most, as 2-8, and is '2'"),
        ("{wc: {processes: yes}}", "2: worker wc: processes should be a whole number, and is True"),
        ("{wc: {nice: yes}}", "2: worker wc: nice should be a whole number, and is True"),
        ("{wc: {cpu: '2'}}", "2: worker wc: cpu: '2' should be a share of one CPU: 50%, 200%"),
        (
            "{wc: {log_level: warn}}",
            "2: worker wc: log_level should be info or debug, and is 'warn'",
        ),
        ("{wc: {writes: [srv]}}", "2: worker wc: writes: srv is not an absolute path"),
        ("{wc: {writes: [/srv/../etc]}}", "writes: /srv/../etc has . or .. in it: say the folder"),
        ("{wc: {writes: ['/srv/my files']}}", "/srv/my files has ' ' in it, which a unit file"),
        (
            "{wc: {writes: [/srv/up, /]}}",
            "writes: / holds /bin, which is the system's; expected a folder such as /var/lib/wc",
        ),
        ("{wc: {writes: [/etc]}}", "2: worker wc: writes: /etc is the system's; expected a folder"),
        ("{wc: {writes: [//usr//lib/]}}", "writes: //usr//lib/ is in /usr: the system's; expected"),
        ("{wc: {writes: [/var]}}", "writes: /var holds /var/lock, which is the system's; expected"),
        ("{wc: {writes: [/root]}}", "writes: /root is hidden from services; expected a folder"),
        ("{wc: {writes: [/home/ana/up]}}", "/home/ana/up is in /home: hidden from services; exp"),
        ("{wc: {writes: [/tmp]}}", "/tmp is private to each service, which may write there anyway"),
        ("{wc: {writes: [/opt]}}", "/opt holds /opt/gearman, which is the toolkit's own; expected"),
        (
            "{wc: {writes: [/opt/gearman/x]}}",
            "/opt/gearman/x is in /opt/gearman: the toolkit",
        ),
        ("{wc: {writes: [/var/lib/gearman-deploy]}}", "gearman-deploy is the toolkit's own; exp"),
        ("{a: {functions: resize}}", "functions should be a list of strings, and is 'resize'"),
        ("{a: {functions: []}}", "functions should be a list of strings, and is []"),
        ("{a: {command: [wc]}}", "2: worker a: what does it serve? Say functions: [NAME]"),
        ("{a: {memory: 1G}}", "Say functions: [NAME]; of your own with command:, program: or run:"),
        (
            "{a: {functions: [resise]}}",
            "unknown bundled function 'resise'; did you mean 'resize'? (one",
        ),
        (
            "{a: {functions: [thumb]}}",
            f"'thumb'; expected one of {', '.join(BUNDLED)} (one of your own has",
        ),
        (
            "{a: {command: [a], program: [b], functions: [c]}}",
            "2: worker a: it has both command and program; expected one of them",
        ),
        (
            "\n  a: {command: [a], functions: [c]}\n  b: {program: [a], functions: [d, c]}\n",
            "4: worker b: c is served by worker a of this host too (group_vars/all.yml:3)",
        ),
        (
            "{a: {command: [a], functions: [c], stop_signal: SIGQUIT}}",
            "stop_signal is for a worker with program:, and this one has command:",
        ),
        (
            "{a: {program: [a], functions: [c], stop_signal: SIGTREM}}",
            "SIGUSR1, SIGUSR2 or SIGWINCH, and is 'SIGTREM'; did you mean 'SIGTERM'?",
        ),
        ("{a: {program: [a], functions: [c], stop_signal: 15}}", "stop_signal should be SIGTERM, "),
        (
            "{a: {program: [a], functions: [c], processes: 2}}",
            "processes is for a worker with functions: or run:, and this one has program:",
        ),
        ("{a: {program: [a], functions: [c], timeout: 2}}", "a program has its own"),
        (
            "{a: {command: [./c, ./d], functions: [c]}}",
            "2: worker a: ./c is a file of an app: say which, app: NAME, or its whole path",
        ),
        ("{a: {command: [a], functions: ['a;b']}}", "'a;b' should be letters, digits, `_.:/+-`"),
        ("{wc: {check: {expect: x}}}", "2: worker wc: bundled functions have checks of their own"),
        (
            "{a: {command: [a], functions: [c], check: {function: d, expect: x}}}",
            "2: worker a: check asks for 'd', which it does not serve",
        ),
        (
            "{a: {command: [a], functions: [c], check: {workload: x}}}",
            "2: worker a: check has no expect: say the answer it should have",
        ),
        (
            "{a: {command: [a], functions: [c], check: {expected: x}}}",
            "2: worker a: unknown part of check 'expected'; did you mean 'expect'?",
        ),
        (
            "{a: {command: [a], functions: [c], check: {expect: 2}}}",
            "2: worker a: expect of check should be a string, and is 2",
        ),
        (
            "{wc: {app: shop}}",
            "2: worker wc: an app is for a worker with command:, program: or run:",
        ),
        (
            "{a: {app: shp, program: [a], functions: [c]}}\ngearman_apps: {shop: {source: x}}",
            "2: worker a: unknown app 'shp'; did you mean 'shop'?",
        ),
        (
            "{a: {app: shop, program: [a], functions: [c]}}\ngearman_apps: {shop: {build: [x]}}",
            "2: worker a: app shop has no source: say where its files are",
        ),
        (
            "{}\ngearman_apps: {shop: {source: 'https://me:pw@host/shop.git', ref: main}}",
            "app shop: the URL of its source has a password: leave it out",
        ),
        (
            "{}\ngearman_apps:\n  shop: {sources: x}",
            "4: app shop: unknown setting 'sources'; did you mean 'source'?",
        ),
        ("{a: {run: 'm:w'}}", "2: worker a: run is a worker of an app: say which, app: NAME"),
        ("{a: {run: shop.tasks}}", "run: 'shop.tasks' should be as shop.tasks:worker"),
        (
            "{a: {run: 'm:w', app: shop, stop_signal: SIGINT}}",
            "stop_signal is for a worker with program:, and this one has run:",
        ),
        (
            "{a: {run: 'm:w', app: shop, check: {expect: x}}}",
            "2: worker a: check does not name its function, and nor does functions:",
        ),
        (
            "{wc: {retries: 2}}",
            "retries is for a worker with command:, and this one has functions:",
        ),
        ("{wc: {cpu: 0%}}", "wc: cpu: '0%' should be a share of one CPU: 50%, 200%"),
        ("{wc: {packages: [PHP]}}", "wc: packages: 'PHP' should be a Debian package's name"),
        ("{wc: {environment: {A: }}}", "2: worker wc: A should be a string, and is nothing"),
        ("{wc: {environment: {A: [b]}}}", "2: worker wc: A should be a string, and is ['b']"),
        ("{wc: {environment: {1A: b}}}", "'1A' is not a variable name"),
        ("{wc: {environment: {GEARMAN_SERVERS: b}}}", "GEARMAN_SERVERS is set by the deploy"),
        (
            "{wc: {environment: {CREDENTIALS_DIRECTORY: /tmp}}}",
            "CREDENTIALS_DIRECTORY is set by the deploy or systemd itself",
        ),
        (
            f"{{{'n' * 101}: {{}}}}",
            f"2: worker {'n' * 20}...: a name has at most 100 characters, and this one 101",
        ),
        (
            "{a: {command: [cat], functions: [c], tls: true}}",
            "tls is for a worker with program:, and this one has command:",
        ),
        (
            "\n  wc:\n    cpu: 50%\n    memory: '{{ worker_siz }}'\nworker_size: 1G",
            (
                "5: worker wc: memory refers to worker_siz, and w1 has no such variable; did you "
                "mean 'worker_size'?"
            ),
        ),
        (
            "\n  wc:\n    secrets:\n      A: '{{ key }}'",
            "5: worker wc: secrets: A refers to key, and w1 has no such variable",
        ),
        ("\n  wc:\n  wc:\n", "4: 'wc' is repeated"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, said: str, message: str) -> None:
    told = complaint(tmp_path, group_vars__all=f"# ours\ngearman_workers: {said}")
    assert told.startswith("group_vars/all.yml:")
    assert message in told.removeprefix("group_vars/all.yml:")


def test_programs_that_speak_no_tls_are_all_told_and_the_rest_can_be_read(tmp_path: Path) -> None:
    two = "a: {program: [x], functions: [a]}, b: {program: [x], functions: [b]}"
    text = f"gearman_workers: {{{two}, c: {{program: [x], functions: [c], tls: true}}}}\n"
    load(tmp_path, group_vars__all=text)
    inventory.load(tmp_path).refuse_mistakes()
    load(tmp_path, group_vars__all=f"{text}gearman_tls: true\n")
    known = inventory.load(tmp_path)
    assert len(known.mistakes) == 2, "though both hosts have them"
    shown = list[str]()
    with pytest.raises(InventoryError) as raised:
        shown.extend(inventory_lines(tmp_path, Options()))
    told = [each.replace(f"{tmp_path}/", "") for each in str(raised.value).splitlines()]
    assert [each.partition(", and a program")[0] for each in told] == [
        f"group_vars/all.yml:1: worker {name}: gearman_tls is true" for name in "ab"
    ]
    assert shown[0].split() == ["worker", "w1,", "w2"]


def test_only_what_is_bundled_has_a_short_form(tmp_path: Path) -> None:
    assert complaint(tmp_path, group_vars__all="gearman_functions: [wc, revers]") == (
        "group_vars/all.yml:1: gearman_functions: unknown bundled function 'revers'; did you mean "
        "'reverse'? (one of your own has command:, program: or run:)"
    )


def test_a_check_may_be_in_files(tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "a.bin").write_bytes(b"\xff\0")
    text = "gearman_workers: {a: {command: [rev], functions: [a], check: CHECK}}"
    check = "{file: samples/a.bin, expect_file: samples/b.bin}"
    missing = complaint(tmp_path, group_vars__all=text.replace("CHECK", check))
    assert missing.endswith("1: worker a: expect_file of check: samples/b.bin is not a file")
    (tmp_path / "samples" / "b.bin").write_bytes(b"\0\xff")
    worker = load(tmp_path, group_vars__all=text.replace("CHECK", check))["w1"]["a"]
    sample = stated_sample(dict(worker.check))
    assert sample.workload() == b"\xff\0"
    assert sample.judge(b"\0\xff") is None
    assert sample.judge(b"") == r"expected b'\x00\xff', got b''"
    both = complaint(tmp_path, group_vars__all=text.replace("CHECK", "{expect: a, expect_file: b}"))
    assert both.endswith("worker a: check has expect and expect_file; expected one")


def test_the_workers_of_an_inventory_are_shown_line_by_line(tmp_path: Path) -> None:
    load(
        tmp_path,
        group_vars__all="gearman_workers:\n  lines:\n    command: [wc, -l]\n    functions: [ln]\n"
        "    check:\n      workload: a text that is longer than the others are and wide\n"
        "      expect: '1'\n  wc: {nice: 5}\n",
    )
    said = "\n".join(inventory_lines(tmp_path, Options()))
    assert (
        """
  gearman_workers                group_vars/all.yml:1
    lines                        group_vars/all.yml:2
      command      ["wc", "-l"]  group_vars/all.yml:3
      functions    ["ln"]        group_vars/all.yml:4
      check                      group_vars/all.yml:5
        workload   a text that is longer than the others are and wide  group_vars/all.yml:6
        expect     1             group_vars/all.yml:7
    wc             {"nice": 5}   group_vars/all.yml:8
"""
        in said + "\n"
    )


def test_a_worker_may_have_secrets_and_an_inventory_shows_none(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        group_vars__all="shop_key: canary-2\nportal_key: !vault |\n  which is never opened\n"
        "gearman_workers:\n  wc:\n    secrets:\n      A: canary-1\n      B: '{{ shop_key }}'\n"
        "      C: '{{ portal_key }}'\n      D: {env: HOME}\n",
        host_vars__w2="gearman_workers: {wc: {secrets: {A: {cmd: [echo, canary-3]}}}}",
    )
    secrets = dict(found["w1"]["wc"].secrets)
    assert list(secrets) == ["A", "B", "C", "D"]
    assert (secrets["A"].reveal(), secrets["B"].reveal()) == ("canary-1", "canary-2")
    assert secrets["D"].reveal().startswith("/")
    assert dict(found["w2"]["wc"].secrets)["A"].reveal() == "canary-3"
    assert not found["w1"]["wc"].is_plain
    for json in (True, False):
        said = "\n".join(inventory_lines(tmp_path, Options(json=json)))
        assert "<secret>" in said
        assert "canary" not in said
    assert "canary" not in repr(found)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("{'a b': x}", "2: worker wc: 'a b' is not a valid name of a secret; use letters, digits"),
        (
            "{A: 7}",
            "worker wc: secret A should be a string, and is something else; put it in quotes",
        ),
        ("{A: ''}", "2: worker wc: secret A is empty: give it a value, or take it out"),
        (
            "{A: {cmd: x}}",
            "secret A: a secret comes from {env: NAME} or {cmd: [PROGRAM, ARGUMENT]}",
        ),
        ("[A]", "2: worker wc: secrets should be `name: value` pairs, and is ['A']"),
        ("!vault x", "2: worker wc: secrets cannot be a secret: name each"),
    ],
)
def test_what_is_no_secret_of_a_worker_is_told(tmp_path: Path, said: str, message: str) -> None:
    text = f"gearman_workers:\n  wc: {{secrets: {said}}}\n"
    assert message in complaint(tmp_path, group_vars__all=text)


def test_a_worker_cannot_be_encrypted(tmp_path: Path) -> None:
    """It stands in a unit file, which any user of a host can read."""
    tagged = (
        "gearman_workers:\n  wc:\n    environment:\n      KEY: !vault |\n"
        "        $ANSIBLE_VAULT;1.1;AES256\n        00\n"
    )
    assert complaint(tmp_path, group_vars__all=tagged) == (
        "group_vars/all.yml:4: worker wc: KEY cannot be a secret: users of the host may read it "
        "there; put it into secrets"
    )


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("functions: [!vault x]", "functions cannot have a secret in it"),
        ("command: [rev, '{{ portal_key }}']", "command cannot have a secret in it"),
        ("check: {workload: !vault x, expect: a}", "workload of check cannot be a secret"),
        ("check: {expect: '{{ portal_key }}'}", "expect of check cannot be a secret"),
        ("memory: '{{ portal_key }}'", "memory cannot be a secret"),
    ],
)
def test_a_secret_is_refused_where_others_may_read_it(
    tmp_path: Path, setting: str, said: str
) -> None:
    settings = dict.fromkeys(["functions: [a]", "command: [rev]", setting])
    lines = "".join(
        f"    {each}\n" for each in settings if each == setting or each[:5] != setting[:5]
    )
    text = f"portal_key: !vault x\ngearman_workers:\n  a:\n{lines}"
    told = complaint(tmp_path, group_vars__all=text)
    assert said in told
    assert told.endswith(": users of the host may read it there; put it into secrets")
