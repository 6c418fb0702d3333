"""examples/lab: workers of every kind on hosts, asked by clients of every kind."""

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from gearman_py import Client, JobFailed
from provision.errors import HostFailed
from provision.resources.sample_jobs import make_picture
from tests.lab.hosts import INVENTORY, NETWORK, SERVER, root
from tests.lab.job_load import jobs_around
from tests.lab.operator_commands import ROOT
from tests.lab.test_own_workers import Operator
from tests.lab.test_upgrade import ROLLED_BACK, invoke

EXAMPLES = ROOT / "examples"
WORKERS = ("worker1", "worker2")
TEXT = "one\ntwo\n"
ANSWERS = {
    "wc": b"2",
    "lines": b"2",
    "reverse": b"owt\neno",
    "shout": b"ONE\nTWO",
    "key_length": b"13",
}


@pytest.fixture(scope="module")
def operator(lab: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """The examples' inventory with this lab's hosts, and sources of its own."""
    lab.up(print, workers=len(WORKERS))
    folder = tmp_path_factory.mktemp("examples")
    left_out = shutil.ignore_patterns("__pycache__", ".*")
    for name in ("tutorial-php", "thumbnails"):
        shutil.copytree(EXAMPLES / name, folder / name, ignore=left_out)
    made = Operator(folder / "lab")
    hosts = (EXAMPLES / "lab" / "hosts.yml").read_text()
    hosts = hosts.replace("198.18.10", NETWORK).replace("../../inventory/lab", str(INVENTORY))
    (made.folder / "hosts.yml").write_text(hosts)
    made.says((EXAMPLES / "lab" / "group_vars" / "worker.yml").read_text())
    yield made
    assert invoke(ROOT, "deploy", "--yes").status == 0
    lab.up(print, workers=1)


def ask(command: list[str], given: bytes = b"") -> bytes:
    environment = {**os.environ, "GEARMAN_SERVERS": f"{SERVER}:4730"}
    done = subprocess.run(
        command, input=given, env=environment, capture_output=True, check=True, timeout=60
    )
    return done.stdout


def test_every_kind_is_deployed_and_answers_clients_of_every_kind(
    lab: ModuleType, operator: Operator, tmp_path: Path
) -> None:
    for host in WORKERS:
        root(lab, host, "dpkg --purge gearman-tools 2>/dev/null")
    said = operator.deploy()
    assert re.search(r"\+ packages .*gearman-tools", said)
    assert "nothing to change" in operator.deploy()
    smoke = operator.invoke("smoke")
    assert smoke.status == 0, smoke.said
    assert "shout: the check of worker shout" in smoke.said
    doctor = operator.invoke("doctor")
    assert doctor.status == 0, doctor.said

    picture = tmp_path / "picture.jpg"
    picture.write_bytes(make_picture(64, 1200))
    for host in WORKERS:
        with only_served_by(lab, host):
            ask_every_function(picture)


@contextmanager
def only_served_by(lab: ModuleType, host: str) -> Iterator[None]:
    """The workers of the other hosts are stopped meanwhile."""
    others = [each for each in WORKERS if each != host]
    for each in others:
        root(lab, each, "systemctl stop 'gearman-worker@*'")
    yield
    for each in others:
        root(lab, each, "cd /etc/systemd/system; systemctl start gearman-worker@?*.service")


def ask_every_function(picture: Path) -> None:
    """By our client, the C library's command and PHP."""
    php = ["php", str(EXAMPLES / "tutorial-php" / "client.php")]
    c_client = ["/usr/bin/gearman", "-h", SERVER, "-f"]
    with Client(SERVER, timeout=60) as client:
        for function, answer in ANSWERS.items():
            assert client.do(function, TEXT).strip() == answer
            assert ask([*c_client, function], TEXT.encode()).strip() == answer
            assert ask([*php, function, TEXT]).strip() == answer
    with Image.open(BytesIO(ask([*php, "resize", str(picture)]))) as small:
        assert small.size == (32, 600)
    with Image.open(BytesIO(ask([*c_client, "thumbnail"], make_picture(300, 150)))) as small:
        assert (small.format, small.size) == ("PNG", (128, 64))


DENIED = """
  jit:
    app: tutorial
    program: [php, -d, opcache.enable_cli=1, -d, opcache.jit_buffer_size=16M, -d, opcache.jit=on,
      ./jit.php]
    functions: [jit]
  save:
    command: [tee, /srv/saved/last]
    functions: [save]
"""


def test_the_setting_that_a_denied_worker_needs_is_named(
    lab: ModuleType, operator: Operator
) -> None:
    host = WORKERS[0]
    here = ("--limit", host)
    root(lab, host, "mkdir -p /srv/saved")
    source = operator.folder.parent / "tutorial-php"
    text = (source / "reverse.php").read_text()
    (source / "jit.php").write_text(text.replace('"reverse"', '"jit"'))
    inventory = operator.folder / "group_vars" / "worker.yml"
    before = inventory.read_text()
    operator.says(before + DENIED)
    failed = operator.invoke("deploy", "--yes", "--release", "tree", *here)
    assert failed.status in (HostFailed.status, ROLLED_BACK), failed.said  # of bare hosts, or not
    assert "| mprotect() failed [1] Operation not permitted" in failed.said
    assert "try: jit: true of worker jit, so that" in failed.said

    granted = before + DENIED.replace("[jit]", "[jit]\n    jit: true")
    operator.says(granted)
    operator.deploy("--release", "tree", *here)
    with Client(SERVER, timeout=60) as client:
        assert client.do("jit", "abc") == b"cba"
        with pytest.raises(JobFailed):
            client.do("save", "kept")
    doctor = operator.invoke("doctor", *here)
    assert "| tee: /srv/saved/last: Read-only file system" in doctor.said
    assert "try: writes: [/srv/saved] of worker save, so that" in doctor.said

    root(lab, host, "rmdir /srv/saved")  # root's folder would be left as it is
    operator.says(granted.replace("[save]", "[save]\n    writes: [/srv/saved]"))
    operator.deploy(*here)
    with Client(SERVER, timeout=60) as client:
        assert client.do("save", "kept") == b"kept"
    doctor = operator.invoke("doctor", *here)
    assert "denied" not in doctor.said
    operator.says(before)
    operator.deploy(*here)


def test_a_php_fleet_is_upgraded_under_load_and_no_job_is_lost(
    lab: ModuleType, operator: Operator
) -> None:
    """What a stopped program had begun is done again, by another; it is counted by handles."""
    source = operator.folder.parent / "tutorial-php" / "reverse.php"
    slow = source.read_text().replace("return", "usleep(30000);\n    return")
    source.write_text(slow)
    operator.deploy("--release", "tree")

    source.write_text(f"{slow}// another version\n")
    jobs, done = jobs_around(
        "reverse", "abc", lambda: operator.invoke("upgrade", "--app", "tutorial", "--yes")
    )
    assert done.status == 0, done.said
    begun: Counter[str] = Counter()
    for host in WORKERS:
        unit = "gearman-worker@reverse*"
        said = root(lab, host, f"journalctl --no-pager --output=cat --boot --unit='{unit}'")
        begun.update(re.findall(r"^reverse: (\S+)$", said, re.MULTILINE))
    handles = {job.handle for job in jobs}
    assert len(handles) == len(jobs) > 100
    assert {job.answer for job in jobs} == {b"cba"}
    assert [handle for handle in handles if not begun[handle]] == []
    again = sum(begun[handle] - 1 for handle in handles)
    print(f"{len(handles)} jobs, {again} of them begun twice")
    stopped = 2 * len(WORKERS)  # instances; each had one job at most
    assert again <= stopped
