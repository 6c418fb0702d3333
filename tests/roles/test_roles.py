"""What each role makes of a bare host, as a text to review. To accept a change of it:

UPDATE_GOLDEN=1 .venv/bin/pytest tests/roles
"""

import importlib
import os
import re
from dataclasses import replace
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest

from gearman_py.broker import snapshot
from gearman_py.functions import BUNDLED
from gearman_py.server import reload_channel
from provision import plan
from provision.errors import InventoryError
from provision.fleet.app_share import share_of_app, without_app
from provision.fleet.waves import served_functions
from provision.inventory import load as inventory
from provision.inventory.host import Inventory
from provision.release.build import Artifact
from provision.resources.base import Resource
from provision.resources.health import Health, WorkerHealth
from provision.resources.program import Program, ProgramFile, ProgramHealth
from provision.resources.sample_jobs import PING, SAMPLES
from provision.resources.unit import UnitFile
from provision.resources.unit_text import with_servers_of
from roles import ROLES
from roles.job_server import STATE_FORMAT
from tests.provision.fake_host import FakeHost, directory

GOLDEN = Path(__file__).parent / "golden"
ARTIFACT = Artifact("0.1.0-0123456789ab", "0123456789ab", 13 * 2**20, Path("release.tar"))
HOSTS = """\
all:
  children:
    job_server:
      hosts:
        job: {ansible_host: 198.18.10.247}
    worker:
      hosts:
        worker: {ansible_host: 198.18.10.248}
    client:
      hosts:
        client: {ansible_host: 198.18.10.246}
    dashboard:
      hosts:
        page: {ansible_host: 198.18.10.249}
"""


def load(folder: Path, hosts: str = HOSTS) -> Inventory:
    (folder / "hosts.yml").write_text(hosts)
    return inventory.load(folder)


def resources(known: Inventory, name: str, artifact: Artifact = ARTIFACT) -> list[Resource]:
    host = next(host for host in known.hosts if host.name == name)
    groups = (roles for group, roles in ROLES.items() if group in host.groups)
    return [each for roles in groups for role in roles for each in role(host, known, artifact)]


def planned(host: FakeHost, wanted: list[Resource]) -> plan.Plan:
    return plan.make_plan(wanted, host.answer(plan.questions_of(wanted)))


@pytest.mark.parametrize("name", ["job", "worker", "client", "page"])
def test_a_bare_host_becomes_what_its_golden_plan_says(name: str, tmp_path: Path) -> None:
    wanted = resources(load(tmp_path), name)
    host = FakeHost()
    made = planned(host, wanted)
    text = "".join(
        f"{change.sign} {change.summary}  {change.reason}".rstrip()
        + f"\n{indent(change.diff, '    ')}"
        for change in made.changes
    )
    golden = GOLDEN / f"{name}.txt"
    if "UPDATE_GOLDEN" in os.environ:
        golden.write_text(text)
    assert text == golden.read_text()

    host.apply([change.operation for change in made.changes])
    assert planned(host, wanted).changes == ()


def test_one_host_may_be_of_every_kind(tmp_path: Path) -> None:
    groups = "{job_server: {hosts: {all1: }}, worker: {hosts: {all1: }}, client: {hosts: {all1: }}}"
    hosts = f"all: {{vars: {{gearman_listen: 10.0.0.1}}, children: {groups}}}"
    wanted = resources(load(tmp_path, hosts), "all1")
    host = FakeHost()
    host.apply([change.operation for change in planned(host, wanted).changes])
    assert planned(host, wanted).changes == ()
    assert len(host.processes) == 5
    users = {unit: process.get("user") for unit, process in host.processes.items()}
    assert users.pop("gearmand.service") == "gearmand"
    assert users.pop("gearmand.socket") is None
    assert set(users.values()) == {"gearman-worker"}


