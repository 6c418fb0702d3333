"""Users who operate limit and purge functions, change jobs that wait, and steer schedules."""

import re
import time
from pathlib import Path

import pytest

from gearman_py import AdminClient, Client
from tests.job_servers import JobServer
from tests.web.operators import act, audit_of, await_function, log_in, token_of
from tests.web.site import Site

pytestmark = pytest.mark.slow
ODD = "a <b>&\"'é/?=%#"
QUOTED = "a%20%3Cb%3E%26%22%27%C3%A9%2F%3F%3D%25%23"


def test_limits_are_set_at_all_servers_and_the_form_shows_them(
    site: Site, servers: list[JobServer], tmp_path: Path
) -> None:
    one, two = (server.address for server in servers)
    with AdminClient(one) as admin:
        admin.limit(ODD, per_key=2, separator="/")
        await_function(site, ODD)
        form = site.page(f"/function/limits?function={QUOTED}")
        assert "different limits" in form.text
        assert 'name="separator" maxlength="16" value="/"' in form.html
        limits = {"running": "4", "rate": "20/m", "per_key": "", "separator": ":"}
        page = act(site, "/function/limit", function=ODD, **limits).document
        assert f"{one}: limits set" in page.text
        shown = f"{one} at most 4 running, 20 started in 1 min"
        assert shown in " ".join(page.text.split())
        for server in (one, two):
            with AdminClient(server) as each:
                (stats,) = each.stats()
                found = stats.max_running, stats.max_started, stats.period_seconds
                assert (*found, stats.max_per_key) == (4, 20, 60.0, 0)
        form = site.page(f"/function/limits?function={QUOTED}")
        assert "different limits" not in form.text
        assert 'name="rate" pattern="0|[0-9]+/[0-9]*[smhd]" value="20/m"' in form.html
        none = dict.fromkeys(limits, "")
        page = act(site, "/function/limit", function=ODD, **none).document
        assert f"{two}: no limits" in page.text
        (stats,) = admin.stats()
        assert (stats.max_running, stats.max_started) == (0, 0)
    assert [(entry["event"], entry["user"], entry.get("rate")) for entry in audit_of(tmp_path)] == [
        ("limit", "alice", "20/m"),
        ("limit", "alice", ""),
    ]


def test_a_form_of_limits_sets_only_what_was_touched(
    site: Site, servers: list[JobServer], tmp_path: Path
) -> None:
    addresses = [server.address for server in servers]
    with AdminClient(addresses) as admin:
        admin.limit("f", running=3, per_key=2, separator="/")
        await_function(site, "f")
        form = site.page("/function/limits?function=f")
        names = r'(was_\w+|running|rate|per_key|separator)"[^>]* value="(.*?)"'
        fields = dict(re.findall(rf'name="{names}', form.html))
        assert (fields["was_running"], fields["running"], fields["separator"]) == ("3", "3", "/")
        admin.limit("f", running=1)  # by someone else, while the form is open
        page = act(site, "/function/limit", function="f", **fields).document
        assert page.text.count("nothing was changed") == 2
        act(site, "/function/limit", function="f", **fields | {"rate": "20/m"})
        act(site, "/function/limit", function="f", **fields | {"per_key": "5"})
        rows = [row for row in admin.stats() if row.name == "f"]
        found = {(row.max_running, row.max_started, row.max_per_key) for row in rows}
        assert (found, {row.key_separator for row in rows}) == ({(1, 20, 5)}, {"/"})
    said = [{name for name in fields if name in entry} for entry in audit_of(tmp_path)]
    assert said == [set(), {"rate"}, {"per_key", "separator"}]


def test_a_purge_tells_which_servers_do_not_answer(site: Site, servers: list[JobServer]) -> None:
    one, two = servers
    with AdminClient(one.address) as admin, Client(two.address) as client:
        admin.create_function("f")
        client.do_background("f")
        await_function(site, "f")
        assert "Cancel 1 job of f?" in site.page("/function/confirm?function=f").text
        two.stop()
        asked = site.page("/function/confirm?function=f").text
        assert "No job of this function waits at the job servers that answer" in asked
        assert f"{two.address}: " in asked


def test_limits_that_make_no_sense_are_refused(site: Site, servers: list[JobServer]) -> None:
    with AdminClient(servers[0].address) as admin:
        admin.limit("f", running=1)
        await_function(site, "f")
        fields = {"form_token": token_of(site), "function": "f"}
        for wrong in ({"running": "-1"}, {"per_key": "many"}, {"rate": "1 /s"}):
            assert site.post("/function/limit", {**fields, **wrong}).status == 400
        page = act(site, "/function/limit", function="f", rate="often").document
        assert "failed at 2 of 2 job servers" in page.text
        assert page.text.count(f"{servers[0].address}: ") == 1


def test_a_purge_tells_the_number_of_jobs_first(
    site: Site, servers: list[JobServer], tmp_path: Path
) -> None:
    one, two = (server.address for server in servers)
    with Client(one) as client, Client(two) as other:
        for number in range(3):
            client.do_background(ODD, unique=str(number))
        other.do_background(ODD, at=time.time() + 3600)
        await_function(site, ODD)
        asked = site.page(f"/function/confirm?function={QUOTED}")
        assert f"Cancel 4 jobs of {ODD}?" in asked.text
        assert "3 waiting and 1 for later" in asked.text
        assert f"{two}: 1 job" in asked.text
        page = act(site, "/function/purge", function=ODD).document
        assert f"{one}: 3 jobs cancelled" in page.text
        assert f"{two}: 1 job cancelled" in page.text
        with AdminClient([one, two]) as admin:
            assert [row.jobs for row in admin.stats()] == [0, 0]
    (entry,) = audit_of(tmp_path)
    assert (entry["event"], entry["function"], entry["outcome"]) == ("purge", ODD, "done")


