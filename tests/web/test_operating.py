"""Users with the role operate pause functions, and retry or discard failed jobs; others do not."""

import contextlib
import getpass
import os
import re
import signal
import threading
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest

from gearman_py import AdminClient, Client, Worker, WorkerJob
from gearman_py.testing import running
from tests.forked import run_text
from tests.job_servers import JobServer
from tests.waiting import LIMIT, await_true
from tests.web.operators import act, audit_of, await_function, fail_jobs, log_in, token_of
from tests.web.site import Document, Site, running_site

pytestmark = pytest.mark.slow
ODD = "a <b>&\"'é/?=%#"


def test_a_paused_function_gives_no_job_until_it_is_resumed(
    site: Site, servers: list[JobServer], tmp_path: Path
) -> None:
    one, two = (server.address for server in servers)
    done = threading.Event()
    worker = Worker([one, two])

    @worker.function(ODD)
    def work(job: WorkerJob) -> None:
        done.set()

    with AdminClient(one) as admin:
        admin.limit(ODD, running=1)
    await_function(site, ODD)
    page = act(site, "/function/pause", function=ODD).document
    assert f"{one} paused at most 1 running" in " ".join(page.text.split())
    assert f"{one}: paused" in page.text
    assert f"{two}: paused" in page.text
    assert "by alice at 127.0.0.1" in page.text
    assert "<b>&" not in page.html
    for server in (one, two):
        with AdminClient(server) as admin:
            assert [(row.name, row.by) for row in admin.pauses()] == [(ODD, "alice at 127.0.0.1")]
    with running(worker), Client(one) as client:
        client.do_background(ODD, b"")
        assert not done.wait(0.5)  # what is shown is that nothing happens
        page = act(site, "/function/resume", function=ODD).document
        assert f"{one}: resumed" in page.text
        assert "paused since" not in page.text
        assert done.wait(30)
    assert audit_of(tmp_path) == [
        {
            "event": action,
            "user": "alice",
            "function": ODD,
            "outcome": "done",
            "servers": {one: done_, two: done_},
        }
        for action, done_ in (("pause", "paused"), ("resume", "resumed"))
    ]


def test_what_may_not_be_done_is_refused_and_noted(
    site: Site, servers: list[JobServer], tmp_path: Path
) -> None:
    with AdminClient(servers[0].address) as admin:
        admin.limit("f", running=1)
        await_function(site, "f")
        fields = {"function": "f", "until": "9999999999"}
        assert site.post("/function/pause", fields).status == 403
        forged = {**fields, "form_token": token_of(site)}
        assert site.post("/function/pause", forged, Origin="https://evil.example.org").status == 403
        log_in(site, "bob")
        assert "/function/pause" not in site.page("/function?name=f").html
        for path in ("/function/pause", "/function/resume", "/failed/retry", "/failed/discard"):
            answer = site.post(path, {**fields, "form_token": token_of(site)})
            assert (answer.status, "needs the role operate" in answer.text) == (403, True)
        assert site.get("/failed/confirm?action=discard&function=f").status == 403
        assert site.get("/function/pause").status == 405
        assert site.post("/function/drop", fields).status == 404
        assert admin.pauses() == []
    noted = [
        (entry["event"], entry["user"], entry.get("function"), entry["outcome"])
        for entry in audit_of(tmp_path)
    ]
    assert noted == [
        ("pause", "alice", "f", "refused: The form is out of date: reload the page."),
        ("pause", "alice", None, "refused: The form came from another site."),
        *(
            (action, "bob", "f", f"refused: To {action}, a user needs the role operate.")
            for action in ("pause", "resume", "retry", "discard")
        ),
    ]


def test_a_silent_server_is_told(site: Site, servers: list[JobServer], tmp_path: Path) -> None:
    one, two = servers
    with AdminClient(one.address) as admin:
        admin.limit("f", running=1)
        await_function(site, "f")
        with suspended(two):
            page = act(site, "/function/pause", function="f").document
        assert "failed at 1 of 2 job servers" in page.text
        assert f"{one.address}: paused" in page.text
        assert "did not answer within 5 s" in page.text
        assert [row.name for row in admin.pauses()] == ["f"]
    (entry,) = audit_of(tmp_path)
    assert entry["outcome"] == "failed at 1 of 2"
    assert entry["servers"][one.address] == "paused"