@pytest.mark.parametrize("secured", [False, True])
def test_a_host_where_all_ran_as_one_account_is_taken_over(tmp_path: Path, secured: bool) -> None:
    groups = "{job_server: {hosts: {all1: }}, worker: {hosts: {all1: }}}"
    own = f"gearman_listen: 10.0.0.1, gearman_tls: {str(secured).lower()}"
    wanted = resources(load(tmp_path, f"all: {{vars: {{{own}}}, children: {groups}}}"), "all1")
    host = FakeHost(groups={"root", "gearman"}, users={"root": {"group": "root"}})
    host.users["gearman"] = {"group": "gearman", "home": "/nonexistent", "groups": []}
    host.users["gearman"]["shell"] = "/usr/sbin/nologin"
    host.apply([change.operation for change in planned(host, wanted).changes])
    assert planned(host, wanted).changes == ()
    host.users["gearman-worker"]["groups"] = []
    told = [change.summary for change in planned(host, wanted).changes]
    assert told == (["user gearman-worker"] if secured else [])
    # As it was before.
    host.users["gearman"] = {**host.users["gearmand"], "group": "gearman", "groups": []}
    host.groups.add("gearman")
    for process in host.processes.values():
        process |= {"user": process.get("user") and "gearman", "config": "before"}
        process["reload_key"] = "before"
    changes = planned(host, wanted).changes
    told = [change.summary for change in changes]
    joins = ["user gearman-worker"] if secured else []  # before anything of what runs
    assert told[: len(joins) + 1] == [*joins, "restart gearmand.service"]
    assert told[-1] == ("user gearman" if secured else "user gearman and its group")
    host.apply([change.operation for change in changes])
    assert planned(host, wanted).changes == ()
    assert "gearman" not in host.users
    assert ("gearman" in host.groups) == secured, "the group reads the host's key"


def test_job_servers_of_other_reload_formats_are_restarted() -> None:
    assert f"{reload_channel.FORMAT}.{snapshot.FORMAT}" == STATE_FORMAT


@pytest.mark.parametrize("secured", [False, True])
def test_a_job_server_is_reloaded_with_tls_too(tmp_path: Path, secured: bool) -> None:
    own = f"gearman_listen: 10.0.0.1, gearman_tls: {str(secured).lower()}"
    groups = "{job_server: {hosts: {all1: }}}"
    wanted = resources(load(tmp_path, f"all: {{vars: {{{own}}}, children: {groups}}}"), "all1")
    host = FakeHost()
    host.apply([change.operation for change in planned(host, wanted).changes])
    host.processes["gearmand.service"]["config"] = "other"
    (change,) = planned(host, wanted).changes
    assert change.summary == "reload gearmand.service"


def test_a_job_server_is_restarted_for_another_ca(tmp_path: Path) -> None:
    """The one that was replaced may be so because it is known to others."""
    own = "gearman_listen: 10.0.0.1, gearman_tls: true"
    host = FakeHost()
    for name in ("one", "other"):  # each inventory has its own
        (tmp_path / name).mkdir()
        found = load(tmp_path / name, f"job_server: {{vars: {{{own}}}, hosts: {{all1: }}}}")
        changes = planned(host, resources(found, "all1")).changes
        host.apply([change.operation for change in changes])
    assert "restart gearmand.service" in [change.summary for change in changes]


def test_a_worker_serves_the_functions_its_inventory_names_and_no_other(tmp_path: Path) -> None:
    wanted = resources(load(tmp_path), "worker")
    host = FakeHost()
    host.apply([change.operation for change in planned(host, wanted).changes])
    hosts = HOSTS.replace("198.18.10.248", "198.18.10.248, gearman_functions: [wc]")
    fewer = resources(load(tmp_path, hosts), "worker")
    assert [(each.sign, each.summary) for each in planned(host, fewer).changes] == [
        ("-", "stop gearman-worker@resize.service"),
        ("-", "stop gearman-worker@reverse.service"),
    ]
    host.apply([change.operation for change in planned(host, fewer).changes])
    assert set(host.processes) == {"gearman-worker@wc.service"}
    assert planned(host, fewer).changes == ()


OWN = """, gearman_workers: {
          lines: {command: [wc, "-l $HOME 100%"], functions: [lines], concurrency: 3, timeout: 9,
            retries: 2},
          resize: {processes: 2, instances: 2, memory: 3G, cpu: 150%, nice: 5, jit: true,
            environment: {TINT: 'a "blue" one'}, writes: [/srv/pictures], stop_timeout: 10},
          wc: }"""


