"""Workers that an inventory names: deployed, asked, changed, and gone again when it names them no
more."""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from gearman_py import Client, JobFailed, Submit
from gearman_py.admin.client import AdminClient
from provision.resources.sample_jobs import make_picture
from tests.lab.hosts import INVENTORY, root
from tests.lab.job_load import under_load
from tests.lab.operator_commands import ROOT
from tests.lab.test_faults import HOST_FAILED, KILL_AGENT, UNREACHABLE
from tests.lab.test_login import Terminal
from tests.lab.test_upgrade import ROLLED_BACK, SERVER, Ended, begin, invoke, tree
from tests.waiting import await_true

HERE = Path(__file__).parent
WORKERS = """
gearman_functions: [reverse]
gearman_workers:
  lines: {command: [wc, -l], functions: [lines], concurrency: 2, timeout: 5,
    check: {workload: "a\\nb\\n", expect: "2\\n"}}
  resize: {processes: 2-4, memory: 300M, nice: 5, environment: {TINT: "a 'blue' $ 100%"}}
  env: {command: [printenv, GREETING], functions: [env], environment: {GREETING: "a \\"b\\" $c %d"}}
  save:
    command: [tee, /var/lib/saved/last]
    functions: [save]
    instances: 2
    writes: [/var/lib/saved]
"""


class Operator:
    """An inventory of the lab with workers of its own."""

    def __init__(self, folder: Path) -> None:
        shutil.copytree(INVENTORY, folder)
        self.folder = folder
        self.says(WORKERS)

    def says(self, text: str) -> None:
        self.text = text
        (self.folder / "group_vars").mkdir(exist_ok=True)
        (self.folder / "group_vars" / "worker.yml").write_text(text)

    def invoke(self, task: str, *arguments: str) -> Ended:
        return invoke(ROOT, task, *arguments, hosts=self.folder)

    def deploy(self, *more: str) -> str:
        done = self.invoke("deploy", "--yes", *more)
        assert done.status == 0, done.said
        return done.said


