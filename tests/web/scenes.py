"""Fleets to look at: one that was just installed, one that works, one that is on fire."""

import itertools
import json
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol

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
TROUBLE = {"mail.send": "fails", "resize": "hangs"}
LONG = "picture-4711"  # the unique of a job that runs for long
HOSTS = (  # with pool and release
    ("web1", "pages", "4f2a9c17d0b3"),
    ("web2", "pages", "4f2a9c17d0b3"),
    ("batch1", "nightly", "c81e03b5527a"),
)


Reach = Callable[[JobServer], str]
ADDRESS: Reach = attrgetter("address")
"""Where the dashboard asks a job server."""


@dataclass
class Scene:
    """A fleet and its dashboard. ``addresses``: of the job servers that answer, by name."""

    site: Site
    addresses: dict[str, str]


class Fleet(Protocol):
    """A context in which jobs come for ``seconds`` first."""

    def __call__(
        self, folder: Path, seconds: float = ..., reach: Reach = ...
    ) -> AbstractContextManager[Scene]: ...


@contextmanager
def empty_fleet(folder: Path, seconds: float = 0, reach: Reach = ADDRESS) -> Iterator[Scene]:
    """One job server that has not been used."""
    with ExitStack() as stack:
        server = _start(stack, folder, "jobs1")
        yield stack.enter_context(_scene(folder, {"jobs1": server}, reach))


@contextmanager
def healthy_fleet(folder: Path, seconds: float = 4, reach: Reach = ADDRESS) -> Iterator[Scene]:
    """Two job servers with workers for everything, and jobs."""
    with ExitStack() as stack:
        servers = {name: _start(stack, folder, name) for name in ("jobs1", "jobs2")}
        write_past(folder / "history", time.time())
        write_deploys(folder / "runs.jsonl", trouble=False)
        for host in HOSTS:
            _start_worker(stack, servers, host, [*FUNCTIONS])
        _set_schedules(servers)
        scene = stack.enter_context(_scene(folder, servers, reach))
        with Client([*scene.addresses.values()]) as client:
            client.do_background("report.pdf", '{"month": "2026-11"}', at=time.time() + 7200)
            client.do_background("resize", '{"width": 640}', unique=LONG)
            submit_jobs(client, seconds)
            await_true(lambda: scene.site.page("/").panels["Waiting"] == "0")
            await_true(lambda: LONG in scene.site.page("/jobs?state=running").text)
            yield scene


@contextmanager
def burning_fleet(folder: Path, seconds: float = 1, reach: Reach = ADDRESS) -> Iterator[Scene]:
    """A job server is down, a function has no workers, another fails, and another stands still."""
    with ExitStack() as stack:
        servers = {name: _start(stack, folder, name) for name in ("jobs1", "jobs2", "jobs3")}
        write_past(folder / "history", time.time())
        write_deploys(folder / "runs.jsonl", trouble=True)
        _set_schedules(servers)
        up = {name: servers[name] for name in ("jobs1", "jobs2")}
        *others, last = HOSTS
        works = [name for name in FUNCTIONS if name not in ("report.pdf", "resize")]
        for host in others:
            _start_worker(stack, up, host, works, in_trouble=True)
        _start_worker(stack, up, last, ["resize"], in_trouble=True)
        scene = stack.enter_context(_scene(folder, servers, reach))
        scene.site.await_round()
        servers["jobs3"].stop()
        del scene.addresses["jobs3"]
        with Client([*scene.addresses.values()]) as client:
            submit_jobs(client, seconds)
            await_true(lambda: "has not answered" in scene.site.page("/").text)
            yield scene


def submit_jobs(client: Client, seconds: float) -> None:
    """Submit jobs of each function at its rate."""
    began, counts = time.monotonic(), Counter[str]()
    while (passed := time.monotonic() - began) < seconds:
        for name, (rate, _) in FUNCTIONS.items():
            while counts[name] < rate * passed:
                counts[name] += 1
                number = 4000 + counts[name]
                workload = f'{{"customer": {number % 7}, "number": {number}}}'
                client.do_background(name, workload, unique=f"{name}-{number}")
        time.sleep(0.1)  # jobs come at a rate


def _set_schedules(servers: Mapping[str, JobServer]) -> None:
    one, two, *_ = (AdminClient(server.address) for server in servers.values())
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
    server.start("--job-handle-prefix", f"H:{name}")
    stack.callback(server.stop)
    return server


@contextmanager
def _scene(folder: Path, servers: Mapping[str, JobServer], reach: Reach) -> Iterator[Scene]:
    hosts = ",".join(map(reach, servers.values()))
    names = [word for name in servers for word in ("--name", name)]
    files = ("--history", str(folder / "history"), "--deploys", str(folder / "runs.jsonl"))
    with running_site(folder, "-h", hosts, *names, *files) as site:
        yield Scene(site, {name: server.address for name, server in servers.items()})


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


def _start_worker(
    stack: ExitStack,
    servers: Mapping[str, JobServer],
    host: tuple[str, str, str],
    functions: Sequence[str],
    *,
    in_trouble: bool = False,
) -> None:
    over = threading.Event()
    name, pool, release = host
    worker = Worker(
        [server.address for server in servers.values()],
        client_id=f"{name}:2301,pool={pool},app=shop,release={release}",
        concurrency=4,
    )
    for function in functions:
        trouble = TROUBLE.get(function, "") if in_trouble else ""
        worker.function(function)(partial(_work, over, FUNCTIONS[function][1], trouble))
    stack.enter_context(running(worker))
    stack.callback(over.set)


def _work(over: threading.Event, seconds: float, trouble: str, job: WorkerJob) -> bytes:
    if trouble == "fails" and not job.unique.endswith(("0", "1", "2")):
        job.fail("the mail server refuses us")
    over.wait(None if trouble == "hangs" or job.unique == LONG else seconds)
    return b"done"


def write_past(path: Path, until: float) -> None:
    """8 days of history, as if there had been jobs."""
    random_ = random.Random(4711)  # noqa: S311  # the same in each run
    history = History(path)
    moments = [
        *range(int(until - 8 * DAY), int(until - HOUR), 600),
        *range(int(until - HOUR), int(until), 15),
    ]
    for moment, following in itertools.pairwise(moments):
        stats, news = {}, {}
        day = 1 + 0.5 * math.sin(2 * math.pi * (moment - until) / DAY)
        for name, (rate, run) in FUNCTIONS.items():
            count = round(rate * (day + random_.uniform(-0.15, 0.15)) * (following - moment))
            failed = round(count * 0.002)
            waiting = int(random_.random() < 0.05)
            news[name] = Counters(
                accepted=count,
                started=count,
                completed=count - failed,
                failed=failed,
                wait_seconds=count * random_.uniform(0.002, 0.006),
                run_seconds=count * run * random_.uniform(0.8, 1.2),
            )
            stats[name] = FunctionStats(
                *(name, waiting + 1, 1, waiting, 0, 24),
                oldest_seconds=waiting * random_.random() / 4,
            )
        total = FunctionStats(
            *("", sum(row.jobs for row in stats.values()), round(6 * day)),
            *(sum(row.waiting for row in stats.values()), 0, 3),
            oldest_seconds=max(row.oldest_seconds for row in stats.values()),
        )
        history.record(moment, stats, total, news, {})
    history.close()
