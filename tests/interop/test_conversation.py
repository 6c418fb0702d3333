"""The same conversation with C gearmand and with ours, compared byte for byte.

The scenes are in `conversation/`; docs/differences.md says what may differ, and why.
"""

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gearman_py.broker.admin_commands import COMMANDS as TEXT_COMMANDS
from gearman_py.protocol.packets import Packet
from tests.interop.conversation.script import SERVERS, Scene, read
from tests.interop.conversation.talk import Stage
from tests.job_servers import C_GEARMAND, OUR_GEARMAND, running_server

HERE = Path(__file__).parent
COMMANDS = {
    "C": [*C_GEARMAND, "--verbose=WARNING"],
    "ours": OUR_GEARMAND,
}
SCENES = [scene for path in sorted(HERE.glob("conversation/*.txt")) for scene in read(path)]
DIFFERENCES = re.findall(
    r"^\| `([a-z0-9-]+)` \|", (HERE.parents[1] / "docs/differences.md").read_text(), re.MULTILINE
)

Open = Callable[[str, Scene], Stage]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    """The servers by name and options, started when first asked for."""
    stages: dict[tuple[str, str, str], Stage] = {}
    logs = tmp_path_factory.mktemp("conversation")
    with contextlib.ExitStack() as running:

        def start(name: str, scene: Scene) -> Stage:
            options = scene.options[name]
            wanted = name, options, scene.title if scene.alone else ""
            if wanted not in stages:
                command = [*COMMANDS[name], *options.split()]
                folder = Path(tempfile.mkdtemp(prefix=name, dir=logs))
                address = running.enter_context(running_server(command, folder))
                stages[wanted] = Stage(address)
                running.callback(stages[wanted].end)
            return stages[wanted]

        yield start


@pytest.mark.parametrize("scene", SCENES, ids=[scene.title for scene in SCENES])
def test_both_servers_answer_alike(scene: Scene, stage: Open) -> None:
    def play(name: str) -> list[list[str]]:
        return stage(name, scene).play(scene)

    with ThreadPoolExecutor() as both:
        heard = list(both.map(play, SERVERS))
    for step, theirs, ours in zip(scene.steps, *heard, strict=True):
        said = f"{step.where}: {step.who}: {step.what}"
        if step.differs:
            assert {"C": theirs, "ours": ours} == step.heard, said
            assert theirs != ours, f"{said}: no difference, let go of {step.differs!r}"
        else:
            assert ours == theirs, said


def test_every_packet_and_every_text_command_is_said() -> None:
    said = " ".join(step.what for scene in SCENES for step in scene.steps)
    said = re.sub(r"\\[rn]", " ", said)
    words = {*(packet.name for packet in Packet), *(command.decode() for command in TEXT_COMMANDS)}
    assert not words - set(re.findall(r"[A-Z_]{4,}|[a-z]{3,}", said))


def test_differences_are_those_that_are_told_of() -> None:
    shown = {step.differs for scene in SCENES for step in scene.steps if step.differs}
    assert shown == set(DIFFERENCES)
    assert len(DIFFERENCES) == len(set(DIFFERENCES))