@pytest.fixture(scope="module")
def operator(lab: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Operator:
    return Operator(tmp_path_factory.mktemp("own") / "inventory")


def test_workers_of_an_inventory_are_deployed_asked_and_removed(
    lab: ModuleType, operator: Operator
) -> None:
    assert invoke(ROOT, "deploy", "--yes").status == 0
    operator.deploy()
    assert operator.invoke("plan").status == 0, "a second deploy would change nothing"
    with Client(SERVER, timeout=60) as client:
        assert client.do("lines", "a\nb\n").strip() == b"2"
        assert client.do("env", "") == b'a "b" $c %d\n'
        assert client.do("save", "kept") == b"kept"
    assert root(lab, "worker1", "cat /var/lib/saved/last") == "kept"
    smoke = operator.invoke("smoke")
    assert smoke.status == 0, smoke.said
    assert "save: worker save:2 of worker1 answers a ping" in smoke.said
    assert "lines: the check of worker lines" in smoke.said
    assert "wc:" not in smoke.said
    doctor = operator.invoke("doctor")
    assert "gearman-worker@lines" in doctor.said
    assert "  fail" not in doctor.said
    shown = root(lab, "worker1", "systemctl show gearman-worker@resize -p MemoryMax,Nice")
    assert set(shown.split()) == {f"MemoryMax={300 * 2**20}", "Nice=5"}
    picture = make_picture(3000, 4000)
    with Client(SERVER, timeout=60) as client, AdminClient(SERVER) as admin:

        def resizing() -> int:
            return sum(row.workers for row in admin.status() if row.name == "resize")

        assert resizing() == 2
        jobs = client.submit_many([Submit(function="resize", workload=picture)] * 200)
        await_true(lambda: resizing() == 4)
        assert all(job.result() for job in jobs)
    logs = operator.invoke("logs", "lines")
    assert "serving lines" in logs.said

    # A setting of one: only that one restarts.
    pids = running(lab)
    slow = WORKERS.replace("timeout: 5", "timeout: 1").replace("[wc, -l]", "[sleep, '9']")
    operator.says(re.sub(r",\s+check: \{.*?\}", "", slow))  # a trial would not let it pass
    said = operator.deploy()
    assert "restart gearman-worker@lines.service" in said
    now = running(lab)
    assert {name for name in now if now[name] != pids.get(name)} == {"gearman-worker@lines"}
    with Client(SERVER, timeout=60) as client, pytest.raises(JobFailed, match="longer than 1 s"):
        client.do("lines", "")

    # What is not named any more is stopped, and leaves no file.
    done = invoke(ROOT, "deploy", "--yes")
    assert done.status == 0, done.said
    assert "- stop gearman-worker@save:2.service" in done.said.replace("  ", " ")
    assert set(running(lab)) == {f"gearman-worker@{name}" for name in ("reverse", "resize", "wc")}
    files = root(lab, "worker1", "ls /etc/systemd/system")
    assert [each for each in files.split() if "gearman-worker" in each] == [
        "gearman-worker@.service"
    ]
    with AdminClient(SERVER) as admin:
        known = {name for row in admin.workers() for name in row.functions}
    assert not known & {"lines", "save", "env"}
    root(lab, "worker1", "rm -r /var/lib/saved")  # it is theirs, and would keep their account


UPLOADS = """
gearman_functions: []
gearman_workers:
  save: {command: [tee, /srv/up/last], functions: [save], writes: [/srv/up]}
"""


SILENT = """
gearman_functions: [reverse]
gearman_workers:
  silent: {program: [sleep, "600"], functions: [silent]}
"""
ON_TRIAL = """
systemctl list-units --all --no-legend 'gearman-trial*' | tr -d '*' | awk '{print $1}'
ls -d /run/gearman-trial* 2>/dev/null || true
"""


def test_what_a_trial_leaves_whose_agent_was_killed_goes_with_the_next_run(
    lab: ModuleType, operator: Operator
) -> None:
    def on_trial() -> set[str]:
        found = root(lab, "worker1", ON_TRIAL).split()
        return {re.sub(r"-[^-]*$", "", each.removeprefix("/run/")) for each in found}

    assert invoke(ROOT, "deploy", "--yes").status == 0
    operator.says(SILENT)
    with begin(ROOT, "deploy", "--yes", hosts=operator.folder) as process:
        await_true(lambda: on_trial() == {"gearman-trial", "gearman-trial-server"})
        root(lab, "worker1", KILL_AGENT)
        process.communicate()
    assert process.returncode in (HOST_FAILED, UNREACHABLE)
    assert on_trial() == {"gearman-trial", "gearman-trial-server"}, "nothing is left to sweep"
    operator.says(WORKERS)
    operator.deploy()
    assert on_trial() == set()


def test_a_folder_of_others_is_written_to_and_left_as_it_is(
    lab: ModuleType, operator: Operator
) -> None:
    folder = "www-data www-data 2775"
    root(lab, "worker1", "install -d -o www-data -g www-data -m 2775 /srv/up")
    operator.says(UPLOADS)
    accounts = operator.invoke("deploy", "--yes", "--tags", "user,group")
    assert accounts.status == 0, accounts.said
    plan = operator.invoke("plan")
    assert plan.status == 3, plan.said
    assert "writes: /srv/up is www-data:www-data 2775, and user gearman-worker cannot" in plan.said
    assert "the user is not there yet" not in plan.said

    root(lab, "worker1", "usermod -aG www-data gearman-worker")
    operator.deploy()
    with Client(SERVER, timeout=60) as client:
        assert client.do("save", "kept") == b"kept"
    assert root(lab, "worker1", "cat /srv/up/last") == "kept"
    said = operator.invoke("logs", "save").said
    assert "serving save" in said
    done = invoke(ROOT, "deploy", "--yes")
    assert done.status == 0, done.said
    assert "/srv/up" not in done.said
    assert root(lab, "worker1", "stat -c '%U %G %a' /srv/up").strip() == folder
    root(lab, "worker1", "rm -r /srv/up; gpasswd -d gearman-worker www-data")


def test_a_program_is_replaced_under_load_without_a_lost_job(
    lab: ModuleType, operator: Operator
) -> None:
    text = (HERE / "shout.py").read_text()
    root(lab, "worker1", f"cat >/usr/local/lib/shout.py <<'END'\n{text}\nEND")
    program = """
gearman_workers:
  shout: {program: [python3, /usr/local/lib/shout.py, shout], functions: [shout], instances: 2,
    environment: {MARK: "1"}}
"""
    operator.says(program)
    operator.deploy()
    with Client(SERVER, timeout=60) as client:
        assert client.do("shout", "hey") == b"HEY1"
    operator.says(program.replace('"1"', '"2"'))
    answers, _ = under_load("shout", "a", operator.deploy)
    assert set(answers) == {b"A1", b"A2"}
    assert answers[0] == b"A1"
    assert set(answers[-20:]) == {b"A2"}
    assert len(running(lab)) == 2

    # One that no job server comes to know does not take the place of the one that runs.
    before = running(lab)
    operator.says(program.replace("shout.py, shout]", "shout.py, whisper]"))
    failed = operator.invoke("deploy", "--yes")
    assert failed.status == ROLLED_BACK, failed.said
    assert "it serves whisper, and not shout" in failed.said
    unseen = program.replace("shout.py, shout]", "nothing.py, shout]")
    operator.says(unseen.replace("instances: 2", "trial: false"))
    failed = operator.invoke("deploy", "--yes")
    assert failed.status == ROLLED_BACK, failed.said
    assert "it does not stay up" in failed.said
    assert "can't open file" in failed.said
    assert set(before.values()) <= set(running(lab).values())
    done_ = invoke(ROOT, "deploy", "--yes")
    assert done_.status == 0, done_.said
    root(lab, "worker1", "rm /usr/local/lib/shout.py")


APP = """
gearman_functions: [wc]
gearman_apps:
  loud: {source: ../loud, build: [sh, -c, "echo '#!/bin/sh\\necho built' >made; chmod +x made"]}
gearman_workers:
  shout: {app: loud, program: [python3, ./shout.py, shout], functions: [shout], instances: 2}
  made: {app: loud, command: [./made], functions: [made], check: {expect: "built\\n"}}
"""


PLACED = """  placed: {app: loud, command: [./placed], functions: [placed],
    check: {expect: "right\\n"}, environment: {ONLY: anywhere}}
"""
WHERE_IT_RUNS = """#!/bin/sh
case $ONLY$(cat /proc/self/cgroup) in
  trial*gearman-worker@*) echo wrong ;;
  *) echo right ;;
esac
"""


def commit(folder: Path, mark: str, text: str = "") -> None:
    """A version of the app: its answers end with ``mark``."""
    folder.mkdir(exist_ok=True)
    program = (HERE / "shout.py").read_text().replace('"MARK", "!"', f'"MARK", "{mark}"')
    unlike_any = f"# {time.time_ns()}\n"  # an earlier run's release is kept on this machine
    (folder / "shout.py").write_text((text or program) + unlike_any)
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", mark)):
        subprocess.run(["git", "-C", folder, *words], check=True, capture_output=True)


def test_an_app_is_deployed_moves_under_load_and_leaves_nothing(
    lab: ModuleType, operator: Operator
) -> None:
    source = operator.folder.parent / "loud"
    commit(source, "1")
    operator.says(APP)
    said = operator.deploy()
    assert "building app loud" in said
    releases = root(lab, "worker1", "ls /opt/gearman/apps/loud/releases").split()
    assert len(releases) == 1
    with Client(SERVER, timeout=60) as client:
        assert client.do("shout", "hey") == b"HEY1"
        assert client.do("made", "") == b"built\n"
    smoke = operator.invoke("smoke")
    assert smoke.status == 0, smoke.said
    doctor = operator.invoke("doctor")
    assert doctor.status == 0, doctor.said

    commit(source, "2")
    (source / "notes.txt").write_text("not for hosts")
    kept = operator.deploy()
    assert re.search(
        r"loud-\w+ stays; `\./invoke upgrade --app loud --hosts \S+` brings its files", kept
    )
    answers, said = under_load("shout", "a", lambda: operator.deploy("--release", "tree"))
    assert set(answers) == {b"A1", b"A2"}
    assert set(answers[-20:]) == {b"A2"}
    assert "app loud: not tracked, and left out: notes.txt" in said
    assert "restart" not in said, "its workers of commands go on"

    # One that does not come up leaves what runs; mended, the next deploy goes on.
    commit(source, "3", "import nothing_like_it\n")
    failed = operator.invoke("deploy", "--yes", "--release", "tree")
    assert failed.status == ROLLED_BACK, failed.said
    assert "No module named 'nothing_like_it'" in failed.said
    with Client(SERVER, timeout=60) as client:
        assert client.do("shout", "a") == b"A2"
    commit(source, "4")
    operator.deploy("--release", "tree")
    with Client(SERVER, timeout=60) as client:
        assert client.do("shout", "a") == b"A4"

    done = invoke(ROOT, "deploy", "--yes")
    assert done.status == 0, done.said
    assert root(lab, "worker1", "ls -d /opt/gearman/apps || true") == ""
    assert set(running(lab)) == {f"gearman-worker@{name}" for name in ("reverse", "resize", "wc")}


def test_an_app_is_upgraded_and_rolled_back_alone_and_a_bad_one_by_itself(
    lab: ModuleType, operator: Operator
) -> None:
    source = operator.folder.parent / "loud2"
    source.mkdir()
    (source / "placed").write_text(WHERE_IT_RUNS)
    (source / "placed").chmod(0o755)
    commit(source, "1")
    operator.says(APP.replace("../loud", "../loud2"))
    operator.deploy()
    own = root(lab, "worker1", "readlink /opt/gearman/current")

    def roll(task: str) -> str:
        done = operator.invoke(task, "--app", "loud", "--yes")
        assert done.status == 0, done.said
        return done.said

    commit(source, "2")
    answers, said = under_load("shout", "a", lambda: roll("upgrade"))
    assert set(answers) == {b"A1", b"A2"}
    assert set(answers[-20:]) == {b"A2"}
    assert "restart" not in said
    answers, _ = under_load("shout", "a", lambda: roll("rollback"))
    assert set(answers) == {b"A1", b"A2"}
    assert set(answers[-20:]) == {b"A1"}
    kept = operator.invoke("releases").said
    assert re.search(r"loud-\w+ .*current on worker1", kept)
    assert re.search(r"loud-\w+ .*bad: rolled back by", kept)

    commit(source, "5", "raise SystemExit('not today')\n")
    bad = operator.invoke("upgrade", "--app", "loud", "--yes")
    assert bad.status == ROLLED_BACK, bad.said
    assert "shout, by a program beside: the worker ended with 1: not today" in bad.said

    # A wrong answer meets no other job. A right one counts, though the old program answers too.
    wrong = ", check: {workload: a, expect: A1}}"
    operator.says(operator.text.replace("instances: 2}", f"instances: 2{wrong}"))
    commit(source, "6")
    answers, said = under_load(
        "shout", "a", lambda: operator.invoke("upgrade", "--app", "loud", "--yes").said
    )
    assert set(answers) == {b"A1"}
    assert "shout, by a program beside: expected b'A1', got b'A6'" in said
    operator.says(operator.text.replace("expect: A1", "expect: A7") + PLACED)
    commit(source, "7")
    roll("upgrade")

    # Settings that work in the trial, and not in the unit: the unit that ran is put back.
    unit = "cat /etc/systemd/system/gearman-worker@placed.service"
    before = root(lab, "worker1", unit)
    operator.says(operator.text.replace("ONLY: anywhere", "ONLY: trial"))
    failed = operator.invoke("upgrade", "--app", "loud", "--gap", "--yes")
    assert failed.status == ROLLED_BACK, failed.said
    assert "expected b'right\\n', got b'wrong\\n'" in failed.said
    assert "rolled back, and every host runs what it ran before" in failed.said
    assert root(lab, "worker1", unit) == before
    with Client(SERVER, timeout=60) as client:
        assert client.do("placed", "") == b"right\n"
        assert client.do("shout", "a") == b"A7"
    roll("rollback")
    with Client(SERVER, timeout=60) as client:
        assert client.do("shout", "a") == b"A1"
    assert root(lab, "worker1", "readlink /opt/gearman/current") == own
    again = operator.invoke("upgrade", "--app", "loud", "--yes")
    assert again.status == 3, again.said
    assert "was given up" in again.said
    done = invoke(ROOT, "deploy", "--yes")
    assert done.status == 0, done.said


SMALL_APP = """
gearman_functions: [wc]
gearman_apps: {loud: {source: ../loud3}}
gearman_workers: {text: {app: loud, command: [./text], functions: [text]}}
"""


def test_two_operators_move_the_app_and_gearman_py_one_after_the_other(
    lab: ModuleType, operator: Operator, tmp_path: Path
) -> None:
    source = operator.folder.parent / "loud3"
    source.mkdir()
    program = source / "text"
    program.write_text("#!/bin/sh\necho 1\n")
    program.chmod(0o755)
    commit(source, "1")
    operator.says(SMALL_APP)
    operator.deploy()
    used = "readlink /opt/gearman/current /opt/gearman/apps/loud/current"
    before = root(lab, "worker1", used).split()
    program.write_text("#!/bin/sh\necho 2\n")
    commit(source, "2")
    own = ("upgrade", "--hosts", str(operator.folder), "--limit", "worker1", "--wait", "100")
    invoke_ = (sys.executable, "-m", "invoke", "--search-root", str(tree(tmp_path / "tree")))
    one = Terminal(*invoke_, *own)
    one.await_text("Upgrade? [y/N]", 60)
    of_app = ("--app", "loud", "--yes", "--json")  # which tells each step
    with begin(ROOT, "upgrade", *of_app, hosts=operator.folder) as other:
        assert other.stdout
        said = next((line for line in other.stdout if '"tried"' in line), "")
        one.type("y\n")
        one.await_text("waiting", 60)
        said += other.stdout.read()
    assert other.wait() == 0, said
    assert one.end(100) == 0, one.shown
    who = rf"worker1 is locked: \S+@\S+ since [\d:]+, invoke upgrade .*{' '.join(of_app)}, pid"
    assert re.search(who, " ".join(one.shown.split())), one.shown
    assert "planning again" in one.shown
    after = root(lab, "worker1", used).split()
    assert {*before}.isdisjoint(after)
    with Client(SERVER, timeout=60) as client:
        assert client.do("text", "") == b"2\n"
        assert client.do("wc", "a\n") == b"1\n"
    done = invoke(ROOT, "deploy", "--yes", "--release", "tree")
    assert done.status == 0, done.said


def running(lab: ModuleType) -> dict[str, str]:
    """Unit -> its main process."""
    units = root(lab, "worker1", "systemctl list-units --plain --no-legend 'gearman-worker@*'")
    names = [line.split()[0] for line in units.splitlines()]
    return {
        name.removesuffix(".service"): root(
            lab, "worker1", f"systemctl show -p MainPID --value '{name}'"
        ).strip()
        for name in names
    }
