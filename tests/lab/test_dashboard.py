"""The dashboard of a fleet with TLS and a firewall: on a host, and on the operator's machine."""

import re
import shutil
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from gearman_py.web.users import Account, DashboardUser
from provision.commands.smoke import smoke
from provision.fleet import deploy
from provision.options import Options
from roles import ROLES
from tests.lab.hosts import INVENTORY, NETWORK, PASSWORD, WORKER, root
from tests.ports import reserve_port
from tests.waiting import await_true
from tests.web.site import Site

ROOT = Path(__file__).resolve().parents[2]
YES = Options(yes=True)
OPERATOR, PAGE = f"{NETWORK}.1", f"https://{WORKER}:4780"
LEFT = "ls /etc/systemd/system /var/lib; ls /etc/gearman/secrets || true; getent passwd; ss -tln"


@pytest.fixture(scope="module")
def secured(lab: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("dashboard") / "lab"
    shutil.copytree(INVENTORY, folder)
    (folder / "group_vars").mkdir()
    account = Account.new(DashboardUser("alice", "operate"), PASSWORD)
    (folder / "group_vars" / "all.yml").write_text(
        "gearman_tls: true\ngearman_firewall: true\n"
        f"gearman_firewall_allow: [{OPERATOR}]\n"
        f"gearman_dashboard_listen: {WORKER}\n"
        f"gearman_dashboard_users: {{cmd: [echo, '{account.line}']}}\n"
    )
    (folder / "page.yml").write_text("dashboard: {hosts: {worker1: }}\n")
    # The page needs a release that brings it: this tree's does.
    assert deploy.deploy(folder, ROLES, YES, release=deploy.TREE) == 0
    yield folder
    assert deploy.deploy(INVENTORY, ROLES, YES) == 0
    assert "gearman-web" not in root(lab, "worker1", LEFT)


def test_a_host_of_group_dashboard_serves_the_page_to_those_who_log_in(
    secured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert smoke(secured) == 0
    told = capsys.readouterr().out
    assert "metrics of server1" in told
    assert "dashboard of worker1" in told
    await_true(lambda: re.search(r"server1.*TLS</dt><dd>yes", log_in(secured), re.DOTALL))
    assert log_in(secured, "wrong") == ""


def log_in(folder: Path, password: str = PASSWORD) -> str:
    """The page of servers for alice, with the certificate checked; "" if refused."""
    context = ssl.create_default_context(cafile=str(folder / "tls" / "ca.pem"))
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=context),
        urllib.request.HTTPCookieProcessor(),
    )
    fields = {"name": "alice", "password": password, "next": "/servers"}
    try:
        with opener.open(f"{PAGE}/login", urllib.parse.urlencode(fields).encode(), 30) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            assert error.code == 401
            return ""


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
