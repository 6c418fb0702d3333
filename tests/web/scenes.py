"""Fleets to look at: one that was just installed, one that works, one that is on fire."""

import itertools
import json
import math
import random
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gearman_py import AdminClient, Client, Worker, WorkerJob
from gearman_py.admin.answers import FunctionStats
from gearman_py.testing import running
from gearman_py.web.counters import Counters
from gearman_py.web.history import DAY, HOUR, History
from tests.job_servers import JobServer
from tests.waiting import await_true
from tests.web.site import Site, running_site

# Functions: jobs a second, seconds of a job.
FUNCTIONS = {
    "resize": (8.0, 0.05),
    "mail.send": (5.0, 0.02),
    "thumbnails.make": (3.0, 0.08),
    "search.index": (2.0, 0.03),
    "report.pdf": (0.4, 0.3),
    "invoice.export": (0.2, 0.2),
}
HOSTS = (  # with pool and release
    ("web1", "pages", "4f2a9c17d0b3"),
    ("web2", "pages", "4f2a9c17d0b3"),
    ("batch1", "nightly", "c81e03b5527a"),
)


@contextmanager
def empty_fleet(folder: Path) -> Iterator[Site]:
    """One job server that has not been used."""
    with ExitStack() as stack:
        server = _start(stack, folder, "one")
        yield stack.enter_context(_site(folder, [server]))


@contextmanager
def healthy_fleet(folder: Path) -> Iterator[Site]:
    """Two job servers with workers for everything, and jobs."""
    with ExitStack() as stack:
        servers = [_start(stack, folder, name) for name in ("one", "two")]
        write_past(folder / "history", trouble=False)
        write_deploys(folder / "runs.jsonl", trouble=False)
        _start_workers(stack, servers, [*FUNCTIONS])
        _set_schedules(servers)
        site = stack.enter_context(_site(folder, servers))
        with Client([server.address for server in servers]) as client:
            for number in range(8):
                for name, (rate, _) in FUNCTIONS.items():
                    for part in range(math.ceil(rate / 2)):
                        client.do_background(name, f"{number}", unique=f"{name}-{number}-{part}")
                time.sleep(0.5)
            client.do_background("report.pdf", '{"month": "2026-11"}', at=time.time() + 7200)
            client.do_background("resize", "hold", unique="picture-4711")
            await_true(lambda: site.page("/").panels["Waiting"] == "0")
            await_true(lambda: "picture-4711" in site.page("/jobs?state=running").text)
            yield site


@contextmanager
def burning_fleet(folder: Path) -> Iterator[Site]:
    """A job server is down, a function has no workers, another fails, another is too slow."""
    with ExitStack() as stack:
        servers = [_start(stack, folder, name) for name in ("one", "two", "three")]
        write_past(folder / "history", trouble=True)
        write_deploys(folder / "runs.jsonl", trouble=True)
        _start_workers(stack, servers[:2], [name for name in FUNCTIONS if name != "report.pdf"])
        with Client([server.address for server in servers[:2]]) as client:
            for number in range(340):
                text = f'{{"report": {number}, "format": "pdf"}}'
                client.do_background("report.pdf", text, unique=f"report-{number}")
        site = stack.enter_context(_site(folder, servers))
        site.await_round()
        with Client([server.address for server in servers[:2]]) as client:
            for number in range(40):
                client.do_background("mail.send", "fail" if number % 3 else "", unique=f"m{number}")
            for number in range(900):
                client.do_background("resize", "hold", unique=f"picture-{number}")
            servers[2].stop()
            await_true(lambda: "has not answered" in site.page("/").text)
            yield site


def _set_schedules(servers: list[JobServer]) -> None:
    one, two = (AdminClient(server.address) for server in servers)
    with one, two:
        one.schedule("hourly index", "0 * * * *", "search.index")
        one.schedule("nightly report", "30 2 * * *", "report.pdf", zone="Europe/Berlin")
        two.schedule("month-end", "0 6 L * *", "invoice.export", missed="all", overlap="skip")
        two.schedule("newsletter", "0 5 * * MON", "mail.send", missed="none")
        two.pause_schedule("newsletter")
        one.limit("report.pdf", running=4, rate="20/m")


def _start(stack: ExitStack, folder: Path, name: str) -> JobServer:
    (folder / name).mkdir()
    server = JobServer(folder / name)
    server.start()
    stack.callback(server.stop)
    return server


