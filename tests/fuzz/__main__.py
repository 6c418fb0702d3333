"""Coverage-guided fuzzing of what strangers send, with atheris.

    .venv/bin/python -m tests.fuzz [TARGET...]      $SECONDS each (60)

What ends a target is written to tests/fuzz/found/TARGET/: mend it, and keep the file; the tests
try it for ever after.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from tests.fuzz.seeds import HERE, inputs
from tests.fuzz.targets import TARGETS

MEMORY = 512  # MiB that a target may take; pictures are allowed to take more
LARGEST = {"resize": 20_000, "store": 30_000}  # bytes of an input; else 1000


def fuzz(name: str, seconds: int) -> int:
    """Fuzz a target for so long; how many inputs were tried, -1 when one ended it."""
    found = HERE / "found" / name
    with tempfile.TemporaryDirectory() as corpus, tempfile.TemporaryDirectory() as ended:
        for data in inputs(name):
            (Path(corpus) / sha256(data).hexdigest()[:16]).write_bytes(data)
        memory = 2048 if name == "resize" else MEMORY
        options = (
            *(f"-max_total_time={seconds}", f"-rss_limit_mb={memory}", "-timeout=60"),
            *(f"-max_len={LARGEST.get(name, 1000)}", f"-artifact_prefix={ended}/"),
            *("-print_final_stats=1", corpus),
        )
        # libFuzzer's limit counts what the process that started it has held (a maximum survives
        # exec): timeout, which is small, starts it.
        limit = ("timeout", "--foreground", str(seconds + 240))
        command = [*limit, sys.executable, "-m", "tests.fuzz.one", name, *options]
        done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parents[1])
        for file in Path(ended).iterdir():
            found.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, found)
    lines = (done.stdout + done.stderr).splitlines()
    if done.returncode:
        print(f"{name}: an input ended it (see {found}):", *lines[-60:], sep="\n", file=sys.stderr)
        return -1
    tried = next(line for line in lines if line.startswith("stat::number_of_executed_units"))
    return int(tried.split()[-1])


def main(names: Sequence[str]) -> int:
    if unknown := [name for name in names if name not in TARGETS]:
        print(f"there is no target {unknown[0]!r}: {', '.join(TARGETS)}", file=sys.stderr)
        return 1
    seconds = int(os.environ.get("SECONDS", "60"))
    failed = 0
    for name in names or TARGETS:
        tried = fuzz(name, seconds)
        failed += tried < 0
        print(f"{name:10} {tried:>12,} inputs in {seconds} s", flush=True)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
