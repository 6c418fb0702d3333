"""Each thing that Gearman does, by C, PHP and Perl clients and workers, on our job server."""

import time
from collections.abc import Iterator
from contextlib import closing
from itertools import count, product

import pytest

from gearman_py.admin.client import AdminClient
from gearman_py.protocol.packets import Packet
from tests.interop.programs import KINDS, Lines, Stage, ask, hear, run, say, tool
from tests.job_servers import JobServer
from tests.peer import Peer
from tests.waiting import await_true

PAIRS = list(product(KINDS, KINDS))
DYING = ("PHP", "Perl")  # the languages whose functions can throw
NAMES = (f"f{number}" for number in count())

each_kind = pytest.mark.parametrize("kind", KINDS)
each_pair = pytest.mark.parametrize(
    ("client", "worker"),
    PAIRS,
    ids=[f"{client}-client-{worker}-worker" for client, worker in PAIRS],
)


@pytest.fixture
def server(shared_gearmand: JobServer) -> str:
    return shared_gearmand.address


@pytest.fixture
def function() -> str:
    """A name that no other test uses."""
    return next(NAMES)


@pytest.fixture
def stage(shared_gearmand: JobServer) -> Iterator[Stage]:
    with closing(Stage(shared_gearmand)) as stage:
        yield stage


BEHAVIOURS = ("echo", "tell", "fail", "except")


@pytest.fixture(scope="module")
def workers(shared_gearmand: JobServer) -> Iterator[None]:
    """A worker of each kind that does all of these, as functions KIND_BEHAVIOUR."""
    with closing(Stage(shared_gearmand)) as stage:
        for kind in KINDS:
            stage.worker(kind, *(f"{kind}_{behaviour} {behaviour}" for behaviour in BEHAVIOURS))
        for kind in DYING:
            stage.worker(kind, f"{kind}_die die", f"{kind}_lives echo")
        yield


def heard(client: str, server: str, function: str, *words: str, workload: bytes = b"x") -> Lines:
    """What a client hears of a job once it is created."""
    created, *events = ask(client, "do", server, function, *words, workload=workload)
    assert created.startswith(b"created H:")
    return events


# What workers say.


@pytest.mark.usefixtures("workers")
@each_pair
def test_data_warnings_and_progress_come_whole_and_in_order(
    client: str, worker: str, server: str
) -> None:
    events = heard(client, server, f"{worker}_tell")
    assert [event.decode() for event in events] == [
        *("data first", "status 1/2", "warning careful"),
        *("data second", "status 2/2", "complete told"),
    ]


@pytest.mark.usefixtures("workers")
@each_pair
def test_failure(client: str, worker: str, server: str) -> None:
    assert heard(client, server, f"{worker}_fail") == [b"fail"]


@pytest.mark.usefixtures("workers")
@each_pair
def test_exception_reaches_who_asked_for_exceptions(client: str, worker: str, server: str) -> None:
    events = heard(client, server, f"{worker}_except", "exceptions=1")
    assert events == [b"exception no such luck"]
    assert heard(client, server, f"{worker}_echo") == [b"complete x"], "the worker lives"


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("worker", DYING)
@each_kind
def test_worker_outlives_what_its_function_throws(kind: str, worker: str, server: str) -> None:
    event, *text = heard(kind, server, f"{worker}_die", "exceptions=1")
    # Perl freezes what its workers die of; PHP's says something of its own.
    said = {"Perl": b"no such luck", "PHP": b"Unable to add worker function"}[worker]
    assert event.startswith(b"exception ")
    assert said in b"\n".join([event, *text])
    assert heard(kind, server, f"{worker}_lives") == [b"complete x"]


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("worker", KINDS)
@pytest.mark.parametrize("client", ["C", "Perl"])  # PHP's always ask
def test_exception_is_a_failure_to_others(client: str, worker: str, server: str) -> None:
    assert heard(client, server, f"{worker}_except") == [b"fail"]