def test_a_bundled_function_without_a_sample_job_answers_a_ping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BUNDLED, "rot13", "codecs:encode")
    hosts = HOSTS.replace("198.18.10.248}", "198.18.10.248, gearman_functions: [rot13, wc]}")
    wanted = resources(load(tmp_path, hosts), "worker")
    health = {each.functions: each for each in wanted if isinstance(each, WorkerHealth)}
    assert health["rot13",].sample is PING
    assert health["wc",].sample is SAMPLES["wc"]
    files = {each.path: each.content for each in wanted if isinstance(each, UnitFile)}
    text = files["/etc/systemd/system/gearman-worker@rot13.service"].decode()
    assert f"--ping {health['rot13',].asked} rot13" in text


def test_a_worker_of_ones_own_is_a_unit_of_its_own(tmp_path: Path) -> None:
    hosts = HOSTS.replace("198.18.10.248", f"198.18.10.248{OWN}".replace("wc: }", "wc: {}}"))
    wanted = resources(load(tmp_path, hosts), "worker")
    host = FakeHost()
    host.paths["/srv"] = host.paths["/opt"]
    changes = planned(host, wanted).changes
    told = {
        each.summary.rpartition("/")[2]: each.reason
        for each in changes
        if "/system/" in each.summary
    }
    usual = "root:root 0644"
    opened = f"{usual}; may make memory executable (jit); may write to /srv/pictures (writes)"
    assert told["gearman-worker@lines.service"] == usual
    assert told["gearman-worker@resize:2.service"] == opened
    host.apply([change.operation for change in changes])
    assert planned(host, wanted).changes == ()
    assert set(host.processes) == {
        f"gearman-worker@{name}.service" for name in ("lines", "resize", "resize:2", "wc")
    }
    files = {each.path.rpartition("/")[2]: each for each in wanted if isinstance(each, UnitFile)}
    assert len(files) == 4, "wc has the one for all that are plain"
    lines = files["gearman-worker@lines.service"].content.decode()
    assert (
        "gearman-worker --address worker --ping ping@worker/lines --concurrency 3 --timeout 9 "
        "--retries 2 "
        'lines -- wc "-l $$HOME 100%%"\n'
    ) in lines
    assert "TasksMax=192\n" in lines
    assert "MemoryDenyWriteExecute=yes\n" in lines
    second = files["gearman-worker@resize:2.service"].content.decode()
    assert "--address worker:2 --ping ping@worker/resize:2 --processes 2" in second
    assert "MemoryDenyWriteExecute" not in second
    assert '\nEnvironment="TINT=a \\"blue\\" one"\n' in second
    for line in ("MemoryMax=3G", "CPUQuota=150%", "Nice=5", "ReadWritePaths=/srv/pictures"):
        assert f"\n{line}\n" in second
    assert "TimeoutStopSec=40\n" in second
    # What the inventory does not name any more leaves no file.
    fewer = resources(load(tmp_path, HOSTS), "worker")
    host.apply([change.operation for change in planned(host, fewer).changes])
    assert planned(host, fewer).changes == ()
    left = {path.rpartition("/")[2] for path in host.paths if "/system/gearman-worker@" in path}
    assert left == {"gearman-worker@.service"}


def test_workers_keep_metrics_in_one_folder(tmp_path: Path) -> None:
    own = "gearman_worker_metrics: /var/lib/prom/, gearman_functions: [wc], gearman_workers: "
    more = "{lines: {command: [wc], functions: [l]}, own: {program: [php], functions: [p]}}"
    hosts = HOSTS.replace("198.18.10.248", f"198.18.10.248, {own}{more}")
    wanted = resources(load(tmp_path, hosts), "worker")
    texts = {
        each.path.rpartition("@")[2]: each.content.decode()
        for each in wanted
        if isinstance(each, UnitFile)
    }
    program = next(text for name, text in texts.items() if name.startswith("own."))
    assert "prom" not in program
    assert " --metrics-file /var/lib/prom/%i.prom %i\n" in texts[".service"]
    assert " --metrics-file /var/lib/prom/lines.prom l -- wc\n" in texts["lines.service"]
    assert "\nReadWritePaths=/var/lib/prom\n" in texts[".service"]
    host = FakeHost()
    host.paths["/var"] = host.paths["/var/lib"] = directory()
    host.apply([change.operation for change in planned(host, wanted).changes])
    assert planned(host, wanted).changes == ()
    assert host.paths["/var/lib/prom"] == directory("gearman-worker", "gearman-worker", "0755")
    hosts = hosts.replace("/var/lib/prom/", "/etc")
    with pytest.raises(InventoryError, match="gearman_worker_metrics: /etc is"):
        load(tmp_path, hosts)


