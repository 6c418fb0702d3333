"""The code in README and docs runs as it stands."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from textwrap import dedent
from typing import get_args

import pytest

from gearman_py import AdminClient, Client
from gearman_py.server.options import REFUSED
from gearman_py.server.settings import Settings
from tests.attacks import Attacker, attack
from tests.job_servers import GearmandProcess
from tests.waiting import await_true

ROOT = Path(__file__).resolve().parent.parent
TYPED = ("worker-author", "client", "frameworks", "steering", "tls", "coming-from")
BIN = str(Path(sys.executable).parent)


def blocks(name: str) -> list[str]:
    """The Python of a page."""
    found = re.findall(
        r"^( *)```python\n(.*?)^\1```", (ROOT / name).read_text(), re.DOTALL | re.MULTILINE
    )
    return [dedent(code) for _, code in found]


def shell(name: str) -> list[str]:
    """The lines of a page's shell."""
    text = "".join(re.findall(r"```sh\n(.*?)```", (ROOT / name).read_text(), re.DOTALL))
    return text.splitlines()


def at(port: int, code: str) -> str:
    """The code, with this test's server in place of the usual one."""
    return code.replace("127.0.0.1:4730", f"127.0.0.1:{port}").replace(
        'Client("127.0.0.1")', f'Client("127.0.0.1:{port}")'
    )


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    with GearmandProcess(["-v", "-L", "127.0.0.1", "-p", "0"], tmp_path) as server:
        yield server.listening()[1]


def registered(port: int, *functions: str) -> bool:
    command = [f"{BIN}/gearadmin", "-h", "127.0.0.1", "-p", str(port), "--workers"]
    listing = subprocess.run(command, capture_output=True, text=True).stdout
    return all(function in listing.split() for function in functions)


@pytest.fixture
def worker_of_the_page(port: int) -> Iterator[None]:
    """The worker in docs/worker-author.md."""
    process = subprocess.Popen([sys.executable, "-c", at(port, blocks("docs/worker-author.md")[0])])
    try:
        await_true(lambda: registered(port, "shout", "count", "refuse", "nap", "patient"))
        yield
    finally:
        process.terminate()
        assert process.wait(30) == 0, "it drains"


