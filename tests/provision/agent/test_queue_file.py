"""What the queue file of a job server that does not run says of its jobs."""

import contextlib
import os
import socket
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from gearman_py.broker.failed_jobs import FAILED_NAME
from gearman_py.broker.restriction_records import RECORD_NAME
from gearman_py.store.sqlite_file import MIGRATIONS
from provision.agent import system, text_answer
from provision.agent.queue_file import ask_server, count_jobs
from tests.attacks import attack
from tests.squatter import NOBODY, let_others_in


def test_failed_jobs_that_were_kept_and_restrictions_do_not_wait(tmp_path: Path) -> None:
    """Otherwise a job server that keeps a failed job could never be taken down."""
    with closing(sqlite3.connect(tmp_path / "queue.db")) as file, file:
        file.executescript(MIGRATIONS[0])
        for number, function in enumerate([FAILED_NAME, RECORD_NAME, b"wc", b"wc"]):
            row = (number, function, b"", 1, 0, b"", b"", 0, 0)
            file.execute("INSERT INTO job VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    assert count_jobs(str(tmp_path), "") == {"jobs": {"wc": 2}, "kept": True}


def endless_view(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.execute(
            "CREATE VIEW job AS WITH RECURSIVE n(function) AS "
            "(SELECT x'61' UNION ALL SELECT function FROM n) SELECT function FROM n"
        )


def closed_file(path: Path) -> None:
    path.touch(mode=0o600)


@attack(
    "user of a service",
    "a pipe, a link, a folder, a device or an endless view in place of the queue file that root "
    "reads",
    "mended",
)
@pytest.mark.parametrize(
    "put",
    [
        os.mkfifo,
        os.mkdir,
        endless_view,
        closed_file,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("/etc/shadow"),
    ],
    ids=["pipe", "folder", "view", "file of another", "device", "link"],
)
def test_what_is_in_place_of_a_queue_file_is_read_as_its_owner_and_in_time(
    tmp_path: Path, put: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    monkeypatch.setattr(system, "QUERY_TIMEOUT", 2.0)
    let_others_in(tmp_path)
    os.chown(tmp_path, NOBODY, NOBODY)
    put(tmp_path / "queue.db")
    with pytest.raises(ValueError, match=r"queue\.db cannot be read: "):
        count_jobs(str(tmp_path), "")


@attack(
    "user of a service",
    "a link to another user's socket, or one that answers without end, in place of the admin "
    "socket that root asks",
    "mended",
)
@pytest.mark.parametrize(
    ("owner", "problem"), [(0, r"takes more than 0 s"), (NOBODY, "is not a socket of its folder's")]
)
def test_an_admin_socket_is_its_folder_s_owner_s_and_answers_in_time(
    tmp_path: Path, owner: int, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    monkeypatch.setattr(text_answer, "ANSWER_TIMEOUT", 0.2)

    def answer() -> None:
        with closing(listening.accept()[0]) as connected, contextlib.suppress(OSError):
            while True:
                connected.sendall(b"x")

    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as listening, ThreadPoolExecutor() as pool:
        listening.bind(str(path))
        os.seteuid(owner)  # whom the kernel will name
        listening.listen()
        os.seteuid(0)
        pool.submit(answer)
        with pytest.raises(ValueError, match=problem):
            ask_server(str(path))
