"""What each resource says must change, given what is found on the host."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provision.inventory.queue import Queue
from provision.release.build import Artifact
from provision.resources.account import FormerAccount, FormerGroup, Group, UnneededAccount, User
from provision.resources.base import Change, Problem, Resource
from provision.resources.files import Directory, File, Link
from provision.resources.former_files import FormerFiles
from provision.resources.former_units import WHY, FormerServer, FormerUnits
from provision.resources.packages import Packages
from provision.resources.release import OldReleases, Release
from provision.resources.requirement import Clock, FreePort, Interpreter, OwnAddress, Systemd
from provision.resources.unit import FOLDER, Socket, Unit, UnitFile, unit_file
from provision.resources.writable_folder import WritableFolder

MOTD = File("/etc/motd", mode="0644", content=b"welcome\n")
LINK = Link("/opt/app/current", "releases/2")
FILE = UnitFile("/etc/systemd/system/app.service", content=b"...", config="c2")
UNIT = Unit("app.service", FILE, LINK)
SOCKET = Socket("app.socket", FILE, "app.service", "10.0.0.7", 4730)
GONE = FormerUnits("app@*.service", ("app@1.service",), ("app@.service",))
TEMPLATE = UnitFile("/etc/systemd/system/app@.service", content=b"...", config="c2")
ONE = Unit("app@1.service", TEMPLATE, LINK)
MASK = "/etc/systemd/system/app@1.service"
DROP_IN = "/etc/systemd/system/app.service.d/local.conf"
MIB = 2**20
RELEASE = Release("/opt/app", Artifact("1-abc", "abc", 10 * MIB, Path("1-abc.tar")))
ROOM = {"free": 100 * MIB, "inodes": 10**5, "readonly": False}
FREE = FreePort("10.0.0.7", 4730, "gearmand.service", "gearman_port")
NGINX = {"pid": 812, "command": "nginx", "unit": "nginx.service"}
OWN = OwnAddress("10.0.0.7", "ansible_host (hosts.yml:3)")
NOT_OWN = (
    "! it does not have the address 10.0.0.7 of ansible_host (hosts.yml:3); it has 10.0.0.8: say "
    "gearman_listen, one of them, or 0.0.0.0 for all"
)
WHO = "nginx (pid 812, nginx.service)"
READ_ONLY = "on a file system that is read-only: look at its mount and at the disk (findmnt, dmesg)"
SET = "set the one that is wrong (timedatectl set-ntp true)"
NONE: dict[str, Any] = {"kept": {}, "damaged": {}}
OS = {"PRETTY_NAME": "Debian 10"}
BY_HAND = "only apt, dnf and zypper are known here, and this is Arch Linux"
LEAVE_OUT = "and set `gearman_packages: []` for this host"
ARCH = {"ID": "arch", "PRETTY_NAME": "Arch Linux"}
FEDORA = {"ID": "fedora", "PRETTY_NAME": "Fedora Linux 42"}


FORMER = FormerAccount("old", ("app@1.service",))
HANDING_OVER = FormerAccount("old", ("app@1.service",), handed_over=("/var/lib/app",))
BEFORE = {"group": "old", "home": "/nonexistent", "shell": "/usr/sbin/nologin"}
OURS = BEFORE | {"comment": "gearman_py"}
RUNS = {"pid": 7, "command": "app", "unit": "app@1.service"}
UNUSED = " (nothing runs as it any more)"


MARKED = UnneededAccount("old", (), pattern="app@*")
NO_SERVER = FormerServer("app.*", (), (), "/var/lib/app", "/run/admin.sock")
STRANDED = (
    "! its job server holds 3 jobs (wc 3), which would be stranded: add another to group "
    "job_server, which takes them, or keep it there until workers have done them "
    "(`./invoke status` shows them)"
)
TO_OTHERS = replace(NO_SERVER, servers=("a:4730", "b:4730"), command=("gearadmin", "--retire"))
FILES = FormerFiles(("/etc/app/*", "/bin/app"), frozenset({"/etc/app/a.conf"}))
UPLOADS = WritableFolder("/srv/up", "app", "app", "0750")
NO_PARENT = "for /srv is missing: make that first, or name it in writes: too"
LET_IT_WRITE = (
    "user app cannot write there: let it (setfacl -m u:app:rwx /srv/up), or name another folder"
)
NOT_YET = "; the user is not there yet: `./invoke deploy --tags user,group` makes it"
GROUP = FormerGroup("readers", ("app",), ("/etc/key",))


def traces(**found: list[Any]) -> dict[str, list[Any]]:
    return {"processes": [], "units": [], "files": [], "group": []} | found


def found_at(kind: str, **more: Any) -> dict[str, Any]:
    base = {"owner": "root", "group": "root", "mode": "0755", "acl": False}
    base |= {"digest": None, "content": None}
    return base | {"kind": kind, "target": None} | more


OK = found_at("file", digest=FILE._path_question[2], mode="0644")


def present(
    *,
    file: bool = True,
    enabled: bool = True,
    active: bool = True,
    ours: bool = True,
    failed: bool = False,
) -> dict[str, bool]:
    found = {"file": file, "ours": ours, "enabled": enabled, "active": active}
    return found | {"failed": failed}


def unit(active: str = "active", **more: Any) -> dict[str, Any]:
    running = {"enabled": "enabled", "stale": False, "result": "success", "config": "c2"}
    running |= {"program": "/opt/app/releases/2/venv/bin/python", "outdated": None}
    return running | {"active": active} | more


def kept(ids: str, bad: str = "", **more: Any) -> dict[str, Any]:
    """Whole releases, the oldest first."""
    found = enumerate(ids.split())
    return {"kept": {id: {"at": n, "bad": "why" if id == bad else None} for n, id in found}} | more


CASES: list[tuple[Resource, list[Any], list[str]]] = [
    (Group("app"), [None], ["+ group app"]),
    (Group("app"), [{"gid": 990}], []),
    (User("app", "app"), [None], ["+ user app (group app, /usr/sbin/nologin)"]),
    (
        User("app", "app", groups=("keys",)),
        [{"group": "app", "home": "/nonexistent", "shell": "/usr/sbin/nologin", "groups": []}],
        ["~ user app (also of group keys)"],
    ),
    (FORMER, [None, None], []),
    (FORMER, [BEFORE, traces(processes=[RUNS])], ["- user old and its group" + UNUSED]),
    (
        FORMER,
        [BEFORE, traces(units=[f"{FOLDER}/app@.service"])],
        ["- user old and its group" + UNUSED],
    ),
    (FORMER, [BEFORE, traces(group=["ana"])], ["- user old" + UNUSED]),
    (FORMER, [BEFORE, traces(group=[f"{FOLDER}/mine.service"])], ["- user old" + UNUSED]),
    (
        FORMER,
        [BEFORE, traces(group=[f"{FOLDER}/app@.service"])],
        ["- user old and its group" + UNUSED],
    ),
    (FORMER, [BEFORE | {"group": "nogroup"}, traces(group=["/x"])], ["- user old" + UNUSED]),
    (FORMER, [BEFORE, traces(processes=[RUNS | {"unit": "mine.service"}])], []),
    (FORMER, [BEFORE, traces(processes=[RUNS | {"unit": None}])], []),
    (FORMER, [BEFORE, traces(units=[f"{FOLDER}/mine.service"])], []),
    (FORMER, [BEFORE, traces(files=["/opt/app/x"])], []),
    (HANDING_OVER, [BEFORE, traces(files=["/var/lib/app/x", "/var/lib/apples/x"])], []),
    (
        HANDING_OVER,
        [BEFORE, traces(files=["/var/lib/app/x", "/var/lib/app"], group=["/var/lib/app/x"])],
        ["- user old and its group" + UNUSED],
    ),
    (FORMER, [BEFORE | {"home": "/home/old"}, traces()], []),
    (MARKED, [BEFORE | {"comment": ""}, traces(), {}], []),
    (
        MARKED,
        [OURS, traces(processes=[RUNS]), {"app@1.service": present(ours=False)}],
        [],
    ),
    (
        MARKED,
        [OURS, traces(processes=[RUNS]), {"app@1.service": present()}],
        ["- user old and its group" + UNUSED],
    ),
    (
        User("app", "app"),
        [{"uid": 990, "group": "app", "home": "/nonexistent", "shell": "/bin/sh", "groups": []}],
        ["~ user app (shell /bin/sh -> /usr/sbin/nologin)"],
    ),
    (Packages(("curl", "jq")), [{"os": {"ID": "debian"}}, "7.88", None], ["+ packages jq"]),
    (Packages(("curl",)), [{"os": {"ID": "debian"}}, "7.88"], []),
    (
        Packages(("jq",)),
        [{"os": {"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}}, None],
        ["+ packages jq"],
    ),
    (
        Packages(("curl", "jq")),
        [{"os": FEDORA}, "8.11", None],
        ["+ packages jq"],
    ),
    (
        Packages(("curl", "jq")),
        [{"os": ARCH}, None, None],
        [f"! packages curl jq: {BY_HAND}: `pacman -S curl jq` there by hand, {LEAVE_OUT}"],
    ),
    (Directory("/opt/app"), [None], ["+ directory /opt/app (root:root 0755)"]),
    (Directory("/opt/app"), [found_at("directory")], []),
    (
        Directory("/opt/app", owner="app"),
        [found_at("directory", mode="0700")],
        ["~ directory /opt/app (owner root -> app, mode 0700 -> 0755)"],
    ),
    (
        Directory("/opt/app"),
        [found_at("file")],
        ["! /opt/app should be a directory and is a file: look at it, and move it away"],
    ),
    (UPLOADS, [None, None, OURS, found_at("directory")], ["+ directory /srv/up (app:app 0750)"]),
    (
        UPLOADS,
        [None, None, OURS, None],
        [f"! writes: /srv/up cannot be made, {NO_PARENT}"],
    ),
    (
        replace(UPLOADS, around=("/srv",)),
        [None, None, OURS, None],
        ["+ directory /srv/up (app:app 0750)"],
    ),
    (UPLOADS, [found_at("directory", owner="app", group="app", mode="0750"), True, OURS, None], []),
    (
        UPLOADS,
        [found_at("directory", owner="app", group="app", mode="0550"), False, OURS, None],
        ["~ directory /srv/up (mode 0550 -> 0750)"],
    ),
    (UPLOADS, [found_at("directory", owner="web", group="www", mode="2775"), True, OURS, None], []),
    (UPLOADS, [found_at("directory", owner="app", group="www", mode="2770"), True, OURS, None], []),
    (
        UPLOADS,
        [found_at("directory", owner="web", group="www", mode="2775"), False, OURS, None],
        [f"! writes: /srv/up is web:www 2775, and {LET_IT_WRITE}"],
    ),
    (
        UPLOADS,
        [found_at("directory"), False, None, None],
        [f"! writes: /srv/up is root:root 0755, and {LET_IT_WRITE}{NOT_YET}"],
    ),
    (
        UPLOADS,
        [found_at("link", target="/etc"), False, OURS, None],
        ["! /srv/up should be a directory and is a link: look at it, and move it away"],
    ),
    (MOTD, [None], ["+ file /etc/motd (root:root 0644)"]),
    (MOTD, [found_at("file", digest=MOTD._path_question[2], mode="0644")], []),
    (
        MOTD,
        [found_at("file", digest=MOTD._path_question[2], mode="0600")],
        ["~ file /etc/motd (mode 0600 -> 0644)"],
    ),
    (
        MOTD,
        [found_at("file", digest=MOTD._path_question[2], mode="0664", acl=True)],
        ["~ file /etc/motd (mode 0664 -> 0644, without an access list)"],
    ),
    (MOTD, [found_at("file", digest="d1", mode="0644")], ["~ file /etc/motd (content)"]),
    (MOTD, [found_at("link", target="/x")], ["~ file /etc/motd (replaces a link to /x)"]),
    (
        MOTD,
        [found_at("other")],
        ["! /etc/motd should be a file and is something else: look at it, and move it away"],
    ),
    (LINK, [None], ["+ link /opt/app/current (-> releases/2)"]),
    (LINK, [found_at("link", target="releases/2")], []),
    (
        LINK,
        [found_at("link", target="releases/1")],
        ["~ link /opt/app/current (releases/1 -> releases/2)"],
    ),
    (LINK, [found_at("file")], ["~ link /opt/app/current (replaces a file; -> releases/2)"]),
    (RELEASE, [{"kept": {"1-abc": {"bad": None}}}, {"free": 0, "inodes": 0}], []),
    (RELEASE, [NONE, ROOM], ["+ release 1-abc (10 MiB)"]),
    (
        RELEASE,
        [NONE | {"damaged": {"1-abc": "venv/bin/app"}}, ROOM],
        ["~ release 1-abc (venv/bin/app is not as it was; 10 MiB)"],
    ),
    (
        RELEASE,
        [NONE, ROOM | {"free": 3 * MIB}],
        [
            "! /opt/app has 3 MiB free, and a release needs 60 MiB: make room there",
            "+ release 1-abc (10 MiB)",
        ],
    ),
    (
        RELEASE,
        [NONE, ROOM | {"readonly": True}],
        [f"! /opt/app is {READ_ONLY}", "+ release 1-abc (10 MiB)"],
    ),
    (
        OldReleases(RELEASE),
        [kept("a b c d 1-abc", current="a", running=["b"])],
        [],
    ),
    (
        OldReleases(RELEASE),
        [kept("a b c d e f", current="a", running=["b"])],
        ["- release c (the oldest of more than 5)", "- release d (the oldest of more than 5)"],
    ),
    (
        OldReleases(RELEASE),
        [kept("a b c d e", current="a", running=["a"], bad="e")],
        ["- release e (it is bad)"],
    ),
    (  # what runs from a folder that is not a whole release is not one of those that are kept
        OldReleases(RELEASE),
        [kept("a b c d 1-abc", current="1-abc", running=["1-abc", "mine"], bad="b")],
        [],
    ),
    (
        replace(UNIT, reloads=True),
        [unit(program="/opt/app/releases/1/venv/bin/python")],
        ["~ reload app.service (it runs 1)"],
    ),
    (SOCKET, [None, None, None], ["+ start app.socket (it is not there yet)"]),
    (SOCKET, [unit(), unit(), {"pid": 1}], []),
    (
        SOCKET,
        [unit(), unit(), None],
        [
            "~ stop app.service (its port is reopened)",
            "~ restart app.socket (nothing listens there)",
        ],
    ),
    (
        SOCKET,
        [unit(), unit("inactive"), None, OK | {"digest": "of another port"}],
        [
            (
                "~ restart app.socket (it moves to 10.0.0.7:4730; programs not restarted are "
                "refused at the old address)"
            )
        ],
    ),
    (
        SOCKET,
        [unit(), unit("inactive"), {"pid": 1}, OK | {"digest": "edited"}],
        ["~ restart app.socket (its file changes)"],
    ),
    (
        replace(UNIT, socket=SOCKET),
        [unit(), unit(), unit(), None],
        ["~ restart app.service (app.socket is reopened)"],
    ),
    (FREE, [{"pid": 1, "command": "systemd", "unit": "init.scope"}], []),
    (UNIT, [None], ["+ start app.service (it is not there yet)"]),
    (UNIT, [unit()], []),
    (
        UNIT,
        [unit("activating", sub="start", config="c1")],
        ["~ restart app.service (it has not come up yet)"],
    ),
    (
        UNIT,
        [unit("activating", sub="auto-restart", result="exit-code")],
        ["~ restart app.service (it fails (exit-code))"],
    ),
    (
        UNIT,
        [unit("failed", result="exit-code", program=None, config=None)],
        ["+ start app.service (it is failed (exit-code))"],
    ),
    (
        UNIT,
        [unit(program="/opt/app/releases/1/venv/bin/python")],
        ["~ restart app.service (it runs 1)"],
    ),
    (UNIT, [unit(config="c1")], ["~ restart app.service (it runs with another configuration)"]),
    (UNIT, [unit(enabled="disabled")], ["~ enable app.service (it would not start at boot)"]),
    (UNIT, [unit(outdated="it is old")], ["~ restart app.service (it is old)"]),
    (
        FILE,
        [OK, {DROP_IN: "[Service]\n"}],
        [
            f"- file {DROP_IN} (it changes the unit from outside)",
            "~ daemon-reload (unit files changed)",
        ],
    ),
    (
        ONE,
        [unit(config="c1"), {MASK: "# Made by the deploy: ...\n[Service]\n"}, kept("2"), OK, {}],
        [
            f"- file {MASK} (the inventory gives it no settings of its own)",
            "~ daemon-reload (unit files changed)",
            "~ restart app@1.service (it runs with another configuration)",
        ],
    ),
    (
        UNIT,
        [unit(), {DROP_IN: "[Service]\n"}],
        ["~ restart app.service (what it was started from is replaced)"],
    ),
    (
        UNIT,
        [unit(), {}, kept("2"), found_at("file", digest="edited", mode="0644")],
        ["~ restart app.service (what it was started from is replaced)"],
    ),
    (UNIT, [unit(), {}, kept("2"), OK | {"mode": "0600"}], []),
    (UNIT, [unit(), {}, NONE], ["~ restart app.service (what it was started from is replaced)"]),
    (
        replace(UNIT, reloads=True),
        [unit(program="/opt/app/releases/1/venv/bin/python"), {}, NONE],
        ["~ reload app.service (it runs 1)"],
    ),
    (
        ONE,
        [unit(enabled="masked"), {MASK: None}, kept("2"), OK, {}],
        [
            f"- file {MASK} (it masks the unit)",
            "~ daemon-reload (unit files changed)",
            "~ enable app@1.service (it would not start at boot)",
        ],
    ),
    (
        GONE,
        [{"app@1.service": present(), "app@.service": present(active=False, enabled=False)}],
        [],
    ),
    (GONE, [{"app@2.service": present(ours=False)}], []),
    (
        GONE,
        [{"app@2.service": present(file=False, enabled=False, active=False, failed=True)}],
        ["- reset-failed app@2.service (the inventory does not have it)"],
    ),
    (NO_SERVER, [{}, None], []),
    (NO_SERVER, [{"app.socket": present(ours=False)}, {"jobs": {"wc": 3}, "kept": False}], []),
    (NO_SERVER, [{"app.service": present()}, {"jobs": {"wc": 3}, "kept": True}], [STRANDED]),
    (TO_OTHERS, [{}, {"jobs": {"wc": 3}, "kept": True}], [STRANDED]),
    (
        TO_OTHERS,
        [{"app.service": present(file=False)}, {"jobs": {"wc": 3}, "kept": False}],
        [
            f"- move 3 jobs (wc 3) to a:4730, b:4730 and stop app.service ({WHY})",
        ],
    ),
    (
        NO_SERVER,
        [{"app.service": present(), "app.socket": present()}, {"jobs": {}, "kept": True}],
        [
            "- stop app.service and app.socket (the inventory does not have it)",
            "- file /etc/systemd/system/app.service (the inventory does not have it)",
            "- file /etc/systemd/system/app.socket (the inventory does not have it)",
            "~ daemon-reload (unit files changed)",
            "- queue /var/lib/app (no job is in it)",
        ],
    ),
    (OWN, [{"addresses": ["10.0.0.7", "fe80::1"]}], []),
    (OWN, [{"addresses": []}], []),
    (OWN, [{"addresses": ["10.0.0.8"]}], [NOT_OWN]),
    (OwnAddress("::", "gearman_listen"), [{"addresses": ["10.0.0.8"]}], []),
    (FILES, [{}], []),
    (
        FILES,
        [{"/etc/app/tls": "directory", "/etc/app": "directory", "/etc/app/a.conf": "file"}],
        ["- directory /etc/app/tls (nothing needs it any more)"],
    ),
    (FILES, [{"/bin/app": "link"}], ["- link /bin/app (nothing needs it any more)"]),
    (GROUP, [None, None], []),
    (GROUP, [None, []], []),
    (GROUP, [None, ["app", "ana"]], []),
    (GROUP, [BEFORE, ["app"]], []),
    (GROUP, [None, ["app", "/etc/key"]], ["- group readers (nothing needs it any more)"]),
    (
        GONE,
        [{"app@2.service": present(), "app@3.service": present(active=False, file=False)}],
        [
            "- stop app@2.service (the inventory does not have it)",
            "- disable app@3.service (the inventory does not have it)",
            "- file /etc/systemd/system/app@2.service (the inventory does not have it)",
            "~ daemon-reload (unit files changed)",
        ],
    ),
    (FREE, [None], []),
    (FREE, [{"pid": 1, "command": "gearmand", "unit": "gearmand.service"}], []),
    (
        FREE,
        [NGINX],
        [f"! 10.0.0.7:4730 is taken by {WHO}: stop it, or set gearman_port to another port"],
    ),
    (Clock(300), [{"ahead": -299.0}], []),
    (
        Clock(300),
        [{"ahead": -7301.2}],
        [f"! its clock is 2:01:41 behind this machine's: {SET}"],
    ),
    (
        Clock(300),
        [{"ahead": 90000.0}],
        [f"! its clock is 1 day, 1:00:00 ahead of this machine's: {SET}"],
    ),
    (Systemd(247), [{"systemd": 252, "os": OS}], []),
    (Interpreter("/opt/py", "x"), [{"python_problem": None}], []),
    (
        Interpreter("/root/py", "x (hosts:3)"),
        [{"python_problem": "it has no module venv"}],
        ["! /root/py: it has no module venv: set x (hosts:3) to another Python"],
    ),
    (
        Systemd(247),
        [{"systemd": 241, "os": OS}],
        ["! systemd 241 (Debian 10) is too old: 247 or newer is needed; upgrade the host"],
    ),
]


@pytest.mark.parametrize(("resource", "found", "expected"), CASES)
def test_changes_follow_from_what_is_found(
    resource: Resource, found: list[Any], expected: list[str]
) -> None:
    unit_file = {FILE._path_question: OK, FILE._overrides_question: {}}
    as_wanted = unit_file | {("releases", "/opt/app"): kept("2")}
    answers = as_wanted | dict(zip(resource.questions(), found, strict=False))
    assert [told(step) for step in resource.plan_changes(answers)] == expected


def told(step: Any) -> str:
    if isinstance(step, Problem):
        return f"! {step.message}"
    return f"{step.sign} {step.summary}" + (f" ({step.reason})" if step.reason else "")


def test_a_rewritten_text_shows_how_it_differs() -> None:
    found = found_at("file", digest="d1", mode="0644", content="welcome\nstranger")
    (change,) = MOTD.plan_changes({MOTD._path_question: found})
    assert getattr(change, "diff", "").splitlines()[2:] == [
        *("@@ -1,2 +1 @@", " welcome", "-stranger")
    ]


SECRETS_OF_OTHERS = """[Service]
Environment=DB_PASSWORD=hunter2 \\
  TOKEN=hunter2
 Environment = "A=hunter2"
