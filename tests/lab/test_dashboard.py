"""invoke web: the dashboard of a fleet with TLS and a firewall, on the operator's machine."""

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from provision.commands.smoke import smoke
from provision.fleet import deploy
from provision.options import Options
from roles import ROLES
from tests.lab.hosts import INVENTORY
from tests.ports import reserve_port
from tests.waiting import await_true
from tests.web.site import Site

ROOT = Path(__file__).resolve().parents[2]
YES = Options(yes=True)


@pytest.fixture(scope="module")
def secured(lab: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("dashboard") / "lab"
    shutil.copytree(INVENTORY, folder)
    (folder / "group_vars").mkdir()
    (folder / "group_vars" / "all.yml").write_text("gearman_tls: true\ngearman_firewall: true\n")
    assert deploy.deploy(folder, ROLES, YES) == 0
    yield folder
    assert deploy.deploy(INVENTORY, ROLES, YES) == 0


def test_a_fleet_behind_a_firewall_is_seen_with_tls(secured: Path, tmp_path: Path) -> None:
    port, log = reserve_port(), tmp_path / "log"
    command = [sys.executable, "-u", "-m", "invoke", "--search-root", str(ROOT)]
    words = ["web", "--hosts", str(secured), "--port", str(port)]
    with log.open("w") as file:
        process = subprocess.Popen([*command, *words], cwd=ROOT, stdout=file, stderr=file)
    try:
        site = Site(f"http://127.0.0.1:{port}", process, log)
        await_true(lambda: "http://127.0.0.1" in log.read_text() or process.poll() is not None)
        await_true(lambda: answers(site))
        before = jobs_in(site)
        assert smoke(secured) == 0
        await_true(lambda: jobs_in(site) > before)
        page = site.page("/servers")
        assert "server1" in page.text
        assert re.search(r"TLS\s*yes", page.text)
        assert "Nothing is wrong" in site.page("/").text
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0, log.read_text()
    assert "Traceback" not in log.read_text()


def answers(site: Site) -> bool:
    """Whether the page is there, and the job server answers."""
    try:
        return "Answers" in site.page("/servers").text
    except OSError:
        return False


def jobs_in(site: Site) -> int:
    found = re.match(r"[\d,]+", site.page("/").notes["Jobs in"])
    assert found
    return int(found[0].replace(",", ""))