def test_a_folder_of_others_is_used_as_it_is(tmp_path: Path) -> None:
    """Whether `writes:` is said, has been said, or is said by two workers."""
    own = "{lines: {command: [wc], functions: [lines], writes: [/srv/up, /srv/own/]}"
    more = "{uploads: {command: [tee], functions: [up], writes: [//srv/up]}"
    hosts = HOSTS.replace("198.18.10.248", f"198.18.10.248, gearman_workers: {own}, {more[1:]}}}")
    wanted = resources(load(tmp_path, hosts), "worker")
    host = FakeHost()
    host.paths["/srv"] = directory()
    host.paths["/srv/up"] = theirs = directory("webapp", "www-data", "2775")
    problems = planned(host, wanted).problems
    assert [each.message.split(", and")[0] for each in problems] == [
        "writes: /srv/up is webapp:www-data 2775"
    ]
    host.paths["/srv/up"] = theirs = directory("webapp", "www-data", "2777")
    host.apply([change.operation for change in planned(host, wanted).changes])
    assert planned(host, wanted).changes == ()
    assert host.paths["/srv/up"] == theirs
    assert host.paths["/srv/own"] == directory("gearman-worker", "gearman-worker", "0750")

    without = resources(load(tmp_path), "worker")
    changes = planned(host, without).changes
    assert "/srv" not in "".join(change.summary for change in changes)
    host.apply([change.operation for change in changes])
    assert host.paths["/srv/up"] == theirs


PROGRAM = """, gearman_functions: [wc], gearman_workers: {
          shout: {program: [php, shout.php, "50% $x"], functions: [shout, yell], instances: 2,
            stop_signal: SIGINT, stop_timeout: 5, environment: {A: b}}}"""


def test_a_program_begins_beside_the_one_before(tmp_path: Path) -> None:
    hosts = HOSTS.replace("198.18.10.248", f"198.18.10.248{PROGRAM}")
    wanted = resources(load(tmp_path, hosts), "worker")
    host = FakeHost()
    host.apply([change.operation for change in planned(host, wanted).changes])
    assert planned(host, wanted).changes == ()
    one, two = (each for each in wanted if isinstance(each, Program))
    assert re.fullmatch(r"gearman-worker@shout\.[0-9a-f]{8}\.service", one.name)
    assert re.fullmatch(r"gearman-worker@shout:2\.[0-9a-f]{8}\.service", two.name)
    text = one.file.content.decode()
    assert '\nExecStart=php shout.php "50%% $$x"\n' in text
    for line in ("KillSignal=SIGINT", "TimeoutStopSec=5", "Restart=always", "Environment=A=b"):
        assert f"\n{line}\n" in text
    assert served_functions(wanted)["yell"] == {one.name, two.name}

    # With another setting they are other units, and those before stop when these are known.
    hosts = hosts.replace("A: b", "A: c")
    changed = resources(load(tmp_path, hosts), "worker")
    changes = planned(host, changed).changes
    verbs = [each.summary.split("@")[0] for each in changes if each.operation.kind != "file"]
    assert verbs == [
        *("daemon-reload", "start gearman-worker", "start gearman-worker"),
        *("stop gearman-worker", "stop gearman-worker"),
        *("file /etc/systemd/system/gearman-worker",) * 2,
        "daemon-reload",
    ]
    # The plan tells what changes, as of a unit file whose name stays.
    written = next(each for each in changes if each.operation.kind == "file")
    assert (written.sign, written.reason) == ("~", f"in place of {one.name}")
    changed_lines = [line for line in written.diff.splitlines() if line[0] in "+-"]
    assert changed_lines == [
        f"--- {one.file.path}",
        f"+++ {written.operation.arguments['path']}",
        "-Environment=A=b",
        "+Environment=A=c",
    ]
    removed = next(each for each in changes if each.operation.kind == "remove")
    assert (removed.sign, removed.reason) == ("-", "the new one takes its place")
    start = next(each.operation for each in changes if each.summary.startswith("start"))
    assert start.kind == "program"
    assert start.arguments["functions"] == ["shout", "yell"]
    assert start.arguments["servers"] == ["198.18.10.247:4730"]
    host.apply([change.operation for change in changes])
    assert planned(host, changed).changes == ()
    assert len(host.processes) == 3


