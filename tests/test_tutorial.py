"""docs/tutorial.md, typed line by line into a shell, with a job server on another port."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gearman_py import AdminClient, GearmanError
from tests.ports import reserve_port

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "tutorial.md").read_text()
LOCAL = "127.0.0.1"

pytestmark = pytest.mark.slow


def typed(port: int) -> str:
    """The page as a script: its files are written, its lines of shell run."""
    script = []
    for kind, code in re.findall(r"^```(sh|python)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE):
        if kind == "python":
            name = code.partition("\n")[0].removeprefix("# ")
            script.append(f"cat > {name} <<'END'\n{code}END\n")
        else:
            script.append(code.replace(f"-L {LOCAL}", f"-L {LOCAL} -p {port}"))
    return "".join(script).replace(f'Client("{LOCAL}"', f'Client("{LOCAL}:{port}"')


def test_what_the_tutorial_types_does_what_it_says(tmp_path: Path) -> None:
    server = f"{LOCAL}:{reserve_port()}"
    places = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": places, "GEARMAN_SERVERS": server}
    try:
        done = subprocess.run(
            ["bash", "-m"],
            input=typed(int(server.rpartition(":")[2])),
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
    finally:
        try:
            with AdminClient(server) as admin:
                os.kill(admin.pid(), 15)
        except GearmanError:
            pass  # the page ended it
    said = done.stdout
    told = [
        *("b'!dlroW olleH'", "HELLO", "42", "fetched at attempt 3"),
        *("double\t0\t0\t4", "ValueError: invalid literal for int() with base 10: b'many'"),
        *("[b'2', b'4', b'6']", "[b'a', b'b']", "no result of nap within 0.5 s", "[b'awake', "),
        *("3 passed", "Success: no issues found in 4 source files"),
    ]
    where = [said.find(text) for text in told]
    assert -1 not in where, f"{where}\n{said}\n{done.stderr}"
    assert where == sorted(where)
    assert "gearman: double failed: ValueError" in done.stderr
    assert 'jobs.py", line 17, in double' in done.stderr
    assert done.returncode == 0