@pytest.mark.slow
def test_clients_and_workers_of_the_page_for_newcomers_work_together(
    port: int, tmp_path: Path
) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "tasks.py").write_text("def price(a, b):\n    return f'{a} {b}'\n")
    old_worker, old_client, moved, worker, client = blocks("docs/coming-from.md")
    old, wrapped, new = (
        subprocess.Popen([sys.executable, "-c", at(port, code)], cwd=tmp_path)
        for code in (old_worker, moved, worker)
    )
    ask = "from gearman_py import Client\nassert Client('127.0.0.1:4730').{} == '2 EUR'"
    call = ask.format("call('price', [2, 'EUR'])")
    try:
        await_true(lambda: registered(port, "old_shout", "price", "add", "parts", "wait"))
        for code in (old_client, call, client):
            command = [sys.executable, "-c", at(port, code)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stderr
    finally:
        old.kill()
        old.wait()
        for process in (wrapped, new):
            process.terminate()
            assert process.wait(30) == 0, "it drains"


@pytest.mark.slow
@pytest.mark.usefixtures("worker_of_the_page")
def test_clients_of_the_clients_page_work_with_the_worker_of_the_authors_page(port: int) -> None:
    said = [
        subprocess.run(
            [sys.executable, "-c", at(port, code)], capture_output=True, text=True, timeout=60
        )
        for code in blocks("docs/client.md")
    ]
    assert not any(done.returncode for done in said), [done.stderr for done in said]
    assert "I would rather not" in said[0].stdout
    with Client(f"127.0.0.1:{port}", timeout=60) as client:
        assert client.do("fetch") == b"fetched"
        assert client.do("patient", unique="mine") == b"done"


def test_hooks_of_the_authors_page_hear_of_its_job(port: int) -> None:
    code = at(port, blocks("docs/worker-author.md")[1])
    command = [sys.executable, "-u", "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        with Client(f"127.0.0.1:{port}", timeout=60) as client:
            handle = client.submit("report")
            assert handle.result() == b"the whole report"
        worker.terminate()
        said, _ = worker.communicate(timeout=120)
    assert said.startswith("before the first job\n")
    assert f"{handle.handle} begins\n" in said
    assert re.search(r"^report: complete after \d+\.\d s; $", said, re.MULTILINE)


@pytest.mark.slow
def test_failed_jobs_of_the_steering_page_are_retried_and_discarded(port: int) -> None:
    """Its Python, and each line of its shell but for those that name another function's jobs."""
    server = f"127.0.0.1:{port}"
    code = (
        "from gearman_py import Worker\nworker = Worker('SERVER')\n"
        "@worker.function('resize')\ndef resize(job):\n    raise OSError('timeout')\n"
        "worker.work()\n"
    ).replace("SERVER", server)
    lines = [
        line.partition("  #")[0].replace("gearadmin ", f"gearadmin -h {server} ")
        for line in shell("docs/steering.md")
    ]
    with (
        AdminClient(server) as admin,
        Client(server) as client,
        subprocess.Popen([sys.executable, "-c", code]) as worker,
    ):

        def fail_one() -> str:
            handle = client.do_background("resize", "a picture")
            await_true(lambda: handle in [job.handle for job in admin.find_jobs("failed")])
            return handle

        handle = fail_one()
        keyed, scheduled, python, fetched = blocks("docs/steering.md")
        command = [sys.executable, "-c", python.replace('"127.0.0.1"', f'"{server}"')]
        said = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert handle in said.stdout, said
        worker.terminate()
        client.do_background("resize", "waits")
    with AdminClient(server) as admin:
        assert [row.name for row in admin.status()] == ["resize"]
        subprocess.run([sys.executable, "-c", at(port, keyed)], check=True, timeout=120)
        (invoices,) = [row for row in admin.stats() if row.name == "invoice"]
        assert (invoices.jobs, invoices.max_per_key) == (1001, 2)
        subprocess.run([sys.executable, "-c", at(port, scheduled)], check=True, timeout=120)
        assert [row.name for row in admin.schedules()] == ["hourly"]
        command = [sys.executable, "-c", at(port, fetched).replace("timeout=30", "timeout=0.1")]
        said = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert said.stdout == "not yet\nNone\n", said
        admin.purge("report")
    for line in lines:
        done = subprocess.run(
            ["/bin/sh", "-c", line],
            capture_output=True,
            text=True,
            timeout=60,
            env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"},
        )
        assert done.returncode == ("H:one:17" in line), (line, done)


@pytest.mark.slow
def test_tests_of_the_authors_page_pass(tmp_path: Path) -> None:
    (tmp_path / "test_page.py").write_text(blocks("docs/worker-author.md")[-1])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert "2 passed" in done.stdout, done.stdout


@pytest.mark.slow
def test_code_of_the_pages_is_strictly_typed(tmp_path: Path) -> None:
    pages = ("README", *(f"docs/{name}" for name in TYPED))
    for page in pages:
        for number, code in enumerate(blocks(f"{page}.md")):
            if not re.search("import django|from django|compat|from shop", code):  # untyped
                (tmp_path / f"{Path(page).name}_{number}.py".replace("-", "_")).write_text(code)
    nothing = tmp_path / "mypy.ini"
    nothing.write_text("[mypy]\n")
    checks = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(nothing), "."]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    done = subprocess.run(checks, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_client_and_worker_of_the_readme_work(port: int) -> None:
    client, own = blocks("README.md")
    where = {**os.environ, "GEARMAN_SERVERS": f"127.0.0.1:{port}"}
    commands = [f"{BIN}/gearman-worker", "reverse", "wc", "resize"], [sys.executable, "-c", own]
    workers = [subprocess.Popen(command, env=where) for command in commands]
    try:
        await_true(lambda: registered(port, "reverse", "wc", "resize", "shout"))
        subprocess.run([sys.executable, "-c", at(port, client)], check=True, timeout=120)
        answer = subprocess.check_output([f"{BIN}/gearman", "-f", "shout", "hello"], env=where)
        assert answer == b"HELLO"
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait(30)


def settings_page() -> str:
    """docs/settings.md, from where the options are declared."""
    rows = []
    for one in fields(Settings):
        meta = one.metadata
        flags = " ".join(f"`{flag}`" for flag in meta["flags"])
        word = meta["argparse"].get("metavar", "")
        text = f"accepted, without effect: {meta['ignored']}" if "ignored" in meta else meta["help"]
        rows.append(f"| {flags} {word} | {text} |".replace("  ", " "))
    refused = [
        f"| `{start}{'…' * start.endswith('-')}` | {why} |" for start, why in REFUSED.items()
    ]
    table = ["| option | |", "|---|---|"]
    return "\n".join([SETTINGS_HEAD, *table, *rows, "", SETTINGS_REFUSED, *table, *refused, ""])


SETTINGS_HEAD = """\
# gearmand's options

This page is generated from `gearman_py/server/settings.py`. Defaults are in parentheses; names are
those of the C gearmand. `--config-file FILE` reads options from a file, which is either TOML
(`port = 4730`, `listen = ["127.0.0.1", "unix:/run/g.sock"]`, `exceptions = true`) or written like a
command line, as for the C gearmand. The command line takes precedence over the file, and both over
`$GEARMAND_PORT`.

Signals: SIGTERM and SIGINT stop the server at once (but see --drain-timeout), SIGUSR1 stops it when
its jobs are done, and SIGHUP reopens the log file and reloads the certificate. The exit status is 0
when a signal or an operator stopped it, and 1 when it could not start or its durable queue can no
longer be trusted.

Under systemd it reports when it is ready, answers the watchdog, and uses the sockets of a socket
unit, if there is one: those with `FileDescriptorName=admin` are for operators, those with `http`
for HTTP, and all others for jobs.
"""
SETTINGS_REFUSED = "Options of the C gearmand that are refused, with the reason:\n"


def test_settings_page_says_what_the_settings_are() -> None:
    page = ROOT / "docs/settings.md"
    if os.environ.get("UPDATE_GOLDEN"):
        page.write_text(settings_page())
    assert page.read_text() == settings_page(), (
        "UPDATE_GOLDEN=1 .venv/bin/pytest tests/test_docs.py"
    )


ATTACKS_HEAD = "| as | tried | result | test |\n|---|---|---|---|\n"


def attack_rows() -> list[str]:
    """The rows of docs/security.md: what the tests' marks say, each attack once."""
    tests: dict[tuple[str, str, str], list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        if "@attack(" not in (text := path.read_text()):
            continue
        for each in ast.walk(ast.parse(text)):
            for mark in getattr(each, "decorator_list", ()):
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == attack.__name__:
                    attacker, tried, result = map(ast.literal_eval, mark.args)
                    name = f"`{path.relative_to(ROOT)}::{getattr(each, 'name', '')}`"
                    tests.setdefault((attacker, tried, result), []).append(name)
    order = get_args(Attacker)
    rows = sorted(tests, key=lambda row: order.index(row[0]))
    return [f"| {' | '.join(row)} | {', '.join(tests[row])} |\n" for row in rows]


def test_security_page_tells_the_attacks_that_tests_try() -> None:
    page = ROOT / "docs/security.md"
    before, head, _ = page.read_text().partition(ATTACKS_HEAD)
    assert head
    wanted = before + head + "".join(attack_rows())
    if os.environ.get("UPDATE_GOLDEN"):
        page.write_text(wanted)
    assert page.read_text() == wanted, "UPDATE_GOLDEN=1 .venv/bin/pytest tests/test_docs.py"