# Workloads.


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize(
    "workload",
    [b"\0", b"a\0\0b\xff\0", bytes(20 * 2**20)],
    ids=["NUL", "NULs", "20-MiB"],
)
@each_pair
def test_workload_comes_back_as_it_went(
    client: str, worker: str, workload: bytes, server: str
) -> None:
    events = heard(client, server, f"{worker}_echo", workload=workload)
    whole = events == [b"complete " + workload]
    assert whole  # by itself: no test's end comes before pytest has compared 20 MiB


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("worker", KINDS)
@pytest.mark.parametrize("client", ["C", "Perl"])  # PHP's refuse to send it
def test_empty_workload_comes_back_empty(client: str, worker: str, server: str) -> None:
    assert heard(client, server, f"{worker}_echo", workload=b"") == [b"complete "]


@pytest.mark.usefixtures("workers")
@each_pair
def test_hundreds_of_jobs_in_flight(client: str, worker: str, server: str) -> None:
    answers = ask(client, "many", server, f"{worker}_echo", 300)
    assert sorted(answers) == sorted(b"%d %d" % (number, number) for number in range(1, 301))


@pytest.mark.parametrize("kind", ["C", "PHP"])
def test_ping(kind: str, server: str) -> None:
    assert ask(kind, "ping", server, workload=b"a\0b") == []


# Queues.


@each_kind
def test_priority_of_foreground_jobs(kind: str, server: str, function: str, stage: Stage) -> None:
    for priority in ("low", "normal", "high"):
        words = [f"priority={priority}"] if priority != "normal" else []
        client = stage.client(kind, function, *words, workload=priority.encode())
        assert hear(client).startswith(b"created")
    worker = stage.worker(kind, f"{function} print")
    assert [hear(worker) for _ in range(3)] == [b"high", b"normal", b"low"]


@each_kind
def test_priority_of_background_jobs(kind: str, server: str, function: str, stage: Stage) -> None:
    for priority in ("low", "normal", "high"):
        words = [f"priority={priority}"] if priority != "normal" else []
        ask(kind, "queue", server, function, *words, workload=priority.encode())
    worker = stage.worker(kind, f"{function} print")
    assert [hear(worker) for _ in range(3)] == [b"high", b"normal", b"low"]


@each_pair
def test_status_of_a_background_job_before_during_and_after(
    client: str, worker: str, server: str, function: str, stage: Stage
) -> None:
    (handle,) = ask(client, "queue", server, function, workload=b"x")

    def status() -> bytes:
        (answer,) = ask(client, "status", server, handle.decode())
        return answer

    assert status() == b"1 0 0 0"
    holding = stage.worker(worker, f"{function} hold")
    assert hear(holding) == b"held"
    assert status() == b"1 1 3 7"
    say(holding)
    await_true(lambda: status() == b"0 0 0 0")


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=[f"{one}-{two}" for one, two in PAIRS])
def test_clients_of_the_same_unique_share_one_job(
    first: str, second: str, server: str, function: str, stage: Stage
) -> None:
    clients = [stage.client(kind, function, "unique=u") for kind in (first, second)]
    handle, other = map(hear, clients)
    assert handle == other
    assert ask("PHP", "status", server, "unique", "u") == [b"1 0 0 0"]
    worker = stage.worker(second, f"{function} print")
    assert [hear(client) for client in clients] == [b"complete printed"] * 2
    assert ask("PHP", "status", server, "unique", "u") == [b"0 0 0 0"]
    worker.kill()
    assert worker.communicate()[0] == b"x\n"


# Time.


@each_kind
def test_client_gives_up_after_its_timeout_and_leaves_no_job(
    kind: str, server: str, function: str
) -> None:
    assert heard(kind, server, function, "timeout=200") == [b"timeout"]
    await_true(lambda: jobs(server, function) == 0)


def jobs(server: str, function: str) -> int:
    with AdminClient(server) as admin:
        return sum(row.total for row in admin.status() if row.name == function)


@each_kind
def test_job_goes_to_another_worker_after_its_time_limit(
    kind: str, server: str, function: str, stage: Stage
) -> None:
    slow = stage.worker(kind, f"{function} hold", f"{function}_more echo", limit=1000)
    client = stage.client(kind, function)
    assert hear(client).startswith(b"created")
    assert (hear(slow), hear(client)) == (b"held", b"status 3/7")
    stage.worker(kind, f"{function} echo")
    assert hear(client) == b"complete x"
    say(slow)
    if kind != "Perl":  # which dies of the answer to its late result
        assert heard(kind, server, f"{function}_more") == [b"complete x"]