@contextlib.contextmanager
def suspended(server: JobServer) -> Iterator[None]:
    """A job server that is stopped by a signal: it takes connections and says nothing."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def test_failed_jobs_are_listed_latest_first_over_servers(
    site: Site, servers: list[JobServer]
) -> None:
    first = fail_jobs(site, servers[0], ODD, ["<script>alert(1)</script>" + "x" * 1000])
    second = fail_jobs(site, servers[1], "g", ["second"])
    third = fail_jobs(site, servers[0], "g", ["third"])
    page = site.page("/failed")
    assert [row[0] for row in page.tables[0][1:]] == [*third, *second, *first]
    row = page.row(first[0])
    assert row["Function"] == ODD
    assert row["Reason"].startswith("<script>alert(1)</script>xxx")
    assert len(row["Reason"]) == 160
    assert (row["Attempts"], row["Worker"]) == ("1", "some-worker")
    assert "<script>alert" not in page.html
    only = site.page("/failed?function=g")
    assert [row[0] for row in only.tables[0][1:]] == [*third, *second]


def test_one_failed_job_is_run_again_and_one_is_discarded(
    site: Site, servers: list[JobServer], tmp_path: Path
) -> None:
    two = servers[1].address
    wanted, unwanted = fail_jobs(site, servers[1], "f", ["wanted", "unwanted"])
    page = act(site, "/failed/retry", server=two, handle=wanted, shown="f").document
    assert f"{two}: queued again" in page.text
    assert wanted not in [row[0] for row in page.tables[0]]
    ran = threading.Event()
    worker = Worker([two])

    @worker.function("f")
    def work(job: WorkerJob) -> None:
        if job.workload == b"wanted":
            ran.set()

    with running(worker):
        assert ran.wait(30)
    asked = site.page(f"/failed/confirm?action=discard&server={two}&handle={unwanted}")
    assert f"Discard job {unwanted}?" in asked.text
    page = act(site, "/failed/discard", server=two, handle=unwanted).document
    assert "No failed background job is kept" in page.text
    again = act(site, "/failed/discard", server=two, handle=unwanted).document
    assert "failed at 1 of 1 job server" in again.text
    assert [(entry["event"], entry["handle"], entry["servers"]) for entry in audit_of(tmp_path)][
        :2
    ] == [("retry", wanted, {two: "queued again"}), ("discard", unwanted, {two: "discarded"})]


def test_all_of_a_function_are_discarded_after_their_number_was_told(
    site: Site, servers: list[JobServer], tmp_path: Path
) -> None:
    one, two = (server.address for server in servers)
    fail_jobs(site, servers[0], ODD, ["a", "b"])
    fail_jobs(site, servers[1], ODD, ["c"])
    kept = fail_jobs(site, servers[1], "other", ["kept"])
    answer = site.post("/failed/discard", {"form_token": token_of(site), "function": ODD})
    assert answer.status == 400
    query = "action=discard&function=a+%3Cb%3E%26%22%27%C3%A9%2F%3F%3D%25%23"
    asked = site.page(f"/failed/confirm?{query}")
    assert f"Discard 3 failed jobs of {ODD}?" in asked.text
    fields = re.findall(r'name="(function|until)" value="(.*?)"', asked.html)
    later = fail_jobs(site, servers[0], ODD, ["after it was asked"])
    page = act(
        site, "/failed/discard", **{name: unescape(value) for name, value in fields}
    ).document
    assert f"{one}: 2 jobs discarded" in page.text
    assert f"{two}: 1 job discarded" in page.text
    assert [row[0] for row in page.tables[0][1:]] == later
    assert [row[0] for row in site.page("/failed").tables[0][1:]] == [*later, *kept]
    asked = site.page(f"/failed/confirm?{query.replace('discard', 'retry')}")
    assert f"Retry 1 failed job of {ODD}?" in asked.text
    fields = re.findall(r'name="(function|until)" value="(.*?)"', asked.html)
    page = act(site, "/failed/retry", **{name: unescape(value) for name, value in fields}).document
    assert f"{one}: 1 job queued again" in page.text
    with Client(one) as client:
        assert client.status(later[0]).known


def test_a_discard_tells_which_servers_do_not_answer(site: Site, servers: list[JobServer]) -> None:
    one, two = servers
    fail_jobs(site, one, "f", ["a"])
    two.stop()
    await_true(lambda: "Connection refused" in site.page("/").text)
    asked = site.page("/failed/confirm?action=discard&function=f")
    assert "Discard 1 failed job of f?" in asked.text
    assert f"{two.address}: Connection refused" in asked.text


def test_a_server_that_takes_commands_on_its_admin_socket_says_so(
    tmp_path: Path, users: Path
) -> None:
    server = JobServer(tmp_path)
    server.start("--admin-only", "--admin-listen", f"unix:{tmp_path}/admin")
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        options = ("-h", server.address, "--users", str(users))
        site = stack.enter_context(running_site(tmp_path, *options))
        log_in(site, "alice")
        with Client(server.address) as client:
            client.do_background("f")
        await_function(site, "f")
        assert f"Not steered from here: {server.address}, which takes" in page_of(site).text
        page = act(site, "/function/pause", function="f").document
        assert "it takes such commands only on its admin socket" in page.text
        assert "only on its admin socket" in site.page("/failed").text
        log_in(site, "bob")
        assert "Not steered from here" not in page_of(site).text


def page_of(site: Site) -> Document:
    return site.page("/function?name=f")


def test_operators_alone_use_an_admin_socket(tmp_path: Path, users: Path) -> None:
    server = JobServer(tmp_path)
    admin_socket = f"unix:{tmp_path}/admin"
    server.start("--admin-only", "--admin-listen", admin_socket)
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        options = ("-h", server.address, "--name", "one", "--users", str(users))
        steering = ("--admin-socket", f"one={admin_socket}")
        site = stack.enter_context(running_site(tmp_path, *options, *steering))
        client = stack.enter_context(Client(server.address))
        admin = stack.enter_context(AdminClient(admin_socket))
        handle = client.do_background("f", b"a secret workload")
        log_in(site, "alice")
        await_function(site, "f")
        assert "Not steered from here" not in page_of(site).text
        assert "one: paused" in act(site, "/function/pause", function="f").document.text
        (row,) = admin.pauses()
        assert row.by == f"alice at {getpass.getuser()}"
        job = f"/job?server=one&handle={handle}"
        assert "a secret workload" in site.page(job).text
        assert "only on its admin socket" not in site.page("/failed").text
        log_in(site, "bob")
        assert site.get(job).status == 403
        assert "only on its admin socket" in site.page("/failed").text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--admin-socket", "one=unix:/a"), "--admin-socket needs users who operate"),
        (("--admin-socket", "two=unix:/a"), "expected SERVER=unix:PATH, SERVER being one"),
        (("--admin-socket", "one=/a"), "expected SERVER=unix:PATH, SERVER being one"),
    ],
)
def test_an_admin_socket_that_makes_no_sense_is_refused(
    options: tuple[str, ...], message: str
) -> None:
    words = ("-h", "127.0.0.1:1", "--name", "one", *options)
    done = run_text("web", *words, timeout=LIMIT)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def test_a_user_whom_a_proxy_names_operates(tmp_path: Path, servers: list[JobServer]) -> None:
    server = servers[0].address
    options = ("-h", server, "--trusted-proxy", "127.0.0.1", "--user-header", "X-User")
    with running_site(tmp_path, *options, "--operator", "alice") as site:
        with Client(server) as client:
            client.do_background("f")
        await_true(lambda: site.get("/function?name=f", X_User="alice").status == 200)
        html = site.get("/function?name=f", X_User="alice").document.html
        found = re.search(r'name="form_token" value="(.*?)"', html)
        assert found
        assert "Log out" not in html
        fields = {"function": "f", "form_token": found[1]}
        assert site.post("/function/pause", fields, X_User="bob").status == 403
        assert site.post("/function/pause", fields, X_User="alice").status == 303
        with AdminClient(server) as admin:
            assert [row.by for row in admin.pauses()] == ["alice at 127.0.0.1"]