def test_a_job_that_waits_is_changed_on_its_page(
    site: Site, servers: list[JobServer], tmp_path: Path
) -> None:
    server = servers[1].address
    with Client(server) as client, AdminClient(server) as admin:
        first = client.do_background("f", b"first")
        second = client.do_background("f", b"second", unique="second")
        await_function(site, "f")
        path = f"/job?server={server}&handle={second}"
        assert re.search(r"<option selected>normal</option>", site.page(path).html)
        about = {"server": server, "handle": second}
        page = act(site, "/job/prioritize", **about, priority="high").document
        assert f"{second} has high priority" in page.text
        assert [row.handle for row in admin.find_jobs(function="f")] == [second, first]
        page = act(site, "/job/reschedule", **about, at="2097-01-31T18:00").document
        assert "not before 2097-01-31 18:00:00" in page.text
        (row,) = admin.find_jobs("scheduled")
        assert time.localtime(row.due)[:5] == (2097, 1, 31, 18, 0)
        assert 'value="2097-01-31T18:00"' in site.page(path).html
        page = act(site, "/job/run-now", **about, function="f").document
        assert f"{second} is the next job" in page.text
        assert [row.handle for row in admin.find_jobs()] == [second, first]
        refused = act(site, "/job/run-now", server=server, handle="H:none:1").document
        assert "failed at 1 of 1 job server" in refused.text
    fields = {"form_token": token_of(site), **about}
    assert site.post("/job/prioritize", {**fields, "priority": "highest"}).status == 400
    assert site.post("/job/reschedule", {**fields, "at": "soon"}).status == 400
    assert site.post("/job/drop", fields).status == 404
    assert site.post("/job/run-now", {**fields, "server": "none:4730"}).status == 404
    entries = [(entry["event"], entry["handle"]) for entry in audit_of(tmp_path)]
    assert entries[:3] == [(event, second) for event in ("prioritize", "reschedule", "run now")]


def test_schedules_are_listed_paused_and_run(
    site: Site, servers: list[JobServer], tmp_path: Path
) -> None:
    one, two = (server.address for server in servers)
    with AdminClient(one) as admin, AdminClient(two) as other:
        admin.schedule(ODD, "30 2 * * *", "f", zone="Europe/Berlin", overlap="skip")
        other.schedule("new year", "0 0 1 1 *", "g", missed="none")
        page = site.page("/schedules")
        row = page.row(ODD)
        assert row["When"] == "30 2 * * * Europe/Berlin"
        assert re.match(r"in \d", row["Next run"])
        assert (row["If missed"], row["If still running"]) == ("one run", "left out")
        assert page.row("new year")["Job server"] == two
        assert [row[0] for row in site.page("/schedules?q=new").tables[0][1:]] == ["new year"]
        page = act(site, "/schedule/pause", server=one, schedule=ODD).document
        assert f"{ODD} paused" in page.text
        assert page.row(ODD)["Next run"] == "paused"
        page = act(site, "/schedule/run", server=one, schedule=ODD).document
        (job,) = admin.find_jobs()
        assert f"submitted as job {job.handle}" in page.text
        page = act(site, "/schedule/resume", server=one, schedule=ODD).document
        assert re.match(r"in \d", page.row(ODD)["Next run"])
        gone = act(site, "/schedule/run", server=two, schedule=ODD).document
        assert "failed at 1 of 1 job server" in gone.text
    events = [(entry["event"], entry["schedule"]) for entry in audit_of(tmp_path)]
    asked = ("pause schedule", "run schedule", "resume schedule", "run schedule")
    assert events == [(event, ODD) for event in asked]


def test_who_reads_sees_no_buttons_and_is_refused(
    site: Site, servers: list[JobServer], tmp_path: Path
) -> None:
    server = servers[0].address
    with Client(server) as client, AdminClient(server) as admin:
        handle = client.do_background("f")
        admin.schedule("nightly", "0 0 * * *", "f")
        await_function(site, "f")
        log_in(site, "bob")
        paths = ("/function?name=f", f"/job?server={server}&handle={handle}", "/schedules")
        for path in paths:
            assert 'method="post"' not in site.page(path).html.partition("<main")[2], path
        for path in ("/function/limits?function=f", "/function/confirm?function=f"):
            assert site.get(path).status == 403
        token = token_of(site)
        forms = ("function/limit", "function/purge", "job/run-now", "job/prioritize")
        for path in (*forms, "job/reschedule", "schedule/run", "schedule/pause"):
            fields = {"function": "f", "server": server, "handle": handle, "schedule": "nightly"}
            assert site.post(f"/{path}", {**fields, "form_token": token}).status == 403
        assert [row.handle for row in admin.find_jobs()] == [handle]
    refused = [entry["outcome"].partition(":")[0] for entry in audit_of(tmp_path)]
    assert refused == ["refused"] * 7
