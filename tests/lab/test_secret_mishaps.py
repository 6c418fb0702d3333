"""Secrets when things go wrong: runs that fail, are interrupted and go back, under any umask."""

import signal
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from tests.attacks import attack
from tests.lab.hosts import root
from tests.lab.operator_commands import ROOT
from tests.lab.test_own_workers import Operator, commit
from tests.lab.test_secrets import processes_watched
from tests.lab.test_upgrade import invoke
from tests.lab.test_worker_secrets import SCRIPT, digest_of

WORKERS = """
gearman_functions: [wc]
gearman_apps:
  sealed: {source: ../sealed}
gearman_workers:
  seal: {app: sealed, command: [./seal], functions: [seal], secrets: {KEY: SECRET},
    check: {expect: "DIGEST"}LIMIT}
"""
CANARY = "canary-of-a-mishap"
# What root finds on a host, memory of processes aside. The pattern does not match itself.
SEARCH = """
grep -rl c[a]nary-of-a-mishap /etc /var /tmp /opt /usr/local /home /root /run 2>/dev/null |
  grep -v ^/run/credentials/ | sort
cat /proc/*/cmdline /proc/*/environ 2>/dev/null | grep -ac c[a]nary-of-a-mishap || true
journalctl --no-pager --boot | grep -c c[a]nary-of-a-mishap || true
"""
# What others than its owner may write to, of all that a deploy makes.
WRITABLE = """
find /etc/gearman /opt/gearman /var/lib/gearman* /run/gearman* /etc/systemd/system/gearman* \
  -perm /022 ! -type l ! -type s 2>/dev/null || true
"""


class Careless(Operator):
    """An operator with another umask, and what the commands said."""

    umask = "022"

    def run(self, *words: str, interrupt_at: str = "") -> tuple[int, str]:
        line = ["sh", "-c", f'umask {self.umask}; exec "$@"', "sh", str(ROOT / "invoke")]
        with subprocess.Popen(
            [*line, *words, "--hosts", str(self.folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            said = ""
            for piece in process.stdout:
                said += piece
                if interrupt_at and interrupt_at in said:
                    process.send_signal(signal.SIGINT)
                    interrupt_at = ""
        assert CANARY not in said
        assert "Traceback" not in said
        return process.returncode, said


def workers(number: int, *, fails: bool = False) -> str:
    secret = f"{CANARY}-{number}"
    limit = ", memory: 4M" if fails else ""  # of which no worker can start
    known = WORKERS.replace("SECRET", secret).replace("DIGEST", digest_of(secret).decode())
    return known.replace("LIMIT", limit)


@attack(
    "local user",
    "a secret of workers when runs fail, are interrupted, go back and tell all, under umask 000 "
    "and 077; what others may write to afterwards",
    "mended",
)
@pytest.mark.parametrize("umask", ["000", "077"])
def test_a_secret_is_seen_nowhere_when_runs_fail_are_interrupted_and_go_back(
    lab: ModuleType, tmp_path: Path, umask: str
) -> None:
    source = tmp_path / "sealed"
    source.mkdir()
    (source / "seal").write_text(SCRIPT)
    (source / "seal").chmod(0o755)
    commit(source, "!")
    operator = Careless(tmp_path / "inventory")
    operator.umask = umask
    (begun := tmp_path / "begun").touch()
    with processes_watched() as seen:
        operator.says(workers(1))
        assert operator.run("deploy", "--yes", "--verbose")[0] == 0
        operator.says(workers(2, fails=True))
        assert operator.run("deploy", "--yes", "--verbose")[0] != 0
        assert operator.run("deploy", "--yes", "--json")[0] != 0
        operator.says(workers(3))
        operator.run("deploy", "--yes", "--verbose", interrupt_at="secret KEY")
        assert operator.run("deploy", "--yes", "--json")[0] == 0
        commit(source, "?")
        assert operator.run("upgrade", "--app", "sealed", "--yes", "--verbose")[0] == 0
        status, said = operator.run("rollback", "--app", "sealed", "--yes", "--verbose")
        assert status == 0, said
    assert not [each for each in seen if CANARY.encode() in each]
    for host in ("client1", "server1", "worker1"):
        kept = ["/etc/gearman/secrets/seal.KEY"] if host == "worker1" else []
        assert root(lab, host, SEARCH).split() == [*kept, "0", "0"]
        assert root(lab, host, WRITABLE).split() == []
    find = ["find", str(ROOT / ".cache"), "-newer", str(begun), "-not", "-path", "*/lab*"]
    written = subprocess.run(
        [*find, "-type", "f", "-perm", "/022"], capture_output=True, text=True, check=True
    )
    assert written.stdout.split() == []
    kept_here = [
        "grep",
        "-rl",
        CANARY,
        str(ROOT / ".cache" / "apps"),
        str(ROOT / ".cache/releases"),
    ]
    assert subprocess.run(kept_here, capture_output=True, check=False).stdout == b""
    back = invoke(ROOT, "deploy", "--yes")
    assert back.status == 0, back.said
