"""A Python project, examples/thumbnails, on real hosts that reach no registry: deployed from
nothing, moved under load, and back by itself when a release does not work."""

import json
import re
import shutil
import subprocess
import threading
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pytest

from gearman_py import Client, JobFailed
from provision.errors import HostFailed
from provision.resources.sample_jobs import make_picture
from tests.attacks import attack
from tests.lab.dashboards import invoke_web
from tests.lab.hosts import root
from tests.lab.job_load import under_load
from tests.lab.operator_commands import ROOT
from tests.lab.test_own_workers import Operator
from tests.lab.test_upgrade import ROLLED_BACK, SERVER, invoke
from tests.waiting import await_true

PAUSE = 0.25  # seconds between jobs that come meanwhile: each makes pictures
EXAMPLE = ROOT / "examples" / "thumbnails"
WORKERS = """
gearman_functions: [wc]
gearman_apps:
  thumbnails: {source: ../thumbnails}
gearman_workers:
  thumbnails:
    app: thumbnails
    run: thumbnails.worker:worker
    processes: 2
    memory: 256M
    check:
      function: page
      workload: '{"title": "a & b", "pictures": []}'
      expect: "<title>a &amp; b</title>\\n\\n"
"""
FUNCTION = '@worker.function("page", workload=True)\n'
PAGE = f"{FUNCTION}async def page("
HANG = f"""import time

{FUNCTION}def hang(request):  # in one of the processes
    time.sleep(3600)

{PAGE.replace('"page"', '"other"')}"""
# A file that every Python of the venv runs as it starts, whatever is run.
BROUGHT = """import os, builtins; builtins.user = os.getuid(); \
os.getuid() or open('/root/brought', 'a').write(f'{os.sys.argv}\\n')
"""
BRINGS = """
[tool.hatch.build.targets.wheel]
packages = ["src/thumbnails"]
[tool.hatch.build.targets.wheel.force-include]
"brought.pth" = "brought.pth"
"""
FORBIDDEN = "\nimport socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW)\n"
LEAK = "\nleak = [b'x' * (1 << 20) for _ in range(1 << 10)]\n"
PICTURE = make_picture(300, 150)
REQUEST = json.dumps({"title": "one", "pictures": [b64encode(PICTURE).decode()]})