APP = """, gearman_functions: [wc],
          gearman_apps: {legacy: {source: php}, unused: {source: elsewhere}},
          gearman_workers: {
            shout: {app: legacy, program: [php, ./shout.php], functions: [shout]},
            thumb: {app: legacy, command: [./thumb, -x], functions: [thumb]}}"""


def test_an_app_has_releases_of_its_own_and_goes_with_its_last_worker(tmp_path: Path) -> None:
    hosts = HOSTS.replace("198.18.10.248", f"198.18.10.248{APP}")

    def wanted(id: str) -> list[Resource]:
        known = load(tmp_path, hosts)
        app = Artifact(id, id, 1000, Path(id))
        with_app = replace(ARTIFACT, apps=(("legacy", app),))
        host = next(each for each in known.hosts if each.name == "worker")
        return [each for role in ROLES["worker"] for each in role(host, known, with_app)]

    host = FakeHost()
    first = planned(host, wanted("legacy-1"))
    host.apply([change.operation for change in first.changes])
    assert planned(host, wanted("legacy-1")).changes == ()
    root = "/opt/gearman/apps/legacy"
    assert host.paths[f"{root}/current"]["target"] == "releases/legacy-1"
    texts = {
        each.path.rpartition("@")[2]: each.content.decode()
        for each in wanted("legacy-1")
        if isinstance(each, UnitFile)
    }
    (program,) = (text for name, text in texts.items() if name.startswith("shout."))
    assert f"\nWorkingDirectory={root}/releases/legacy-1/app\n" in program
    assert f"\nExecStart=php {root}/releases/legacy-1/app/shout.php\n" in program
    assert f" thumb -- {root}/current/app/thumb -x\n" in texts["thumb.service"]
    order = [each.summary for each in first.changes]
    assert order.index(f"link {root}/current") < order.index("start gearman-worker@thumb.service")
    trial = next(each for each in wanted("legacy-1") if "thumb" in getattr(each, "unit", ""))
    assert isinstance(trial, WorkerHealth)
    assert f"{root}/releases/legacy-1/app/thumb" in trial.trial, "it is tried before the link"

    # A new release of it: the program changes hands, and nothing else is touched.
    changes = planned(host, wanted("legacy-2")).changes
    told = [each.summary for each in changes if each.operation.kind not in ("file", "remove")]
    assert [each.partition("@")[0] for each in told] == [
        "release legacy-2",
        "daemon-reload",
        "start gearman-worker",
        f"link {root}/current",
        "stop gearman-worker",
        "daemon-reload",
    ]
    host.apply([change.operation for change in changes])
    assert planned(host, wanted("legacy-2")).changes == ()

    # Without a worker it is removed.
    fewer = resources(load(tmp_path, HOSTS), "worker")
    changes = planned(host, fewer).changes
    assert ("-", "app legacy") in [(each.sign, each.summary) for each in changes]
    host.apply([change.operation for change in changes])
    assert planned(host, fewer).changes == ()
    assert not [path for path in host.paths if path.startswith(root)]


def test_packages_of_workers_and_apps_come_before_the_release_that_is_tried(
    tmp_path: Path,
) -> None:
    own = """, gearman_packages: [curl, php-cli],
          gearman_apps: {legacy: {source: php, packages: [php-cli]}},
          gearman_workers: {wc: {packages: [libvips42]},
            shout: {app: legacy, program: [php], functions: [shout], packages: [php-gearman]}}"""
    known = load(tmp_path, HOSTS.replace("198.18.10.248", f"198.18.10.248{own}"))
    host = FakeHost(packages={"curl"})
    with_app = replace(ARTIFACT, apps=(("legacy", Artifact("legacy-1", "1", 9, Path("a"))),))
    worker = next(each for each in known.hosts if each.name == "worker")
    wanted = [each for role in ROLES["worker"] for each in role(worker, known, with_app)]
    made = planned(host, wanted)
    (change,) = (each for each in made.changes if each.operation.kind == "packages")
    assert change.summary == "packages php-cli libvips42 php-gearman"
    assert made.changes.index(change) < made.staged
    host.apply([each.operation for each in made.changes])
    assert planned(host, wanted).changes == ()


