"""Workers that an inventory names: deployed, asked, changed, and gone again when it names them no
more."""

import shutil
import threading
from pathlib import Path
from types import ModuleType

import pytest

from gearman_py import Client, JobFailed
from gearman_py.admin.client import AdminClient
from tests.lab.hosts import root
from tests.lab.test_upgrade import ROOT, SERVER, Ended, invoke

HERE = Path(__file__).parent
LAB = ROOT / "inventory" / "lab"
WORKERS = """
gearman_functions: [reverse]
gearman_workers:
  lines: {command: [wc, -l], functions: [lines], concurrency: 2, timeout: 5}
  resize: {processes: 2, memory: 300M, nice: 5, environment: {TINT: "a 'blue' $ 100%"}}
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
        shutil.copytree(LAB, folder)
        self.folder = folder
        self.says(WORKERS)

    def says(self, text: str) -> None:
        (self.folder / "group_vars").mkdir(exist_ok=True)
        (self.folder / "group_vars" / "worker.yml").write_text(text)

    def invoke(self, task: str, *arguments: str) -> Ended:
        return invoke(ROOT, task, *arguments, hosts=self.folder)

    def deploy(self) -> str:
        done = self.invoke("deploy", "--yes")
        assert done.status == 0, done.said
        again = self.invoke("plan")
        assert again.status == 0, again.said
        return done.said


@pytest.fixture(scope="module")
def operator(lab: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Operator:
    return Operator(tmp_path_factory.mktemp("own") / "inventory")


def test_workers_of_an_inventory_are_deployed_asked_and_removed(
    lab: ModuleType, operator: Operator
) -> None:
    assert invoke(ROOT, "deploy", "--yes").status == 0
    operator.deploy()
    with Client(SERVER, timeout=20) as client:
        assert client.do("lines", "a\nb\n").strip() == b"2"
        assert client.do("env", "") == b'a "b" $c %d\n'
        assert client.do("save", "kept") == b"kept"
    assert root(lab, "worker1", "cat /var/lib/saved/last") == "kept"
    smoke = operator.invoke("smoke")
    assert smoke.status == 0, smoke.said
    assert "save: worker save:2 of worker1 answers" in smoke.said
    assert "wc:" not in smoke.said
    doctor = operator.invoke("doctor")
    assert "gearman-worker@lines" in doctor.said
    assert "  fail" not in doctor.said
    shown = root(lab, "worker1", "systemctl show gearman-worker@resize -p MemoryMax,Nice")
    assert set(shown.split()) == {f"MemoryMax={300 * 2**20}", "Nice=5"}
    logs = operator.invoke("logs", "lines")
    assert "serving lines" in logs.said

    # A setting of one: only that one restarts.
    pids = running(lab)
    operator.says(WORKERS.replace("timeout: 5", "timeout: 1").replace("[wc, -l]", "[sleep, '9']"))
    said = operator.deploy()
    assert "restart gearman-worker@lines.service" in said
    now = running(lab)
    assert {name for name in now if now[name] != pids.get(name)} == {"gearman-worker@lines"}
    with Client(SERVER, timeout=20) as client, pytest.raises(JobFailed, match="longer than 1 s"):
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
    answers: list[bytes] = []
    with Client(SERVER, timeout=60) as client:
        assert client.do("shout", "hey") == b"HEY1"
        changing = threading.Thread(target=operator.deploy)
        operator.says(program.replace('"1"', '"2"'))
        changing.start()
        while changing.is_alive():
            answers += client.map("shout", ["a"] * 20)
        answers += client.map("shout", ["a"] * 20)
    assert set(answers) == {b"A1", b"A2"}
    assert answers[0] == b"A1"
    assert set(answers[-20:]) == {b"A2"}
    assert len(running(lab)) == 2

    # One that no job server comes to know does not take the place of the one that runs.
    before = running(lab)
    operator.says(program.replace("shout.py, shout]", "shout.py, whisper]"))
    failed = operator.invoke("deploy", "--yes")
    assert failed.status == 3, failed.said
    assert "came to know no worker of this host for shout" in failed.said
    operator.says(program.replace("shout.py, shout]", "nothing.py, shout]"))
    failed = operator.invoke("deploy", "--yes")
    assert failed.status == 3, failed.said
    assert "it does not stay up" in failed.said
    assert "can't open file" in failed.said
    assert set(before.values()) <= set(running(lab).values())
    done_ = invoke(ROOT, "deploy", "--yes")
    assert done_.status == 0, done_.said
    root(lab, "worker1", "rm /usr/local/lib/shout.py")


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