class Project:
    """A copy of the example, in a repository of its own."""

    def __init__(self, folder: Path) -> None:
        shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        self.folder = folder
        self.module = folder / "src" / "thumbnails" / "worker.py"
        self.text = self.module.read_text()
        self._git("init", "-q")
        self.commit(self.text)

    def commit(self, text: str) -> None:
        """A version whose worker's module is ``text``."""
        self.module.write_text(text)
        self._git("add", ".")
        self._git("commit", "--allow-empty", "-qm", "a version")

    def _git(self, *arguments: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", "-C", self.folder, *who, *arguments], check=True)


@pytest.fixture(scope="module")
def operator(lab: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Operator:
    return Operator(tmp_path_factory.mktemp("python") / "inventory")


@pytest.fixture(scope="module")
def project(operator: Operator) -> Project:
    return Project(operator.folder.parent / "thumbnails")


@pytest.fixture(scope="module")
def deployed(operator: Operator, project: Project) -> Operator:
    """The example as it is runs."""
    operator.says(WORKERS)
    project.commit(project.text)
    operator.deploy()
    return operator


def test_it_is_deployed_asked_moved_under_load_and_rolled_back(
    lab: ModuleType, operator: Operator, project: Project, tmp_path: Path
) -> None:
    operator.says(WORKERS)
    operator.deploy()
    again = operator.invoke("deploy", "--yes")
    assert again.status == 0, again.said
    assert "nothing to change" in again.said
    with Client(SERVER, timeout=60) as client:
        assert client.do("page", REQUEST).count(b"<img") == 1
    smoke = operator.invoke("smoke")
    assert smoke.status == 0, smoke.said
    assert "page: the check of worker thumbnails" in smoke.said
    doctor = operator.invoke("doctor")
    assert doctor.status == 0, doctor.said
    first = current(lab)
    assert first.startswith("thumbnails-")
    with invoke_web(operator.folder, tmp_path) as site:
        await_true(lambda: "thumbnails" in site.page("/workers?by=app").text)
        worker = site.page("/workers?by=app").row("thumbnails")
    assert (worker["Pools"], worker["Releases"]) == ("thumbnails", first)
    pid = main_pid(lab)
    assert root(lab, "worker1", f"readlink /proc/{pid}/exe").strip()
    line = root(lab, "worker1", f"tr '\\0' ' ' </proc/{pid}/cmdline")
    assert line.startswith(f"/opt/gearman/apps/thumbnails/releases/{first}/venv/bin/")
    own = root(lab, "worker1", "readlink /opt/gearman/current")

    project.commit(project.text.replace("<img src", "<img class=small src"))
    before = jobs_done(lab)
    answers, said = ask_under_load(lambda: roll(operator, "upgrade"))
    assert jobs_done(lab) - before == 2 * len(answers) + 1, "pages and pictures, once; a check"
    classes = {b"class=small" in answer for answer in answers}
    assert classes == {False, True}, said
    assert all(b"class=small" in answer for answer in answers[-5:])
    assert "reload gearman-worker@thumbnails" in said
    assert "restart" not in said
    second = current(lab)
    assert second != first
    assert root(lab, "worker1", "readlink /opt/gearman/current") == own

    answers, _ = ask_under_load(lambda: roll(operator, "rollback"))
    assert {b"class=small" in answer for answer in answers} == {False, True}
    assert current(lab) == first
    kept = operator.invoke("releases").said
    assert re.search(rf"{second} .*bad: rolled back by", kept)
    project.commit(project.text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text + "\nraise RuntimeError('no table named orders')\n",
            "no table named orders",
        ),
        (lambda text: text.replace(PAGE, HANG), " in hang"),
        (lambda text: text.replace("<title>", "<h1>"), "got b'<h1>"),
        (lambda text: text.replace('"page"', '"sheet"'), "serves sheet, thumbnail, not page"),
        (lambda text: "import not_in_the_lock\n" + text, "No module named 'not_in_the_lock'"),
        (lambda text: text + "\nworker = Worker()\n", "a worker needs at least one function"),
        (lambda text: text + FORBIDDEN, "Address family not supported by protocol"),
        (lambda text: text + LEAK, "limit of memory (MemoryMax=256M)"),
    ],
    ids=[
        "crashes",
        "hangs",
        "fails its check",
        "serves another function",
        "lacks a module",
        "serves nothing",
        "is denied",
        "leaks",
    ],
)
def test_a_release_that_does_not_work_is_found_before_jobs_meet_it(
    lab: ModuleType,
    deployed: Operator,
    project: Project,
    change: Callable[[str], str],
    message: str,
) -> None:
    before, pid = current(lab), main_pid(lab)
    project.commit(change(project.text))
    answers, _ = ask_under_load(lambda: bad(deployed, message))
    assert all(answer.startswith(b"<title>") for answer in answers)
    assert (current(lab), main_pid(lab)) == (before, pid), "what runs was not touched"


@pytest.mark.parametrize(
    ("workers", "message"),
    [
        (
            WORKERS.replace("thumbnails.worker:", "thumbnails.workerr:"),
            "no module 'thumbnails.workerr' found",
        ),
        (
            f"{WORKERS}  copy: {{app: thumbnails, run: thumbnails.worker:worker}}\n",
            "page is served by worker thumbnails of this host too",
        ),
        (
            f"{WORKERS}  copy: {{command: [cat], functions: [page]}}\n",
            "page is served by worker thumbnails of this host too",
        ),
    ],
    ids=["a typing error", "a function twice", "by a command and by code"],
)
def test_a_mistake_in_the_inventory_is_found_before_jobs_meet_it(
    lab: ModuleType, deployed: Operator, workers: str, message: str
) -> None:
    pid = main_pid(lab)
    deployed.says(workers)
    done = deployed.invoke("deploy", "--yes")
    deployed.says(WORKERS)
    assert done.status == ROLLED_BACK, done.said
    assert message in done.said, done.said
    assert "given up, before any worker was touched" in done.said
    assert main_pid(lab) == pid
    again = deployed.invoke("deploy", "--yes")
    assert again.status == 0, again.said
    assert main_pid(lab) == pid


