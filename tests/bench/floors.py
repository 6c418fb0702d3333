"""The job server beside C gearmand and a bare loop in C: what it should reach, and what it does.

    .venv/bin/python -m tests.bench.floors [ROW...]     (needs gearman-job-server and gcc)

The bare loop is the least that any job server on epoll has to do (bare_loop.c, built here). Each
row runs on fresh servers in turn; a cell is the ratio of the medians of its rounds, and what is
asked for. Ratios of CPU hold on a busy machine, those of jobs/s and latency only on a quiet one.
"""

import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from packages.accelerator import find_compiler
from tests.bench.job_server import BARE, ROWS, C, Figures, server
from tests.bench.kinds import ROOT, ROUNDS, Environment, both_kinds

CPU, RATE, LATENCY = "server µs/job", "jobs/s", "median µs"


class Floor(NamedTuple):
    """What is asked for: ``figure`` at ``most`` or at least ``bound`` times that of ``peer``."""

    figure: str
    peer: str
    bound: float

    def meets(self, ratio: float) -> bool:
        return ratio >= self.bound if self.figure == RATE else ratio <= self.bound


def _floors(cpu_c: float, cpu_bare: float, rate_c: float, rate_bare: float) -> list[Floor]:
    floors = [Floor(CPU, C, cpu_c), Floor(CPU, BARE, cpu_bare)]
    floors += [Floor(RATE, C, rate_c), Floor(RATE, BARE, rate_bare)]
    return [floor for floor in floors if floor.bound]


FLOORS: dict[str, list[Floor]] = {
    "latency": [Floor(LATENCY, C, 0.5)],
    "one": _floors(0.50, 1.35, 1.7, 0.85),
    "sixteen": _floors(0.35, 1.25, 2, 0.85),
    "enqueue": _floors(0.10, 3, 12, 0),
    "drain": _floors(0.35, 1.30, 4, 0.75),
    "together": _floors(0.27, 1.40, 6, 0.7),
    "megabyte": _floors(0.95, 0, 1.3, 0),
    "64k": _floors(0.50, 1.3, 1.5, 0),
}


def build_bare_loop(folder: Path) -> Path:
    """Compile it; return the program."""
    program = folder / "bare_loop"
    source = ROOT / "tests" / "bench" / "bare_loop.c"
    subprocess.run([*find_compiler(), "-O2", str(source), "-o", str(program)], check=True)
    return program


def measure(name: str, ours: Mapping[str, Environment], bare_loop: Path) -> dict[str, Figures]:
    """The medians of a row, by kind of server."""
    found: dict[str, list[Figures]] = {kind: [] for kind in (C, BARE, *ours)}
    for _ in range(ROUNDS):
        for kind, rounds in found.items():
            with server(kind, ours, bare_loop=bare_loop) as peer:
                rounds.append(ROWS[name][1](peer))
    return {
        kind: {each: statistics.median(one[each] for one in rounds) for each in rounds[0]}
        for kind, rounds in found.items()
    }


def main(names: list[str]) -> None:
    print(f"Python {sys.version}")
    with tempfile.TemporaryDirectory() as folder, both_kinds() as ours:
        bare_loop = build_bare_loop(Path(folder))
        for name in names or FLOORS:
            found = measure(name, ours, bare_loop)
            print(f"\n{ROWS[name][0]}")
            for figure in (LATENCY,) if name == "latency" else (CPU, RATE):
                values = (f"{kind} {row[figure]:,.1f}" for kind, row in found.items())
                print(f"  {figure:14} {', '.join(values)}")
            for floor in FLOORS[name]:
                line = f"  {floor.figure:14} of {floor.peer:9}: {floor.bound:5} asked"
                for kind in ours:
                    ratio = found[kind][floor.figure] / found[floor.peer][floor.figure]
                    line += f"; {kind} {ratio:5.2f} {'yes' if floor.meets(ratio) else 'NO'}"
                print(line, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leave no server behind
    main(sys.argv[1:])