def _site(folder: Path, servers: list[JobServer]) -> AbstractContextManager[Site]:
    hosts = ",".join(server.address for server in servers)
    files = ("--history", str(folder / "history"), "--deploys", str(folder / "runs.jsonl"))
    return running_site(folder, "-h", hosts, *files)


def write_deploys(path: Path, *, trouble: bool) -> None:
    """What the toolkit wrote down; in ``trouble``, an upgrade of an app has just failed."""
    hosts, releases = ["batch1", "jobs1", "jobs2", "web1", "web2"], ["8d31c07ea4b2", "4f2a9c17d0b3"]
    common = {"who": "ann@laptop", "result": "ok"}
    runs: list[dict[str, Any]] = [
        {"doing": "invoke deploy --hosts inventory/prod", "changes": 61, "from": None},
        {"doing": "invoke upgrade --hosts inventory/prod", "changes": 20, "from": releases[0]},
        {"doing": "invoke deploy --hosts inventory/prod --limit worker", "changes": 3},
    ]
    if trouble:
        why = "failed: web1: the worker's check failed: mail.send was not done within 10 s"
        app = {"app": "shop", "release": "c81e03b5527a", "from": releases[1], "who": "bob@desk"}
        doing = "invoke upgrade --app shop --hosts inventory/prod"
        runs.append({**app, "doing": doing, "changes": 4, "result": why, "hosts": ["web1"]})
        runs.append({**app, "doing": doing, "changes": 2, "result": "rolled back"})
        runs[-1]["hosts"] = ["batch1", "web2"]
    with path.open("w") as file:
        for number, run in enumerate(runs):
            at = datetime(2026, 11, 20 + 2 * number, 9, 41, tzinfo=UTC).isoformat()
            release = releases[min(number, 1)]
            entry = {"at": at, "hosts": hosts, "release": release, "from": release}
            file.write(json.dumps({**common, **entry, **run}) + "\n")


def _start_workers(stack: ExitStack, servers: list[JobServer], functions: list[str]) -> None:
    over = threading.Event()
    for number, (host, pool, release) in enumerate(HOSTS):
        worker = Worker(
            [server.address for server in servers],
            client_id=f"{host}:{2301 + 17 * number},pool={pool},app=shop,release={release}",
            concurrency=4,
        )
        for name in functions:
            seconds = FUNCTIONS[name][1]

            def work(job: WorkerJob, seconds: float = seconds) -> bytes:
                if job.workload == b"fail":
                    job.fail("the mail server refuses us")
                over.wait(None if job.workload == b"hold" else seconds / 10)
                return b"done"

            worker.function(name)(work)
        stack.enter_context(running(worker))
    stack.callback(over.set)


def write_past(path: Path, *, trouble: bool) -> None:
    """8 days of history, as if there had been jobs; ``trouble`` began 20 minutes ago."""
    now = time.time()
    random_ = random.Random(4711)  # noqa: S311  # the same in each run
    history = History(path)
    moments = [
        *range(int(now - 8 * DAY), int(now - HOUR), 600),
        *range(int(now - HOUR), int(now), 15),
    ]
    for moment, following in itertools.pairwise(moments):
        burning = trouble and now - moment < 1200
        stats, news = {}, {}
        for name, (rate, run) in FUNCTIONS.items():
            seconds = following - moment
            day = 1 + 0.5 * math.sin(2 * math.pi * moment / DAY) + random_.uniform(-0.15, 0.15)
            accepted = round(rate * day * seconds)
            slow = burning and name in ("resize", "report.pdf")
            done = 0 if slow else accepted
            failed = round(done * (0.6 if burning and name == "mail.send" else 0.002))
            waiting = round((1200 - now + moment) * rate / 8) if slow else random_.randrange(4)
            news[name] = Counters(
                accepted=accepted,
                started=done,
                completed=done - failed,
                failed=failed,
                wait_seconds=done * random_.uniform(0.01, 0.03),
                run_seconds=done * run * random_.uniform(0.8, 1.2),
            )
            gone = burning and name == "report.pdf"
            stats[name] = FunctionStats(
                *(name, waiting + 1, 1, waiting, 0, 0 if gone else 12),
                oldest_seconds=1200 - now + moment if slow else random_.uniform(0, 0.3),
            )
        total = FunctionStats(
            *("", sum(row.jobs for row in stats.values()), round(6 * day)),
            *(sum(row.waiting for row in stats.values()), 0, 2 if burning else 3),
            oldest_seconds=max(row.oldest_seconds for row in stats.values()),
        )
        history.record(moment, stats, total, news, {})
    history.close()
