"""The command line itself: what is wrong there is told in one line, status 1, and no host asked."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from invoke.program import Program

from provision.program import run_tasks
from tasks import namespace

ROOT = Path(__file__).resolve().parent.parent
LAB = ["--hosts", "inventory/lab"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plan", *LAB, "--parallel", "x"], "--parallel should be a whole number, not 'x'"),
        (["plan", *LAB, "--parallel", "0"], "--parallel 0: say 1 or more"),
        (["plan", *LAB, "--limit", ""], "--limit is empty: give it a value, or leave it out"),
        (["plan", *LAB, "--limit", ","], "--limit ,: it names no host; leave it out to mean all"),
        (["plan", *LAB, "--tags", ","], "--tags ,: no tag given; leave it out to mean all"),
        (["plan", *LAB, "--log-format", "x"], "unknown --log-format 'x'; expected text or json"),
        (["upgrade", *LAB, "--settle", "soon"], "--settle should be a number, not 'soon'"),
        (["upgrade", *LAB, "--settle", "nan"], "--settle nan: say 0 to 3600 seconds"),
        (["upgrade", *LAB, "--max-fail", "-1"], "--max-fail -1: say 0 or more"),
        (["upgrade", *LAB, "--batch", "0"], "--batch 0: say a number of hosts, or a share as 25%"),
        (["smoke", *LAB, "--patience", "0"], "--patience 0: say 1 second or more"),
        (["web", *LAB, "--port", "80000"], "--port 80000: say 0 to 65535"),
        (["run", *LAB, "--seconds", "0"], "--seconds 0: say more than 0"),
        (["logs", ""], "name is empty: give it a value, or leave it out"),
    ],
)
def test_wrong_usage_is_told_in_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        Program(namespace=namespace).run(["invoke", *words])
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"invoke: {message}\n"


@pytest.mark.slow
def test_an_ssh_config_may_be_for_some_hosts_only(tmp_path: Path) -> None:
    """Threads that began to import the SSH library in different places found half of it."""
    (tmp_path / "config").write_text("Host *\n  Port 9\n")
    hosts = (f"    w{n}: {{{'gearman_ssh_config: config' if n % 2 else ''}}}\n" for n in range(8))
    head = "worker:\n  vars: {ansible_host: 127.0.0.1, ansible_port: 9}\n  hosts:\n"
    (tmp_path / "hosts.yml").write_text(head + "".join(hosts))
    invoke = [sys.executable, "-m", "invoke", "facts", "--hosts", str(tmp_path)]
    done = subprocess.run(invoke, cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.returncode == 4
    assert done.stdout.count("unreachable") == 8


def test_log_format_json_is_json(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Each line is an entry for a log collector, also where nothing went as it should."""
    (tmp_path / "hosts.yml").write_text(
        "worker: {hosts: {w1: {ansible_host: 127.0.0.1, ansible_port: 9}}}\n"
    )
    begun = datetime.now(UTC) - timedelta(seconds=1)  # times are told in milliseconds
    with pytest.raises(SystemExit) as ended:
        words = ["invoke", "plan", "--hosts", str(tmp_path), "--log-format", "json"]
        Program(namespace=namespace).run(words)
    assert ended.value.code == 4
    entries = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [entry["event"] for entry in entries] == ["failed", "recap"]
    assert (entries[0]["host"], entries[0]["error"]["kind"]) == ("w1", "Unreachable")
    for entry in entries:
        assert begun <= datetime.fromisoformat(entry["time"]) <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        (["plan", "--json"], "ToolkitError", "which hosts? Say --hosts "),
        (["status", "--json", "--hosts", "/missing"], "InventoryError", "/missing: no such file"),
        (
            ["facts", *LAB, "--log-format=json", "--limit", ","],
            "InventoryError",
            "--limit ,: it names",
        ),
        (
            ["plan", "--log-format", "json", "--bogus"],
            "UsageError",
            "unknown flag --bogus after plan",
        ),
        (["status", "--json", "--limit"], "UsageError", "--limit needs a value"),
        (["deploy", "--json", "--dry"], "UsageError", "--dry has no effect on any task"),
        (["logs", "--json"], "UsageError", "logs needs NAME"),
    ],
)
def test_wrong_usage_is_json_where_that_is_asked_for(
    words: list[str],
    kind: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A line on stdout, and the sentence on stderr as always."""
    monkeypatch.setattr("sys.argv", ["invoke", *words])
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as ended:
        run_tasks()
    said = capsys.readouterr()
    (entry,) = map(json.loads, said.out.splitlines())
    error = entry["error"]
    assert (entry["event"], error["kind"], error["status"]) == ("error", kind, ended.value.code)
    assert error["message"].startswith(message)
    assert said.err == f"invoke: {error['message']}\n"


@pytest.mark.parametrize("words", [["inventory", *LAB], ["--list"], ["--help"], ["--help", "plan"]])
def test_a_reader_that_leaves_is_no_bug(words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    invoke = [str(ROOT / "invoke"), *words]
    done = subprocess.run(invoke, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
