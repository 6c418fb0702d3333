"""The schedules of a real job server, as the agent lists, sets and deletes them."""

from pathlib import Path
from typing import Any

import pytest

from provision.agent.files import Failure
from provision.agent.schedules import list_schedules
from provision.agent.set_schedules import delete_schedule, set_schedule
from tests.job_servers import GearmandProcess

NONE: Any = None  # what these do not use


def test_schedules_are_set_listed_and_deleted_at_the_admin_socket(tmp_path: Path) -> None:
    admin = str(tmp_path / "admin.sock")
    assert list_schedules(admin) is None
    facts = {"function": "f", "cron": "30 2 * * *", "workload": "50% of a=b+c\n\N{BULLET}"}
    facts |= {"zone": "Europe/Berlin", "owner": "inventory", "unique": "", "priority": "high"}
    facts |= {"missed": "none", "overlap": "skip"}
    words = [f"{key}={text}" for key, text in facts.items() if text]
    options = [
        "-L",
        "127.0.0.1",
        "-p",
        "0",
        "-v",
        "--admin-only",
        "--admin-listen",
        f"unix:{admin}",
    ]
    with GearmandProcess(options, tmp_path) as server:
        server.listening()
        assert list_schedules(admin) == {}
        set_schedule(NONE, NONE, admin, "nightly", words)
        assert list_schedules(admin) == {"nightly": facts}
        with pytest.raises(Failure, match=r"its job server refuses the schedule: .*Bad hour"):
            set_schedule(NONE, NONE, admin, "bad", ["function=f", "cron=0 25 * * *"])
        for _ in range(2):  # the second time it is gone already
            delete_schedule(NONE, NONE, admin, "nightly")
        assert list_schedules(admin) == {}
    with pytest.raises(Failure, match="its job server cannot be asked at"):
        delete_schedule(NONE, NONE, admin, "nightly")
