"""The C, PHP and Perl clients and workers do reverse and wc against our job server."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gearman_py import __version__
from tests.job_servers import Address

PEERS = Path(__file__).parent / "peers"
PASSWD = Path("/etc/passwd").read_bytes()
LINES = b"%d\n" % PASSWD.count(b"\n")
OURS = [sys.executable, "-m", "gearman_py.cli.gearman"]
Serving = Callable[[list[str], Address, str], None]


def client(kind: str, address: Address, function: str, workload: bytes) -> bytes:
    """The answer that this kind of client gets."""
    host, port = address[0], str(address[1])
    command = {
        "C": ["gearman", "-h", host, "-p", port, "-f", function],
        "PHP": ["php", str(PEERS / "client.php"), host, port, function],
        "Perl": ["perl", str(PEERS / "client.pl"), f"{host}:{port}", function],
        "ours": [*OURS, "-h", host, "-p", port, "-f", function],
    }[kind]
    done = subprocess.run(command, input=workload, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def worker(kind: str, address: Address, serving: Serving) -> str:
    """Start this kind of worker; its functions are named after it."""
    host, port = address[0], str(address[1])
    c_worker = ["gearman", "-w", "-h", host, "-p", port]
    starts = {
        "C": [
            ("c_reverse", [*c_worker, "-f", "c_reverse", "--", "rev"]),
            ("c_wc", [*c_worker, "-f", "c_wc", "--", "wc", "-l"]),
        ],
        "PHP": [("php_wc", ["php", str(PEERS / "worker.php"), host, port])],
        "Perl": [("perl_dies", ["perl", str(PEERS / "worker.pl"), f"{host}:{port}"])],
    }
    for function, command in starts[kind]:
        serving(command, address, function)
    return kind.lower()


@pytest.mark.parametrize("worker_kind", ["C", "PHP", "Perl"])
@pytest.mark.parametrize("client_kind", ["C", "PHP", "Perl", "ours"])
def test_reverse_and_wc_by_every_client_through_every_worker(
    client_kind: str, worker_kind: str, our_gearmand: Address, serving: Serving
) -> None:
    prefix = worker(worker_kind, our_gearmand, serving)
    assert client(client_kind, our_gearmand, f"{prefix}_wc", PASSWD) == LINES
    # rev(1), which the C worker runs, keeps the end of the line at the end.
    reversed_, workload = (b"!dlroW olleH", b"Hello World!")
    assert client(client_kind, our_gearmand, f"{prefix}_reverse", workload) == reversed_


def test_perl_worker_outlives_a_function_that_dies(our_gearmand: Address, serving: Serving) -> None:
    prefix = worker("Perl", our_gearmand, serving)
    command = ["perl", str(PEERS / "client.pl"), "{}:{}".format(*our_gearmand), "perl_dies"]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=120)
    assert done.returncode != 0
    assert client("Perl", our_gearmand, f"{prefix}_reverse", b"abc") == b"cba"


def test_c_tools_read_our_text_commands(our_gearmand: Address, serving: Serving) -> None:
    worker("C", our_gearmand, serving)
    where = ["-h", our_gearmand[0], "-p", str(our_gearmand[1])]
    for option, expected in [
        ("--status", "c_wc\t0\t0\t1\n"),
        ("--workers", " : c_wc\n"),
        ("--server-version", __version__),
        ("--priority-status", "c_wc\t0\t0\t0\t1\n"),
    ]:
        done = subprocess.run(
            ["gearadmin", *where, option], capture_output=True, text=True, timeout=60
        )
        assert expected in done.stdout, done
