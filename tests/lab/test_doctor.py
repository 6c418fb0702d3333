"""The doctor on real hosts with something broken: it is found, and nothing else is."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.lab.hosts import CLIENT, INVENTORY, NETWORK, SERVER, WORKER
from tests.lab.operator_commands import run_command

HOST_FAILED, UNREACHABLE = 3, 4
OOM = "MESSAGE_ID=fe6faa94e7774663a0da52717891d8ef\\nUNIT=gone.service\\nMESSAGE=killed\\n"


def doctor(status: int = HOST_FAILED, inventory: str = str(INVENTORY)) -> list[Any]:
    """(host, state, check, text) of all that is not well."""
    done = run_command("doctor", "--hosts", inventory, "--json")
    assert done.returncode == status, done.stdout + done.stderr
    told = map(json.loads, done.stdout.splitlines())
    return [
        (each["host"], each["state"], each["check"], each["text"])
        for each in told
        if each["event"] == "finding" and each["state"] != "ok"
    ]


@pytest.fixture(scope="module", autouse=True)
def deployed(lab: ModuleType) -> None:
    done = run_command("deploy", "--hosts", str(INVENTORY), "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    for host in ("client1", "server1", "worker1"):  # what other tests left
        lab.run(host, ["systemctl", "reset-failed"])


@contextmanager
def broken(lab: ModuleType, host: str, break_: str, mend: str) -> Iterator[None]:
    try:
        done = lab.run(host, ["sh", "-c", break_])
        assert done.returncode == 0, done.stderr
        yield
    finally:
        done = lab.run(host, ["sh", "-c", mend])
        assert done.returncode == 0, done.stderr


def test_a_topology_that_works_is_well_and_nothing_is_changed_by_looking() -> None:
    assert doctor(status=0) == []
    done = run_command("doctor", "--hosts", str(INVENTORY))
    assert f"worker1  ok    workers     reverse, resize, wc at {SERVER}:4730" in done.stdout
    assert run_command("plan", "--hosts", str(INVENTORY)).returncode == 0


def test_a_stopped_job_server_is_refused_from_everywhere_and_told_where_it_stopped(
    lab: ModuleType,
) -> None:
    units = "gearmand.socket gearmand.service"
    with broken(lab, "server1", f"systemctl stop {units}", f"systemctl start {units}"):
        found = doctor()
    refused = [host for host, _, check, text in found if "refuses" in text]
    assert refused == ["client1", "server1", "worker1"]
    assert ("server1", "fail", "port", f"nothing listens at {SERVER}:4730") in found
    assert any(text.startswith("gearmand.service is inactive\n| ") for *_, text in found)
    assert run_command("deploy", "--hosts", str(INVENTORY), "--yes").returncode == 0


@pytest.mark.parametrize(
    "host, route, text",
    [
        ("worker1", f"blackhole {SERVER}", "cannot be reached: no route to it"),
        ("server1", f"blackhole {WORKER}", "is silent"),  # its answers do not come back
    ],
)
def test_a_way_that_is_closed_is_told_by_how(
    lab: ModuleType, host: str, route: str, text: str
) -> None:
    with broken(lab, host, f"ip route add {route}", f"ip route del {route}"):
        found = [each for each in doctor() if each[2] == "job server"]
    assert len(found) == 1
    assert found[0][0] == "worker1"
    assert text in found[0][3]
    again = "systemctl restart 'gearman-worker@*'"  # it may wait before it connects again
    assert lab.run("worker1", ["sh", "-c", again]).returncode == 0


def test_a_full_disk_and_one_that_cannot_be_written_are_told(lab: ModuleType) -> None:
    full = "mount -t tmpfs -o size=2m tmpfs /tmp && ! dd if=/dev/zero of=/tmp/x bs=4k"
    with (
        broken(lab, "worker1", full, "umount /tmp"),
        broken(lab, "client1", "mount -o remount,ro /tmp", "mount -o remount,rw /tmp"),
    ):
        found = doctor()
    assert found == [
        ("client1", "fail", "disk", "/tmp is read-only"),
        ("worker1", "fail", "disk", "/tmp has 0 B of 2 MiB left"),
    ]


def test_a_masked_unit_is_told_with_its_cure(lab: ModuleType) -> None:
    unit = "gearman-worker@wc.service"
    with broken(
        lab,
        "worker1",
        f"systemctl mask --now --runtime {unit}",
        f"systemctl unmask --runtime {unit} && systemctl start {unit}",
    ):
        (found,) = doctor()
        people = run_command("doctor", "--hosts", str(INVENTORY), "--limit", "worker1").stdout
    assert found[:3] == ("worker1", "fail", "units")
    assert found[3].startswith(f"{unit} is masked")
    cure = f"on worker1: sudo systemctl unmask {unit}; then ./invoke deploy --hosts {INVENTORY}"
    assert f"try: {cure}" in people


def test_a_worker_that_ends_at_once_is_told_with_its_own_last_words(lab: ModuleType) -> None:
    """systemd says more of each restart than the program said of why it ended."""
    unit = "gearman-worker@wc.service"
    drop_in = f"/run/systemd/system/{unit}.d"
    program = "ExecStart=/bin/sh -c 'echo no such table: pictures >&2; exit 2'"
    with broken(
        lab,
        "worker1",
        f'mkdir -p {drop_in} && printf "[Service]\nExecStart=\n{program}\n" >{drop_in}/x.conf'
        f" && systemctl daemon-reload && ! systemctl restart {unit}",
        f"systemctl stop {unit} && rm -r {drop_in} && systemctl daemon-reload"
        f" && systemctl reset-failed && systemctl start {unit}",
    ):
        failed = [text for _, state, _, text in doctor() if state == "fail"]
    assert any(text.startswith(unit) and "| no such table: pictures" in text for text in failed)


def test_jobs_that_nobody_takes_are_told(lab: ModuleType) -> None:
    client = lab.run(
        "client1", ["/usr/local/bin/gearman", "-h", SERVER, "-b", "-f", "nobody", "hello"]
    )
    assert client.returncode == 0
    serve = f"/opt/gearman/current/venv/bin/gearman -h {SERVER} -w -c 1 -f nobody -- cat"
    with broken(lab, "client1", "true", f"timeout 20 {serve}"):
        (found,) = doctor()
    text = "nobody: 1 job waiting, and no worker serves it"
    assert found == ("server1", "fail", "queue", text)


def test_a_process_killed_for_want_of_memory_is_told(lab: ModuleType) -> None:
    """By what systemd writes into the journal when that happens."""
    done = lab.run("client1", ["sh", "-c", f"printf '{OOM}' | logger --journald"])
    assert done.returncode == 0, done.stderr
    (found,) = doctor()
    assert found[:3] == ("client1", "fail", "memory")
    assert "gone.service" in found[3]
    assert lab.run("client1", ["journalctl", "--rotate", "--vacuum-time=1s"]).returncode == 0


def test_a_host_that_cannot_be_reached_is_a_finding_and_the_others_are_looked_at(
    lab: ModuleType, tmp_path: Path
) -> None:
    for path in INVENTORY.iterdir():
        text = path.read_text().replace(CLIENT, f"{NETWORK}.99")
        (tmp_path / path.name).write_text(text)
        (tmp_path / path.name).chmod(0o600)
    (found,) = doctor(UNREACHABLE, str(tmp_path))
    assert found[:3] == ("client1", "fail", "ssh")
    assert f"{NETWORK}.99" in found[3]
