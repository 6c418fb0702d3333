"""What tests do as a user of the pages."""

import json
import re
from pathlib import Path
from typing import Any

from gearman_py import AdminClient, Client, Worker, WorkerJob
from gearman_py.testing import running
from tests.job_servers import JobServer
from tests.waiting import await_true
from tests.web.site import Answer, Site
from tests.web.test_access import PASSWORD


def log_in(site: Site, name: str) -> None:
    site.cookies.clear()
    assert site.post("/login", {"name": name, "password": PASSWORD}).status == 303


def token_of(site: Site) -> str:
    found = re.search(r'name="form_token" value="(.*?)"', site.page("/servers").html)
    assert found
    return found[1]


def act(site: Site, path: str, **fields: str) -> Answer:
    """Send a form; return the page to which it leads."""
    answer = site.post(path, {"form_token": token_of(site), **fields})
    assert answer.status == 303, answer.text
    return site.get(answer.headers["location"])


def audit_of(folder: Path) -> list[dict[str, Any]]:
    """The lines of the audit log, without logins and what differs each time."""
    entries = [json.loads(line) for line in (folder / "audit").read_text().splitlines()]
    kept = [entry for entry in entries if entry["event"] != "login"]
    for entry in kept:
        assert entry.pop("time")
        assert entry.pop("address") == "127.0.0.1"
    return kept


def await_function(site: Site, name: str) -> None:
    await_true(lambda: name in [row[0] for table in site.page("/").tables for row in table])


def fail_jobs(site: Site, server: JobServer, name: str, reasons: list[str]) -> list[str]:
    """Have background jobs fail, one after the other; return their handles."""
    worker = Worker([server.address], client_id="some-worker")

    @worker.function(name)
    def fail(job: WorkerJob) -> None:
        job.fail(job.workload.decode())

    handles = []
    with running(worker), Client(server.address) as client, AdminClient(server.address) as admin:
        for reason in reasons:
            handles.append(client.do_background(name, reason))
            await_true(lambda: [r.handle for r in admin.find_jobs("failed")][:1] == handles[-1:])
    await_true(lambda: handles[-1] in site.page("/failed").text)
    return handles
