"""The dashboard of a fleet with TLS and a firewall: on a host, and on the operator's machine."""

import json
import re
import shutil
import ssl
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
from tests.attacks import attack
from tests.lab.dashboards import answers, invoke_web
from tests.lab.hosts import INVENTORY, NETWORK, PASSWORD, SERVER, WORKER, root
from tests.waiting import await_true
from tests.web.site import Document, Site

ROOT = Path(__file__).resolve().parents[2]
YES = Options(yes=True)
OPERATOR, PAGE = f"{NETWORK}.1", f"https://{WORKER}:4780"
STEERING = f"https://{SERVER}:4780"  # beside the job server
ADMIN = "gearadmin -h unix:/run/gearmand/admin.sock"
LEFT = "ls /etc/systemd/system /var/lib; ls /etc/gearman/secrets || true; getent passwd; ss -tln"


@pytest.fixture(scope="module")
def secured(lab: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("dashboard") / "lab"
    shutil.copytree(INVENTORY, folder)
    (folder / "group_vars").mkdir()
    users = (DashboardUser("alice", "operate"), DashboardUser("bob", "read"))
    lines = [Account.new(user, PASSWORD).line for user in users]
    (folder / "group_vars" / "all.yml").write_text(
        "gearman_tls: true\ngearman_firewall: true\n"
        f"gearman_firewall_allow: [{OPERATOR}]\n"
        f"gearman_dashboard_users: {{cmd: [printf, '%s\\n', {', '.join(lines)}]}}\n"
    )
    hosts = (("worker1", WORKER), ("server1", SERVER))
    listening = ", ".join(f"{name}: {{gearman_dashboard_listen: {at}}}" for name, at in hosts)
    (folder / "page.yml").write_text(f"dashboard: {{hosts: {{{listening}}}}}\n")
    # The page needs a release that brings it: this tree's does.
    assert deploy.deploy(folder, ROLES, YES, release=deploy.TREE) == 0
    yield folder
    assert deploy.deploy(INVENTORY, ROLES, YES) == 0
    for host in ("worker1", "server1"):
        left = root(lab, host, LEFT)
        assert "gearman-web" not in left
        assert "gearman-deploys" not in left


def test_a_host_of_group_dashboard_serves_the_page_to_those_who_log_in(
    secured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert smoke(secured) == 0
    told = capsys.readouterr().out
    assert "metrics of server1" in told
    assert "dashboard of worker1" in told
    await_true(lambda: re.search(r"server1.*TLS</dt><dd>yes", log_in(secured), re.DOTALL))
    assert log_in(secured, "wrong") == ""


def test_deploys_are_written_down_for_each_dashboard(lab: ModuleType, secured: Path) -> None:
    for page in (PAGE, STEERING):
        told = Visitor(secured, page, "bob").visit("/deploys")
        assert "No host remembers" not in told
        assert all(host in told for host in ("client1", "server1", "worker1"))
        assert ">ok</td>" in told
    last = "tail -n 1 /var/lib/gearman-deploys/runs.jsonl"
    before = root(lab, "worker1", last)
    root(lab, "client1", "rm /usr/local/bin/gearman")
    assert deploy.deploy(secured, ROLES, Options(yes=True, limit="client1")) == 0
    told = json.loads(after := root(lab, "worker1", last))
    assert after != before
    assert (told["hosts"], told["changes"], told["result"]) == (["client1"], 1, "ok")
    assert after == root(lab, "server1", last)


def test_workers_are_told_apart_by_pool_and_release(lab: ModuleType, secured: Path) -> None:
    bob = Visitor(secured, PAGE, "bob")
    await_true(lambda: "reverse" in bob.visit("/workers?by=pool"))
    by_pool = Document(bob.said).row("reverse")
    release = root(lab, "worker1", "basename $(readlink /opt/gearman/current)").strip()
    assert (by_pool["Hosts"], by_pool["Releases"]) == (WORKER, release)
    by_release = Document(bob.visit("/workers?by=release")).row(release)
    assert "reverse" in by_release["Pools"]


def log_in(folder: Path, password: str = PASSWORD) -> str:
    """The page of servers for alice, with the certificate checked; "" if refused."""
    try:
        return Visitor(folder, PAGE, "alice", password).said
    except urllib.error.HTTPError as error:
        with error:
            assert error.code == 401
            return ""


class Visitor:
    """A user who logged in at a page; ``said`` is what it said last."""

    def __init__(self, folder: Path, page: str, name: str, password: str = PASSWORD) -> None:
        context = ssl.create_default_context(cafile=str(folder / "tls" / "ca.pem"))
        self._page = page
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=context),
            urllib.request.HTTPCookieProcessor(),
        )
        self.said = self.visit("/login", name=name, password=password, next="/servers")

    def visit(self, path: str, **fields: str) -> str:
        """Open a path, or send a form there. Raises HTTPError."""
        data = urllib.parse.urlencode(fields).encode() if fields else None
        with self._opener.open(f"{self._page}{path}", data, 30) as answer:
            self.said = str(answer.read().decode())
        return self.said

    def act(self, path: str, **fields: str) -> str:
        """Send a form, as the page that was opened last would."""
        found = re.search(r'name="form_token" value="(.*?)"', self.said)
        assert found
        return self.visit(path, form_token=found[1], **fields)