SetCredential=key:hunter2
ExecStart=/bin/app --password=hunter2
MemoryMax=1G
"""


def test_no_secret_of_a_drop_in_is_shown() -> None:
    (question,) = (each for each in FILE.questions() if each[0] == "overrides")
    answers = {FILE._path_question: OK, question: {DROP_IN: SECRETS_OF_OTHERS}}
    first, _ = FILE.plan_changes(answers)
    assert isinstance(first, Change)
    assert first.diff.splitlines()[3:] == [
        *("-[Service]", "-Environment=<hidden>", "- Environment =<hidden>"),
        *("-SetCredential=<hidden>", "-ExecStart=<hidden>", "-MemoryMax=1G"),
    ]


def test_no_variable_that_others_wrote_into_a_unit_file_is_shown() -> None:
    wanted = replace(FILE, content=b"Environment=TZ=Paris\nEnvironment=GEARMAN_SERVERS=b\n")
    edited = "Environment=TZ=Rome\nEnvironment=GEARMAN_SERVERS=a\nEnvironment=DB_PASSWORD=hunter2\n"
    found = found_at("file", digest="d1", mode="0644", content=edited)
    answers = {wanted._path_question: found, wanted._overrides_question: {}}
    first, _ = wanted.plan_changes(answers)
    assert isinstance(first, Change)
    assert first.diff.splitlines()[3:] == [
        *("-Environment=TZ=Rome", "-Environment=GEARMAN_SERVERS=a"),
        *("-Environment=DB_PASSWORD=<hidden>", "+Environment=TZ=Paris"),
        "+Environment=GEARMAN_SERVERS=b",
    ]


SERVER_OPTIONS: dict[str, Any] = {
    "address": "10.0.0.7",
    "memory": "1G",
    "queue": Queue("sqlite", ("-q", "sqlite", "--queue-file", "/var/lib/gearmand/queue.db")),
    "shared": False,
    "password": None,
    "database_ca": "",
    "ca": "",
    "metrics_port": 9418,
    "state_format": "1",
    "kept": [],
}


def test_a_process_tells_by_its_digest_that_its_unit_file_changed() -> None:
    options = {**SERVER_OPTIONS, "user": "app"}
    one = unit_file("gearmand.service", RELEASE, port=4730, **options)
    other = unit_file("gearmand.service", RELEASE, port=4731, **options)
    assert one.config != other.config
    assert f"GEARMAN_CONFIG={one.config}\n" in one.content.decode()


def test_a_unit_file_of_an_earlier_release_runs_as_the_account_of_today() -> None:
    options = {**SERVER_OPTIONS, "port": 4730}
    old = unit_file("gearmand.service", RELEASE, user="old", **options)
    restored = unit_file("gearmand.service", RELEASE, user="new", **options).with_text(
        old.content.decode()
    )
    assert b"\nUser=new\nGroup=new\n" in restored.content
    assert restored.config == old.config
    assert restored.kept
    assert restored.kept.content == old.content, "what is kept beside the release stays as it was"
