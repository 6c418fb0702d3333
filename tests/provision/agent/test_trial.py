"""What a worker on trial serves, as real job servers tell it."""

import os
import re
from contextlib import nullcontext
from pathlib import Path

import pytest

from gearman_py import Worker
from gearman_py.testing import running, server
from provision.agent import program_trial, trial
from provision.agent.files import Content, Failure
from provision.agent.link import ENVIRONMENT, FrameLink, Gone
from provision.agent.program_trial import await_functions, choose_place
from provision.agent.transient_unit import running_unit
from provision.agent.trial import check_functions, refuse_shared
from tests.waiting import await_true

PREFIX = "trial@worker1/"


async def answer_async(data: bytes) -> bytes:
    return data


def worker_of(address: str, *functions: str, prefix: str = "", ping: str = "") -> Worker:
    made = Worker(address, prefix=prefix, address="" if prefix else "worker1")
    for name in functions:
        made.function(name)(lambda data: data)
    if not prefix:
        made.function("tile")(answer_async)  # by another connection
    if ping:
        made.add_ping(ping)
    return made


@pytest.mark.parametrize(
    ("functions", "pings", "message"),
    [
        ({"size": "lines"}, {}, "^size is served by worker lines of this host too: leave it out"),
        ({}, {"ping@worker1/more": "more"}, "^tile is served by worker more of this host too"),
        ({"wc": "lines"}, {"ping@worker2/more": "more", "ping@worker1/shop": "shop"}, ""),
    ],
)
def test_a_function_that_another_worker_of_the_host_serves_is_refused(
    functions: dict[str, str], pings: dict[str, str], message: str
) -> None:
    """The worker that is to be replaced serves it too, and is none of the others."""
    with server() as jobs:
        tried = worker_of(jobs.address, "size", "tile", prefix=PREFIX, ping=f"{PREFIX}ping@shop")
        other = worker_of(jobs.address, "wc", ping="ping@worker1/more")
        with running(tried), running(other):
            jobs.wait_for(f"{PREFIX}size", workers=1)
            jobs.wait_for("ping@worker1/more", workers=1)
            jobs.wait_for("tile", workers=1)
            with pytest.raises(Failure, match=message) if message else nullcontext():
                refuse_shared(jobs.address, PREFIX, "shop", functions, pings)


def test_a_function_that_the_code_of_another_worker_serves_is_refused(link: FrameLink) -> None:
    """That worker has two connections: each tells a part of what it serves."""
    pings = {"ping@worker1/more": "more", "ping@worker1/gone": "gone"}
    nothing = Content(link, 0, {"later": False, "digest": ""}, b"")
    with server() as jobs:
        other, foreign = worker_of(jobs.address, "wc", ping="ping@worker1/more"), "ping@worker2/x"
        elsewhere = Worker(jobs.address, address="worker2", client_id="worker2:7")
        elsewhere.function("size")(lambda data: data)
        elsewhere.add_ping(foreign)
        with running(other), running(elsewhere):
            for name in ("ping@worker1/more", "wc", "tile", "size", foreign):
                jobs.wait_for(name, workers=1)
            check_functions(link, nothing, jobs.address, "lines", ["lines", "size"], pings)
            for name in ("wc", "tile"):
                with pytest.raises(Failure, match=f"^{name} is served by worker more of this host"):
                    check_functions(link, nothing, jobs.address, "lines", ["lines", name], pings)


def test_a_job_that_the_worker_on_trial_will_not_do_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A release renamed the function of the check: what it serves instead is told."""
    monkeypatch.setattr(trial, "LOOK_INTERVAL", 0.0)
    monkeypatch.setattr(trial, "UNSERVED_TIME", 0.1)
    with server() as jobs:
        asked = trial.AskedFunction(f"{PREFIX}size", jobs.address)
        assert asked.may_be_served(), "no worker is there yet"
        with running(worker_of(jobs.address, "sizes", prefix=PREFIX)):
            await_true(lambda: not asked.may_be_served())
            told = r"it serves sizes(, tile)?, not size, which its check is for"
            assert re.fullmatch(told, asked.problem)
            with running(worker_of(jobs.address, "size", prefix=PREFIX)):
                jobs.wait_for(f"{PREFIX}size", workers=1)
                assert asked.may_be_served()


def test_a_program_that_registers_a_part_of_its_functions_is_told_which(link: FrameLink) -> None:
    with server() as jobs, running(worker_of(jobs.address, "size", "wc")):
        await_functions(link, lambda: True, jobs.address, ["size", "wc"], 30.0)
        with pytest.raises(Failure, match=r"^it serves size, .*, and not grep, slug,") as raised:
            await_functions(link, lambda: True, jobs.address, ["grep", "slug", "wc"], 0.0)
        assert not raised.value.late, "nothing hangs"
    nothing = r"^after 0 s it does not serve wc at the job server"
    with server() as jobs, pytest.raises(Failure, match=nothing) as raised:
        await_functions(link, lambda: True, jobs.address, ["wc"], 0.0)
    assert raised.value.late


def test_what_a_trial_started_ends_though_the_operator_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemctl is a script here: what a killed controller leaves on a host is seen in the lab."""
    for name in ("systemctl", "systemd-run"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/said; echo MainPID=1\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setitem(ENVIRONMENT, "PATH", f"{tmp_path}:{ENVIRONMENT['PATH']}")
    incoming, operator = os.pipe()
    outgoing = os.open(os.devnull, os.O_WRONLY)
    try:
        link = FrameLink(incoming, outgoing)
        with pytest.raises(Gone), running_unit(link, "trial", ["true"], [], {}, 60.0):
            os.close(operator)
            link.wait()
    finally:
        os.close(incoming)
        os.close(outgoing)
    said = (tmp_path / "said").read_text()
    assert f"kill --signal=SIGKILL gearman-trial-{os.getpid()}.service" in said
    assert f"reset-failed gearman-trial-{os.getpid()}.service" in said


def test_by_tls_a_trial_has_an_address_of_the_certificate_that_the_host_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_trial, "CERTIFICATES", str(tmp_path))
    with pytest.raises(Failure, match=r"does not start: .*/host.key: No such file or directory"):
        choose_place(["127.0.0.1"])
    (tmp_path / "host.key").touch()
    elsewhere = ["192.0.2.1", "no.such.host.invalid"]  # RFC 5737, RFC 6761
    address, listening, allowed = choose_place([*elsewhere, "127.0.0.1", "::1"])
    assert address == f"gearmans://127.0.0.1:{listening[-1]}"
    assert listening[:3] == ["--listen", "127.0.0.1", "--port"]
    assert allowed == [f"SupplementaryGroups={tmp_path.stat().st_gid}"]
    with pytest.raises(Failure, match=r"none of the addresses .* for, 192.0.2.1, no.such"):
        choose_place(elsewhere)
    address, _, allowed = choose_place([])
    assert (address.rpartition(":")[0], allowed) == ("127.0.0.1", [])


def test_a_job_server_that_cannot_be_asked_is_told() -> None:
    with pytest.raises(Failure, match=r"127\.0\.0\.1:1 does not tell what its workers serve"):
        refuse_shared("127.0.0.1:1", PREFIX, "shop", {}, {})