def test_a_release_that_leaks_as_jobs_come_is_rolled_back(
    lab: ModuleType, deployed: Operator, project: Project
) -> None:
    """Its check alone does not show it. Nothing here is about the jobs that it lost meanwhile."""
    before = current(lab)
    taken = "\nleak = []\n" + project.text.replace(
        "    with Image.open", "    leak.append(b'x' * (64 << 20))\n    with Image.open"
    )
    project.commit(taken)
    over = threading.Event()

    def submit() -> None:
        with Client(SERVER, timeout=60) as client:
            while not over.is_set():
                with suppress(JobFailed):
                    client.do("thumbnail", PICTURE)

    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(submit)
        try:
            said = bad(deployed, "needs more memory: a process of it was killed at its limit")
        finally:
            over.set()
        loading.result()
    assert "rolled back" in said
    assert current(lab) == before
    again = deployed.invoke("upgrade", "--app", "thumbnails", "--yes")
    assert again.status == 3, again.said
    assert "was given up" in again.said


@attack("code of an app", "a `.pth` in its venv, to be run by root on a real host", "mended")
def test_what_an_app_brings_runs_as_the_workers_user_alone(
    lab: ModuleType, deployed: Operator, project: Project
) -> None:
    before = current(lab)
    settings = project.folder / "pyproject.toml"
    text = settings.read_text()
    (project.folder / "brought.pth").write_text(BROUGHT)
    settings.write_text(text + BRINGS)
    try:
        project.commit(f"{project.text}\nprint('run by', user, flush=True)\n")
        roll(deployed, "upgrade")
        assert current(lab) != before
        project.commit(project.text.replace("<title>", "<h1>"))
        bad(deployed, "got b'<h1>")
        for task in ("status", "doctor", "smoke", "deploy"):
            done = deployed.invoke(task, *(["--yes"] if task == "deploy" else []))
            assert done.status == 0, done.said
    finally:
        settings.write_text(text)
        (project.folder / "brought.pth").unlink()
        project.commit(project.text)
    said = "\n".join(lab.journal("worker1", "--unit=gearman-worker@thumbnails"))
    assert f"run by {root(lab, 'worker1', 'id -u gearman-worker').strip()}" in said
    assert root(lab, "worker1", "cat /root/brought || true") == ""


def test_it_leaves_nothing_when_the_inventory_does_not_name_it(
    lab: ModuleType, operator: Operator
) -> None:
    done = invoke(ROOT, "deploy", "--yes")
    assert done.status == 0, done.said
    assert root(lab, "worker1", "ls -d /opt/gearman/apps || true") == ""


def roll(operator: Operator, task: str) -> str:
    done = operator.invoke(task, "--app", "thumbnails", "--yes")
    assert done.status == 0, done.said
    return done.said


def bad(operator: Operator, message: str) -> str:
    with pytest.MonkeyPatch.context() as patch:
        # pip takes 0 as "no isolation": a project is built in isolation by the first test.
        patch.setenv("PIP_NO_BUILD_ISOLATION", "0")
        done = operator.invoke("upgrade", "--app", "thumbnails", "--yes")
    # Which functions there are the inventory may be wrong about.
    status = HostFailed.status if ", not page" in message else ROLLED_BACK
    assert done.status == status, done.said
    assert message in done.said, done.said
    return done.said


def current(lab: ModuleType) -> str:
    path = root(lab, "worker1", "readlink /opt/gearman/apps/thumbnails/current")
    return path.strip().rpartition("/")[2]


def jobs_done(lab: ModuleType) -> int:
    """How many jobs its processes have done, by what each says as it leaves."""
    root(lab, "worker1", "systemctl restart gearman-worker@thumbnails")
    said = "\n".join(lab.journal("worker1", "--unit=gearman-worker@thumbnails"))
    return sum(map(int, re.findall(r"drained after (\d+) jobs?", said)))


def main_pid(lab: ModuleType) -> str:
    show = "systemctl show -p MainPID --value gearman-worker@thumbnails"
    return root(lab, "worker1", show).strip()


def ask_under_load(change: Callable[[], str]) -> tuple[list[bytes], str]:
    return under_load("page", REQUEST, change, pause=PAUSE)