def test_a_check_of_ones_own_is_the_job_before_and_after(tmp_path: Path) -> None:
    check = 'check: {workload: hey, expect: "HEY!"}'
    own = (
        f"a: {{command: [tr, x], functions: [loud], {check}}}, "
        f"b: {{program: [php], functions: [shout], {check}}}"
    )
    hosts = HOSTS.replace("198.18.10.248", f"198.18.10.248, gearman_workers: {{{own}}}")
    wanted = resources(load(tmp_path, hosts), "worker")
    command, program = (each for each in wanted if isinstance(each, WorkerHealth | ProgramHealth))
    (trial,) = command.staged_proofs()
    assert trial.operation.arguments["worker"][1:] == [
        *("--prefix", "trial@worker/", "loud", "--", "tr", "x"),
    ]
    (running,) = command.running_proofs()
    assert running.operation.arguments["command"][-2:] == ["-f", "loud@worker"]
    (trial,) = program.staged_proofs()
    told = trial.operation.arguments
    assert (told["program"], told["functions"]) == (["php"], ["shout"])
    assert told["command"][-2:] == ["-f", "shout"]
    assert "MemoryMax=1G" in told["properties"]
    (asked,) = program.running_proofs()
    assert asked.operation.arguments["command"][-2:] == ["-f", "shout"]
    for proof in (trial, running, asked):
        assert proof.operation.content == b"hey"
        assert proof.judge(b"HEY!") is None
        assert "expected b'HEY!', got b'HEY'" in str(proof.judge(b"HEY"))


def test_what_serves_a_function_on_a_host_is_known_by_all_of_its_units(tmp_path: Path) -> None:
    hosts = HOSTS.replace("198.18.10.248", f"198.18.10.248{OWN}".replace("wc: }", "wc: {}}"))
    assert served_functions(resources(load(tmp_path, hosts), "worker")) == {
        "lines": {"gearman-worker@lines.service"},
        "resize": {"gearman-worker@resize.service", "gearman-worker@resize:2.service"},
        "wc": {"gearman-worker@wc.service"},
    }
    # Its code alone knows the functions of a Python project's worker: that stands for them.
    shop = """, gearman_apps: {shop: {source: .}},
        gearman_workers: {shop: {app: shop, run: shop.tasks:worker, instances: 2}}"""
    known = load(tmp_path, HOSTS.replace("198.18.10.248", f"198.18.10.248{shop}"))
    host = next(each for each in known.hosts if each.name == "worker")
    with_app = replace(ARTIFACT, apps=(("shop", Artifact("shop-1", "1", 9, Path("a"))),))
    wanted = [one for role in ROLES["worker"] for one in role(host, known, with_app)]
    units = {"gearman-worker@shop.service", "gearman-worker@shop:2.service"}
    assert served_functions(wanted) == {"shop.tasks:worker": units}


@pytest.mark.parametrize("secured", [False, True])
def test_a_worker_on_trial_finds_the_job_servers_as_its_unit_does(
    tmp_path: Path, secured: bool
) -> None:
    """Code of a project may make a client when it is imported, which speaks TLS or not by these."""
    hosts = HOSTS.replace("198.18.10.248", f"198.18.10.248{OWN}".replace("wc: }", "wc: {}}"))
    hosts = f"{hosts}  vars: {{gearman_tls: {str(secured).lower()}}}\n"
    wanted = resources(load(tmp_path, hosts), "worker")
    texts = [each.content.decode() for each in wanted if isinstance(each, UnitFile)]
    pairs = re.findall(r"^Environment=(GEARMAN\S+=\S+)", "\n".join(texts), re.MULTILINE)
    of_unit = "GEARMAN_CONFIG", "GEARMAN_WORKER_LABELS"
    known = {pair for pair in pairs if not pair.startswith(of_unit)}
    tried = [each for each in wanted if isinstance(each, WorkerHealth) and each.trial]
    for health in tried:
        (trial,) = health.staged_proofs()
        environment = trial.operation.arguments["environment"]
        assert {f"{name}={environment[name]}" for name in environment} >= known
    assert tried
    assert any("PEM" in each for each in known) == secured


