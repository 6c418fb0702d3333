"""The processes that a test leaves behind are ended, and no others."""

import os
import subprocess
from pathlib import Path

from tests.leftovers import leftovers_killed
from tests.waiting import await_true


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
