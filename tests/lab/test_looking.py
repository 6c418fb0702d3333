"""What an operator can see of real hosts: facts, logs, a command's output. Nothing is changed."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from secrets import token_hex
from types import ModuleType

from tests.lab.hosts import INVENTORY, WORKER
from tests.lab.operator_commands import run_command, start_command

HOSTS = ("--hosts", str(INVENTORY))


@contextmanager
def begun(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command that goes on until it is interrupted, as with Ctrl-C."""
    process = start_command(*arguments)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=60)
        finally:
            process.kill()


def gone(lab: ModuleType, host: str, pattern: str) -> bool:
    """Whether no process of a host matches, at the latest after ten seconds."""
    deadline = time.monotonic() + 10
    while lab.run(host, ["pgrep", "-f", pattern]).returncode == 0:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def test_facts_say_what_a_host_is_to_people_and_to_programs(lab: ModuleType) -> None:
    done = run_command("facts", *HOSTS, "--limit", "worker1")
    assert done.returncode == 0
    assert done.stdout.startswith(f"worker1  {WORKER}  worker\n")
    assert "Debian GNU/Linux 12 (bookworm), x86_64, systemd 252, Python 3.11" in done.stdout
    known = json.loads(run_command("facts", *HOSTS, "--limit", "worker1", "--json").stdout)
    assert known["machine"]["addresses"] == [WORKER]
    assert known["machine"]["cpus"] == os.cpu_count()
    assert abs(known["clock"]) < 1  # it is this machine's clock


def test_a_command_runs_on_every_host_word_for_word(lab: ModuleType) -> None:
    done = run_command("run", *HOSTS, "--", "printf", "%s|", "a b", "$HOME;")
    assert done.returncode == 0
    assert sorted(done.stdout.splitlines()[:3]) == [
        f"{host}  a b|$HOME;|" for host in ("client1", "server1", "worker1")
    ]
    assert done.stdout.splitlines()[3] == "3 of 3 hosts succeeded"


def test_a_command_runs_as_who_logs_in_or_as_root_and_by_a_shell_if_wanted(
    lab: ModuleType,
) -> None:
    one = (*HOSTS, "--limit", "client1")
    for flags, who in (((), "deploy /home/deploy"), (("--root",), "root /root")):
        done = run_command("run", *one, *flags, "--shell", "--", "echo $(whoami) $HOME")
        assert done.stdout.splitlines()[0] == f"client1  {who}"


def test_a_command_that_fails_on_a_host_is_told_with_its_status(lab: ModuleType) -> None:
    done = run_command("run", *HOSTS, "--shell", "--", "test $(hostname) != worker1")
    assert done.returncode == 3
    assert done.stdout.splitlines()[-1] == "2 of 3 hosts succeeded; worker1 ended with 1"
    missing = run_command("run", *HOSTS, "--limit", "client1", "--", "no-such-command")
    assert missing.returncode == 3
    assert "no-such-command: No such file or directory" in missing.stdout
    assert run_command("run", *HOSTS).returncode == 1


def test_what_takes_too_long_is_ended(lab: ModuleType) -> None:
    done = run_command("run", *HOSTS, "--limit", "client1", "--seconds", "1", "--", "sleep", "4711")
    assert done.returncode == 3
    assert "it did not end within 1 s" in done.stdout
    assert gone(lab, "client1", "sleep 4711")


def test_an_interrupt_ends_the_command_on_its_host(lab: ModuleType) -> None:
    words = ("--shell", "--", "echo begun; sleep 4712")
    with begun("run", *HOSTS, "--limit", "client1", *words) as process:
        assert process.stdout
        assert process.stdout.readline() == "client1  begun\n"
    assert gone(lab, "client1", "sleep 4712")


def say(lab: ModuleType, host: str, script: str) -> None:
    """Have a unit of a host write to its journal."""
    unit = ["systemd-run", "--quiet", "--wait", "--collect", "--unit=told", "sh", "-c", script]
    done = lab.run(host, unit)
    assert done.returncode == 0, done.stderr


def test_logs_of_many_hosts_are_one_stream_and_cannot_steer_the_terminal(lab: ModuleType) -> None:
    for host in ("server1", "worker1"):
        say(lab, host, f"echo done by {host}; printf '\\033[2Jwild\\n'")
    done = run_command("logs", "told.service", *HOSTS)
    assert done.returncode == 0
    times = [line[:18] for line in done.stdout.splitlines()]
    assert times == sorted(times)
    assert "done by server1" in done.stdout
    assert "done by worker1" in done.stdout
    assert "wild" in done.stdout
    assert "\033" not in done.stdout
    assert "  server1  " not in run_command("logs", "worker1", *HOSTS).stdout


def test_a_line_of_any_length_and_letters_is_shown_whole(lab: ModuleType) -> None:
    say(lab, "server1", "python3 -c 'print(chr(228) * 20000 + chr(10), chr(228) * 20000)'")
    done = run_command("logs", "told.service", *HOSTS, "--limit", "server1", "--lines", "5")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\u00e4" * 20_000) == 2


def test_logs_of_a_unit_come_though_some_hosts_never_heard_of_it(lab: ModuleType) -> None:
    for name in ("gearmand", "absent*.service"):
        done = run_command("logs", name, *HOSTS)
        assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "nothing of absent*.service on client1, server1, worker1\n"
    done = run_command("logs", "absent", *HOSTS)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("invoke: logs: unknown name 'absent'; expected a host, a group, ")


def test_what_journalctl_refuses_is_told_and_no_bug(lab: ModuleType) -> None:
    done = run_command("logs", "all", *HOSTS, "--since", "once")
    assert done.returncode == 3
    assert "client1  failed  journalctl: Failed to parse timestamp: once" in done.stdout
    assert done.stderr == ""


def test_a_message_of_many_lines_is_one_line_of_json(lab: ModuleType) -> None:
    one, two = f"one-{token_hex(4)}", f"two-{token_hex(4)}"  # no earlier run has said it
    program = (
        "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM);"
        'message = b"MESSAGE\\n" + (25).to_bytes(8, "little")'
        f' + b"{one}\\n{two}\\n";'
        's.sendto(message, "/run/systemd/journal/socket"); import time; time.sleep(0.2)'
    )
    say(lab, "worker1", f"python3 -c '{program}'")
    here = ("logs", "told.service", *HOSTS, "--limit", "worker1")
    told = [json.loads(line)["text"] for line in run_command(*here, "--json").stdout.splitlines()]
    assert told.count(f"{one}\n{two}") == 1
    lines = run_command(*here).stdout.splitlines()
    assert [line.split()[-1] for line in lines if line.endswith((one, two))] == [one, two]


def test_logs_can_be_followed(lab: ModuleType) -> None:
    here = ("--limit", "worker1", "--follow", "--lines", "0")
    with begun("logs", "told.service", *HOSTS, *here) as process:
        deadline = time.monotonic() + 20
        while lab.run("worker1", ["pgrep", "-f", "journalctl --output=json"]).returncode:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        say(lab, "worker1", "echo a new line; sleep 0.2")
        assert process.stdout
        assert any("a new line" in line for line in process.stdout)
    assert gone(lab, "worker1", "journalctl --output=json")