@pytest.mark.parametrize("secured", [False, True])
def test_a_program_on_trial_speaks_tls_where_job_servers_do(tmp_path: Path, secured: bool) -> None:
    own = "{b: {program: [php], functions: [shout], tls: true, check: {expect: X}}}"
    hosts = HOSTS.replace("198.18.10.248", f"198.18.10.248, gearman_workers: {own}")
    hosts = f"{hosts}  vars: {{gearman_tls: {str(secured).lower()}}}\n"
    wanted = resources(load(tmp_path, hosts), "worker")
    (file,) = (each for each in wanted if isinstance(each, ProgramFile))
    (program,) = (each for each in wanted if isinstance(each, ProgramHealth))
    (trial,) = program.staged_proofs()
    told = trial.operation.arguments
    of_unit = re.findall(r"^Environment=(\w+)=(\S+)$", file.content.decode(), re.MULTILINE)
    assert told["environment"] == {k: v for k, v in of_unit if k != "GEARMAN_SERVERS"}
    assert told["names"] == (["198.18.10.248", "worker"] if secured else [])
    files = ["--ssl-ca-file", "--ssl-certificate", "--ssl-key"] if secured else []
    options = ["--ssl", *files] if secured else []
    assert [each for each in told["server"] if each.startswith("-")] == options
    assert [each for each in told["command"] if each.startswith("--ssl")] == files


def test_a_unit_file_of_other_job_servers_is_rolled_back_to_as_it_would_be_written_now(
    tmp_path: Path,
) -> None:
    """Another order of its lines would be another configuration, for which a worker restarts."""

    def unit_files(job_servers: str, settings: str) -> dict[str, str]:
        hosts = HOSTS.replace("198.18.10.248}", f"198.18.10.248{OWN}}}")
        hosts = hosts.replace("job: {ansible_host: 198.18.10.247}", job_servers)
        known = load(tmp_path, f"{hosts}  vars: {{{settings}}}\n")
        wanted = [one for name in ("worker", "page") for one in resources(known, name)]
        return {each.path: each.content.decode() for each in wanted if isinstance(each, UnitFile)}

    before = unit_files("job: {ansible_host: 198.18.10.247}", "gearman_port: 4731")
    now = unit_files("other: {ansible_host: 10.0.0.1}", "gearman_tls: true")
    assert before.keys() == now.keys() > {"/etc/systemd/system/gearman-web.service"}
    for path in before:
        assert with_servers_of(before[path], now[path]) == now[path]
        assert with_servers_of(now[path], before[path]) == before[path]


def test_a_worker_whose_functions_its_code_alone_knows_is_told_the_others_when_it_is_tried(
    tmp_path: Path,
) -> None:
    shop = """, gearman_apps: {shop: {source: .}},
        gearman_workers: {
          shop: {app: shop, run: shop.tasks:worker}, more: {app: shop, run: shop.tasks:more},
          lines: {command: [wc, -l], functions: [lines], instances: 2},
          php: {program: [php], functions: [php], trial: false}, wc: {}}"""
    known = load(tmp_path, HOSTS.replace("198.18.10.248", f"198.18.10.248{shop}"))
    host = next(each for each in known.hosts if each.name == "worker")
    with_app = replace(ARTIFACT, apps=(("shop", Artifact("shop-1", "1", 9, Path("a"))),))
    wanted = [one for role in ROLES["worker"] for one in role(host, known, with_app)]
    found = {each.unit: each for each in wanted if isinstance(each, WorkerHealth)}
    (proof,) = found["gearman-worker@shop.service"].staged_proofs()
    assert proof.operation.arguments["others"] == {
        "worker": "shop",
        "prefix": "trial@worker/",
        "functions": {"lines": "lines", "php": "php", "wc": "wc"},
        "pings": {"ping@worker/more": "more"},
    }
    assert proof.operation.arguments["worker"][1:5] == [
        *("--prefix", "trial@worker/", "--ping", "trial@worker/ping@shop")
    ]
    (proof,) = found["gearman-worker@lines.service"].staged_proofs()
    assert proof.operation.arguments["others"] == {}
    # Upgrading the app alone tries its workers, and no other.
    alone = without_app(host, "shop")
    without = [one for role in ROLES["worker"] for one in role(alone, known, with_app)]
    share = share_of_app(host, "shop", wanted, without)
    assert {each.unit for each in share if isinstance(each, Health)} == {
        "gearman-worker@shop.service",
        "gearman-worker@more.service",
    }
    # The other way round: what the code of these two serves is asked when another one starts.
    checks = {each.unit: each.function_check for each in wanted if isinstance(each, Health)}
    told = {check.worker: check.proof.operation.arguments for check in checks.values() if check}
    assert told.keys() == {"lines", "php", "wc"}
    assert checks["gearman-worker@lines:2.service"] is None
    assert told["php"] == {
        "server": "198.18.10.247:4730",
        "worker": "php",
        "functions": ["php"],
        "pings": {"ping@worker/shop": "shop", "ping@worker/more": "more"},
    }


