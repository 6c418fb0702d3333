"""The numbers on the pages are those of what was submitted."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gearman_py import Client, JobFailed, Worker, WorkerJob
from gearman_py.testing import running
from gearman_py.web.function_detail import find_percentile
from tests.job_servers import C_GEARMAND, OUR_GEARMAND, GearmandProcess, JobServer, running_server
from tests.server.reloaded import Server
from tests.waiting import await_true
from tests.web.site import Site, running_site

pytestmark = pytest.mark.slow


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[JobServer]]:
    """Two job servers."""
    both = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        server = JobServer(tmp_path / name)
        server.start()
        both.append(server)
    yield both
    for server in both:
        server.stop()


@pytest.fixture
def site(tmp_path: Path, servers: list[JobServer]) -> Iterator[Site]:
    hosts = ",".join(server.address for server in servers)
    with running_site(tmp_path, "-h", hosts) as site:
        site.await_round()
        yield site


def some_worker(*servers: str) -> Worker:
    worker = Worker(list(servers), client_id="some-worker")

    @worker.function("double", workload=True)
    def double(text: bytes) -> bytes:
        return text * 2

    @worker.function("refuse")
    def refuse(job: WorkerJob) -> None:
        raise ValueError("I would rather not")

    return worker


def test_overview_is_the_sum_of_all_job_servers(site: Site, servers: list[JobServer]) -> None:
    one, two = (server.address for server in servers)
    with running(some_worker(one, two)):
        for address, jobs in ((one, 7), (two, 5)):
            with Client(address) as client:
                assert len(list(client.map("double", [b"x"] * jobs))) == jobs
        with Client(two) as client:
            for _ in range(3):
                with pytest.raises(JobFailed):
                    client.do("refuse")
            client.do_background("later", b"", at=4102444800.0)
            for _ in range(4):
                client.do_background("waits")
        await_true(lambda: site.page("/").notes["Done"] == "12 in the last hour")
        page = site.await_page("/", {"Waiting": "4", "Workers": "1"})
        notes = page.notes
        assert notes["Jobs in"] == f"{7 + 5 + 3 + 1 + 4} in the last hour"
        assert notes["Done"] == "12 in the last hour"
        assert notes["Failing"] == "3 failed in the last hour"
        assert notes["Waiting"] == "0 running, 1 for later"
        assert page.panels["Failing"] == "20 %"
        row = page.row("waits")
        assert (row["Waiting"], row["Workers"]) == ("4", "0")


def test_function_page_tells_the_servers_apart(site: Site, servers: list[JobServer]) -> None:
    one, two = (server.address for server in servers)
    with running(some_worker(one, two)):
        for address, jobs in ((one, 7), (two, 5)):
            with Client(address) as client:
                list(client.map("double", [b"x"] * jobs))
        await_true(lambda: site.page("/").notes["Done"] == "12 in the last hour")
        page = site.page("/function?name=double")
        assert page.row(one)["Done"] == "7"
        assert page.row(two)["Done"] == "5"
        assert page.row("127.0.0.1")["Worker"] == "some-worker"


def test_what_happened_while_it_was_down_is_counted_once(
    tmp_path: Path, servers: list[JobServer]
) -> None:
    one, _ = servers
    options = ("-h", one.address, "--history", str(tmp_path / "history"))
    with running_site(tmp_path, *options) as site, Client(one.address) as client:
        site.await_round()
        for _ in range(3):
            client.do_background("waits")
        site.await_page("/", {"Waiting": "3"})
    with Client(one.address) as client:
        for _ in range(2):
            client.do_background("waits")
    with running_site(tmp_path, *options) as site:
        page = site.await_page("/", {"Waiting": "5"})
        assert page.notes["Jobs in"] == "5 in the last hour"


def test_a_restart_of_a_job_server_loses_nothing_that_was_counted(
    site: Site, servers: list[JobServer]
) -> None:
    _, two = servers
    with Client(two.address) as client:
        for _ in range(3):
            client.do_background("waits")
    site.await_page("/", {"Waiting": "3"})
    two.stop()
    two.start()
    with Client(two.address) as client:
        for _ in range(2):
            client.do_background("waits")
    page = site.await_page("/", {"Waiting": "2"})
    assert page.notes["Jobs in"] == "5 in the last hour"


def test_a_reload_of_a_job_server_counts_nothing_twice(tmp_path: Path) -> None:
    program = tuple(OUR_GEARMAND[1:])
    options = ["-L", "127.0.0.1", "-p", "0", "-v"]
    with GearmandProcess(options, tmp_path, program=program) as process:
        server = Server(process, program)
        address = "{}:{}".format(*server.address)
        with running_site(tmp_path, "-h", address) as site, Client(address) as client:
            site.await_round()
            for _ in range(3):
                client.do_background("waits")
            site.await_page("/", {"Waiting": "3"})
            server.reload()
            for _ in range(2):
                client.do_background("waits")
            page = site.await_page("/", {"Waiting": "5"})
            assert page.notes["Jobs in"] == "5 in the last hour"
        server.end()


def test_a_job_server_that_is_away_is_the_first_thing_that_is_said(
    site: Site, servers: list[JobServer]
) -> None:
    one, two = servers
    assert "Nothing is wrong" in site.page("/").text
    two.stop()
    await_true(lambda: "(1)" in site.page("/").title)
    page = site.page("/")
    assert f"{two.address} The job server has not answered" in " ".join(page.text.split())
    assert 'href="/runbook#gearmanserverdown"' in page.html
    await_true(lambda: "Connection refused" in site.page("/servers").text)
    assert one.address in site.page("/servers").text


@pytest.mark.interop
def test_c_gearmand_is_shown_without_what_it_does_not_count(tmp_path: Path) -> None:
    with running_server(C_GEARMAND, tmp_path) as (host, port):
        address = f"{host}:{port}"
        with running_site(tmp_path, "-h", address) as site, Client(address) as client:
            client.do_background("waits")
            page = site.await_page("/", {"Waiting": "1"})
            assert "do not count jobs (C gearmand)" in page.text
            assert "1 job waits and no worker does it" in page.text
            overview, function = page, site.page("/function?name=waits")
            for each in (overview, function):
                for title in ("Jobs in", "Done", "Failing", "Oldest"):
                    assert each.panels[title] == "–"  # noqa: RUF001  a dash for "not known"
                    assert each.notes[title] == "not known: C gearmand"
                assert each.notes["Waiting"] == "0 running"
            for title in ("Wait", "Run time"):
                assert function.notes[title] == "not known: C gearmand"
            row = site.page("/functions").row("waits")
            assert {row[heading] for heading in ("In/s", "Done/s", "Failing")} == {"–"}  # noqa: RUF001
            assert " in the last hour" not in function.text


@pytest.mark.interop
def test_of_a_mixed_fleet_it_is_said_what_is_not_counted(
    tmp_path: Path, servers: list[JobServer]
) -> None:
    ours = servers[0].address
    with (
        running_server(C_GEARMAND, tmp_path) as (host, port),
        running_site(tmp_path, "-h", ours, "-h", f"{host}:{port}") as site,
        Client(f"{host}:{port}") as theirs,
        Client(ours) as client,
    ):
        site.await_round()
        theirs.do_background("both")
        theirs.do_background("theirs")
        client.do_background("both")
        client.do_background("ours")
        site.await_page("/", {"Waiting": "4"})
        notes = {name: site.page(f"/function?name={name}").notes for name in ("both", "ours")}
        assert notes["both"]["Jobs in"] == "1 in the last hour, without 1 C gearmand"
        assert notes["ours"]["Jobs in"] == "1 in the last hour"
        assert site.page("/function?name=theirs").notes["Done"] == "not known: C gearmand"
        assert site.page("/").notes["Jobs in"] == "2 in the last hour, without 1 C gearmand"


def test_times_priorities_and_reasons_of_a_function(site: Site, servers: list[JobServer]) -> None:
    one, two = (server.address for server in servers)
    with running(some_worker(one, two)):
        for address, jobs in ((one, 4), (two, 2)):
            with Client(address) as client:
                for _ in range(jobs):
                    with pytest.raises(JobFailed):
                        client.do("refuse")
    with Client(one) as client:
        client.do_high_background("refuse")
        client.do_low_background("refuse")
        client.do_low_background("refuse")
    site.await_page("/", {"Waiting": "3"})
    page = site.page("/function?name=refuse")
    assert page.row("failed by an exception")["Number"] == "6"
    assert page.row("Run time")["Counted"] == "6"
    assert page.row("Run time")["50 %"].endswith(" ms")
    assert page.row("waiting, high priority")["Number"] == "1"
    assert page.row("waiting, low priority")["Number"] == "2"


def test_newest_failures_and_submitters_of_a_function(site: Site, servers: list[JobServer]) -> None:
    one, two = (server.address for server in servers)
    failed = list[str]()
    with running(some_worker(one, two)):
        with Client(two) as client:
            failed += [client.do_background("refuse") for _ in range(4)]
            client.do_background("double", b"x")
            await_true(lambda: site.page("/failed").text.count("rather not") == 4)
        with Client(one) as client:
            failed += [client.do_background("refuse") for _ in range(3)]
            await_true(lambda: "7 failed jobs" in site.get("/function?name=refuse").text)
            page = site.page("/function?name=refuse")
    (newest,) = (rows for rows in page.tables if rows[0][2:3] == ["Reason"])
    handles = [row[0] for row in newest[1:]]
    assert {*handles[:3]} == {*failed[4:]}
    assert {*handles[3:]} <= {*failed[:4]} and len(handles) == 5
    assert all("rather not" in row[2] for row in newest[1:])
    (submitters,) = (rows for rows in page.tables if rows[0][2:3] == ["Submissions"])
    assert submitters[1:] == [["127.0.0.1", "\u2013", "7", "1", "\u2013"]]


def test_workers_by_pool_app_and_release(
    site: Site, servers: list[JobServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "releases" / "1a2b").mkdir(parents=True)
    (tmp_path / "current").symlink_to("releases/1a2b")
    ids = {"a:1": "current", "a:2": "current", "b:1": "other"}
    with contextlib.ExitStack() as stack:
        for name, release in ids.items():
            worker = Worker([each.address for each in servers], client_id=name)
            worker.function("f")(lambda job: b"")
            labels = f"pool=fast,app=shop app, release={tmp_path / release},x=y"
            monkeypatch.setenv("GEARMAN_WORKER_LABELS", labels)
            stack.enter_context(running(worker))
        monkeypatch.delenv("GEARMAN_WORKER_LABELS")
        stack.enter_context(running(some_worker(servers[0].address)))
        await_true(lambda: "4 processes" in site.page("/workers").text)
        (table,) = site.page("/workers").tables
        cells = [dict(zip(table[0], row, strict=True)) for row in table[1:]]
        assert [[row["Worker"], row["Pool"], row["App"], row["Release"]] for row in cells] == [
            ["a:1", "fast", "shop_app", "1a2b"],
            ["a:2", "fast", "shop_app", "1a2b"],
            ["b:1", "fast", "shop_app", "other"],
            ["some-worker", "\u2013", "\u2013", "\u2013"],
        ]
        (table,) = site.page("/workers?by=release").tables
        assert [row[:2] for row in table[1:]] == [["1a2b", "2"], ["other", "1"], ["not told", "1"]]
        (table,) = site.page("/workers?by=pool").tables
        assert table[1][table[0].index("Releases")] == "1a2b (2) , other (1)"
        assert "1 process on" in site.page("/workers?release=other&pool=fast").text


def test_percentiles_are_those_of_the_buckets() -> None:
    bounds, counts = (1.0, 2.0, 4.0), (10, 10, 30, 40)
    found = [find_percentile(share, bounds, counts) for share in (0.125, 0.25, 0.5, 0.75, 0.99)]
    assert found == [0.5, 1.0, 3.0, 4.0, 4.0]
    assert find_percentile(0.5, bounds, (0, 0, 0, 0)) is None


def test_what_a_worker_is_doing_stands_beside_it(site: Site, servers: list[JobServer]) -> None:
    one, two = (server.address for server in servers)
    busy, over = threading.Event(), threading.Event()
    worker = Worker([one, two], client_id="busy-worker")

    @worker.function("long")
    def long(job: WorkerJob) -> None:
        busy.set()
        over.wait(30)

    with running(worker), Client(two) as client:
        handle = client.do_background("long", b"a workload", unique="my-unique")
        assert busy.wait(30)
        try:
            await_true(lambda: ">2 of 2<" in site.page("/workers").html)
            # A look at one server may be older than the job.
            await_true(lambda: "long for " in site.page("/workers").row("127.0.0.1")["Running now"])
            row = site.page("/workers").row("127.0.0.1")
            assert row["Running now"].startswith("long for ")
            assert row["Servers"] == "2 of 2"
            for path in ("/jobs?state=running", "/jobs?q=my-unique", f"/jobs?q={handle}"):
                found = site.page(path).row(handle)
                assert (found["Worker"], found["Job server"]) == ("busy-worker", two)
            page = site.page(f"/job?server={two}&handle={handle}")
            assert "a workload" in page.text
        finally:
            over.set()
    assert site.get(f"/job?server={two}&handle={handle}").status == 404
    assert "it has ended" in site.page(f"/jobs?q={handle}").text


def test_all_that_is_said_to_be_shown_of_binary_work_is_shown(
    site: Site, servers: list[JobServer]
) -> None:
    with Client(servers[0].address) as client:
        handle = client.do_background("binary", bytes(range(256)) * 100)
    page = site.page(f"/job?server={servers[0].address}&handle={handle}")
    assert "the first 16 KiB" in page.text
    assert "\n3ff0  f0 f1" in page.text


def test_a_function_with_a_blank_name_can_be_seen(site: Site, servers: list[JobServer]) -> None:
    with Client(servers[0].address) as client:
        client.do_background(" ", b"x")
    await_true(lambda: "' '" in [row[0] for each in site.page("/functions").tables for row in each])


def test_a_server_of_another_kind_is_told_in_words(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, contextlib.ExitStack() as peers:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer = peers.enter_context(listening.accept()[0])
                    peer.sendall(b"OK nonsense\r\n" * 20)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        with running_site(tmp_path, "-h", address) as site:
            told = "it does not answer as a Gearman job server does"
            await_true(lambda: told in site.page("/servers").text)
            assert "invalid literal" not in site.page("/servers").text
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(30)