def test_who_operates_steers_by_the_admin_socket_beside_the_page(
    lab: ModuleType, secured: Path
) -> None:
    alice = Visitor(secured, STEERING, "alice")
    await_true(lambda: "reverse" in alice.visit("/functions"))
    assert "server1: <span>paused" in alice.act("/function/pause", function="reverse")
    told = root(lab, "server1", f"{ADMIN} --pauses")
    assert re.search(r"^reverse\t\d+\talice at this host$", told, re.MULTILINE)
    log = root(lab, "server1", "journalctl -u gearmand -u gearman-web --no-pager -o cat")
    assert re.search(r"INFO unix \(.*, id alice\): pause reverse$", log, re.MULTILINE)
    assert '"event": "pause", "user": "alice"' in log
    bob = Visitor(secured, STEERING, "bob")
    with pytest.raises(urllib.error.HTTPError) as refused:
        bob.act("/function/resume", function="reverse")
    with refused.value as answer:
        assert answer.code == 403
    elsewhere = Visitor(secured, PAGE, "alice")
    await_true(lambda: "reverse" in elsewhere.visit("/functions"))
    assert "only on its admin socket" in elsewhere.act("/function/resume", function="reverse")
    assert "server1: <span>resumed" in alice.act("/function/resume", function="reverse")
    assert not root(lab, "server1", f"{ADMIN} --pauses").removesuffix(".\n")


@attack(
    "local user",
    "steer by the admin socket that the dashboard uses, as its own account too",
    "held",
)
def test_neither_workers_nor_users_of_the_host_may_use_the_admin_socket(
    lab: ModuleType, secured: Path
) -> None:
    assert not root(lab, "server1", "id -nG gearman-web | grep -w gearmand || true")
    asked = f"{ADMIN} --pauses 2>&1 || true"
    for user in ("deploy", "nobody", "gearman-web"):  # the right is the unit's, not the account's
        assert "Permission denied" in root(lab, "server1", f"su {user} -s /bin/sh -c '{asked}'")


def test_a_fleet_behind_a_firewall_is_seen_with_tls(secured: Path, tmp_path: Path) -> None:
    with invoke_web(secured, tmp_path) as site:
        await_true(lambda: answers(site))
        before = jobs_in(site)
        assert smoke(secured) == 0
        await_true(lambda: jobs_in(site) > before)
        page = site.page("/servers")
        assert "server1" in page.text
        assert re.search(r"TLS\s*yes", page.text)
        assert "Nothing is wrong" in site.page("/").text
        deploys = site.page("/deploys")
        assert all(host in deploys.text for host in ("client1", "server1", "worker1"))
        assert not [*tmp_path.rglob("*.key")], "its own key is in no file"
        assert site.post("/function/pause", {"function": "reverse"}).status == 403
        assert site.get("/enter?key=").status == 404


@attack("local user", "use the page of `./invoke web --operate` without its key", "held")
def test_the_operator_steers_through_ssh_and_sudo(
    lab: ModuleType, secured: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "inventory"
    shutil.copytree(secured, folder)
    ghost = f"job_server: {{hosts: {{ghost: {{ansible_host: {NETWORK}.200}}}}}}\n"
    (folder / "ghost.yml").write_text(ghost)
    with invoke_web(folder, tmp_path, "--operate") as site:
        assert "it cannot be steered now: ghost" in site.log.read_text()
        for path in ("/", "/enter?key=guess"):
            assert site.get(path).status == 403
        found = re.search(r"http://127\.0\.0\.1:\d+(/enter\?key=\S+)", site.log.read_text())
        assert found
        assert site.get(found[1]).status == 303
        await_true(lambda: "reverse" in site.page("/functions").text)
        token = re.search(r'name="form_token" value="(.*?)"', site.page("/").html)
        assert token
        fields = {"function": "reverse", "form_token": token[1]}
        answer = site.post("/function/pause", fields)
        told = site.page(answer.headers["location"]).text
        assert "failed at 1 of 2 job servers" in told
        assert "server1: paused" in told
        told = root(lab, "server1", f"{ADMIN} --pauses")
        assert re.search(r"^reverse\t\d+\t\w+@\S+ at gearmand$", told, re.MULTILINE)
        assert site.post("/function/resume", fields).status == 303
        assert '"event": "resume"' in site.log.read_text()


def jobs_in(site: Site) -> int:
    found = re.match(r"[\d,]+", site.page("/").notes["Jobs in"])
    assert found
    return int(found[0].replace(",", ""))