def test_a_host_that_is_no_worker_any_more_stops_its_workers(tmp_path: Path) -> None:
    groups = "client: {hosts: {all1: }}, job_server: {hosts: {job: {ansible_host: 10.0.0.1}}}"
    before = load(tmp_path, f"all: {{children: {{worker: {{hosts: {{all1: }}}}, {groups}}}}}")
    host = FakeHost()
    wanted = resources(before, "all1")
    host.apply([change.operation for change in planned(host, wanted).changes])
    assert len(host.processes) == 3
    wanted = resources(load(tmp_path, f"all: {{children: {{{groups}}}}}"), "all1")
    host.apply([change.operation for change in planned(host, wanted).changes])
    assert host.processes == {}
    assert planned(host, wanted).changes == ()


def test_workers_and_clients_know_every_job_server_by_address_and_port(tmp_path: Path) -> None:
    hosts = HOSTS.replace(
        "job: {ansible_host: 198.18.10.247}",
        "job: {ansible_host: 198.18.10.247, gearman_port: 4731}\n"
        "        spare: {ansible_host: '2001:db8::7'}",
    )
    known = load(tmp_path, hosts)
    for name in ("worker", "client"):
        assert "198.18.10.247:4731,[2001:db8::7]:4730" in str(resources(known, name))


def test_a_job_server_listens_at_an_address_of_either_kind_and_at_no_name(tmp_path: Path) -> None:
    hosts = HOSTS.replace("198.18.10.247", "job.example.com")
    with pytest.raises(InventoryError, match=r"hosts.yml:5: job is a job server, and 'job.example"):
        resources(load(tmp_path, hosts), "job")
    hosts = hosts.replace("job.example.com", "job.example.com, gearman_listen: '::'")
    socket = next(
        each
        for each in resources(load(tmp_path, hosts), "job")
        if isinstance(each, UnitFile) and each.path.endswith(".socket")
    )
    assert b"\nListenStream=[::]:4730\n" in socket.content
    assert "job.example.com:4730" in str(resources(load(tmp_path, hosts), "worker"))


def test_workers_without_a_job_server_are_refused(tmp_path: Path) -> None:
    hosts = "all: {children: {worker: {hosts: {worker: {ansible_host: 198.18.10.248}}}}}"
    with pytest.raises(InventoryError, match="no host is in group job_server"):
        resources(load(tmp_path, hosts), "worker")


def test_what_a_role_makes_of_a_host_is_worked_out_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left over is known by what all roles of the host make."""
    hosts = HOSTS.replace("        page: {ansible_host: 198.18.10.249}", "        worker:")
    known = load(tmp_path, hosts)  # the worker's host has the dashboard too
    role = importlib.import_module("roles.worker")
    make, made = role._worker, list[str]()

    def count(*told: Any) -> Any:
        made.append(told[3].name)
        return make(*told)

    monkeypatch.setattr(role, "_worker", count)
    for _ in range(2):
        resources(known, "worker")
        assert made == ["reverse", "resize", "wc"]
    resources(replace(known), "worker")
    assert len(made) == 6, "another inventory"
