"""Jobs a second of our client and worker beside those in C: pecl's and `gearman -w`.

A part of tests.bench.calls, whose programs and peer these are: the peer answers at once, and there
is one job at a time. Each program runs with few jobs and with more, so that its start does not
count. They take turns; the median of the rounds is shown, with its ratio to C's. Only a quiet
machine says something.
"""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

from tests.bench.kinds import Environment

C = "C"
FEW, MORE = 1_000, 21_000
PECL = """
$client = new GearmanClient();
$client->addServer('127.0.0.1', (int) $argv[1]);
for ($job = 0; $job < (int) $argv[2]; $job++) {
    $client->doNormal('bench', str_repeat('x', 64));
}
"""

Command = Callable[[str], Sequence[str]]
"""What runs a program, given a port."""
Run = Callable[[Command, Environment], "subprocess.CompletedProcess[str]"]
"""Runs a program beside a peer of its own."""


def theirs(row: str, jobs: int) -> Command:
    """The client or worker in C that does this number of jobs."""
    if row == "do":
        return lambda port: ("php", "-r", PECL, port, str(jobs))
    worker = ("gearman", "-w", "-h", "127.0.0.1", "-f", "bench", "-c", str(jobs))
    return lambda port: (*worker, "-p", port)


def compare_rates(
    row: str,
    ours: Callable[[int], Command],
    kinds: Mapping[str, Environment],
    run: Run,
    rounds: int,
) -> str:
    """The jobs a second of a row; ``ours`` makes our program for a number of jobs."""
    found: dict[str, list[float]] = {kind: [] for kind in (C, *kinds)}
    for _ in range(rounds):
        for kind, rates in found.items():
            seconds = []
            for jobs in (FEW, MORE):
                command = theirs(row, jobs) if kind == C else ours(jobs)
                began = time.perf_counter()
                run(command, kinds.get(kind, {}))
                seconds.append(time.perf_counter() - began)
            rates.append((MORE - FEW) / (seconds[1] - seconds[0]))
    medians = {kind: median(rates) for kind, rates in found.items()}
    line = f"{row:12}  jobs/s: C {medians[C]:8,.0f}"
    for kind in kinds:
        line += f"  {kind} {medians[kind]:8,.0f} ({medians[kind] / medians[C]:.2f} x C)"
    return line
