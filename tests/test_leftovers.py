"""The processes that a test leaves behind are ended, and no others."""

import os
import subprocess
import sys
from pathlib import Path

from tests.leftovers import leftovers_killed
from tests.waiting import await_true

ROOT = Path(__file__).resolve().parent.parent


def test_a_process_whose_parent_has_ended_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            with leftovers_killed():
                subprocess.run(["sh", "-c", f"sleep 60 & echo $! >{tmp_path}/pid"], check=True)
                pid = (tmp_path / "pid").read_text().strip()
                os.kill(int(pid), 0)
            await_true(lambda: not Path(f"/proc/{pid}").exists())
            assert other.poll() is None
        finally:
            other.kill()


RUN = """
import subprocess, sys
from tests.leftovers import kill_leftovers_of_run, mark_run
mark_run()
left = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
other = subprocess.Popen(["sleep", "60"])
kill_leftovers_of_run()
print(left.wait(20), other.poll())
other.kill()
"""


def test_our_programs_are_killed_at_the_end_of_a_run_and_others_are_not() -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert (done.stdout, done.stderr) == ("-9 None\n", "")
