"""What a user of a service has left is removed with its folder."""

import os
import subprocess
from pathlib import Path

import pytest

from provision.remote.messages import Operation
from tests.attacks import attack
from tests.provision.local import session

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the agent removes what is another's")
DEEP = 1500


@pytest.mark.slow
@attack("user of a service", "keep a retirement from its end by folders a thousand deep", "mended")
def test_folders_however_deep_are_removed(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    here = os.getcwd()
    try:
        os.chdir(state)
        for _ in range(DEEP):
            os.mkdir("d")
            os.chdir("d")
        os.chdir(here)
        arguments = {"folder": str(state), "user": "root"}
        with session(tmp_path) as agent:
            agent.lock({"who": "ana"})
            (outcome,) = agent.apply([Operation("remove_state", arguments)])
        assert outcome.error is None
        assert not state.exists()
    finally:
        os.chdir(here)
        subprocess.run(["rm", "-rf", state], check=True)  # pytest would give up on it