def test_c_epoch_job_waits_for_its_time(server: str, function: str, stage: Stage) -> None:
    due = int(time.time()) + 2
    (handle,) = ask("C", "epoch", server, function, due, workload=b"in time")
    assert ask("C", "status", server, handle.decode()) == [b"1 0 0 0"]
    assert hear(stage.worker("C", f"{function} print")) == b"in time"
    assert due <= time.time()


# Several of them.


@pytest.mark.parametrize("reducer", KINDS)
def test_c_reduce_job_is_parted_done_and_joined(
    reducer: str, server: str, function: str, stage: Stage
) -> None:
    stage.worker("C", f"{function} split")
    worker = stage.worker(reducer, f"{function}_reducer print")
    answer = ask("C", "reduce", server, function, f"{function}_reducer", workload=b"a b c")
    assert answer == [b"printed printed printed"]
    assert sorted(hear(worker) for _ in range(3)) == [b"a", b"b", b"c"]


@pytest.mark.parametrize("worker", ["C", "Perl"])  # PHP's addServers throws, C's clients give up
def test_first_server_in_the_list_of_perl_client_and_worker_is_down(
    worker: str, server: str, function: str, stage: Stage
) -> None:
    servers = f"127.0.0.1:1,{server}"
    stage.worker(worker, f"{function} echo", servers=servers)
    assert heard("Perl", servers, function) == [b"complete x"]


@each_kind
def test_worker_comes_back_after_a_restart_of_the_server(
    kind: str, gearmand: JobServer, function: str
) -> None:
    with closing(Stage(gearmand)) as stage:
        stage.worker(kind, f"{function} echo")
        gearmand.stop()
        gearmand.start()
        assert heard(kind, gearmand.address, function) == [b"complete x"]


# Debian's `gearman`.


def waiting(server: str, unique: str) -> int:
    """How many submissions wait for the job of this unique."""
    host, port = server.split(":")
    peer = Peer((host, int(port)))
    with peer.socket:
        return int(peer.ask(Packet.GET_STATUS_UNIQUE, unique.encode())[-1])


def test_gearman_tool_priorities_and_a_count_of_jobs(
    server: str, function: str, stage: Stage
) -> None:
    for option in ("-bL", "-b", "-bI"):
        run(tool(server, option, "-f", function), option.encode() + b"\n")
    worker = stage.start(tool(server, "-w", "-c", "3", "-f", function))
    assert [hear(worker) for _ in range(3)] == [b"-bI", b"-b", b"-bL"]
    assert worker.wait(30) == 0


@pytest.mark.usefixtures("workers")
def test_gearman_tool_as_a_client_line_by_line(server: str) -> None:
    answer = run(tool(server, "-n", "-P", "-f", "PHP_echo"), b"one\ntwo\n")
    assert answer == [b"PHP_echo: one", b"PHP_echo: two"]


def test_gearman_tool_as_a_worker_line_by_line(server: str, function: str, stage: Stage) -> None:
    stage.serving(tool(server, "-w", "-n", "-f", function, "--", "cat"), function)
    assert heard("C", server, function, workload=b"one\n") == [b"data one", b"", b"complete "]


def test_gearman_tool_of_the_same_unique(server: str, function: str, stage: Stage) -> None:
    clients = [stage.start(tool(server, "-u", function, "-f", function, word)) for word in "xy"]
    await_true(lambda: waiting(server, function) == 2)
    stage.serving(tool(server, "-w", "-f", function, "--", "cat"), function)
    answers = [client.stdout.read() for client in clients if client.stdout]
    assert answers in ([b"x", b"x"], [b"y", b"y"])


@pytest.mark.parametrize("client", KINDS)
def test_gearman_tool_whose_command_fails(
    client: str, server: str, function: str, stage: Stage
) -> None:
    command = tool(server, "-w", "-f", function, "--", "sh", "-c", "cat; exit 3")
    stage.serving(command, function)
    assert heard(client, server, function) == [b"data x", b"fail"]


def test_gearman_tool_gives_up_after_its_timeout(server: str, function: str) -> None:
    assert run(tool(server, "-t", "200", "-f", function, "x")) == []
    await_true(lambda: jobs(server, function) == 0)
