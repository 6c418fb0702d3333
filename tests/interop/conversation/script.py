r"""The scenes of the conversation: what is said to both servers, as text that can be read.

A file holds scenes; an empty line or one that begins with ``#`` says nothing:

    = The title of a scene
      C    -j 1                                 options of the C server, if it needs any
      ours -j 1                                 and of ours
      alone                                     it leaves things behind: servers of its own
    client: SUBMIT_JOB f|u|data                 a connection, made on first mention, sends
    worker: CAN_DO f & GRAB_JOB & "status\r\n"  several messages in one write
    client: dribbles ECHO_REQ x                 the same, byte by byte
    client: ends with "\0XYZ"                   what the server is to close the connection for
    worker: leaves
    worker: stops sending                       but would hear more
    all: wait 1.2                               seconds
    client: GET_STATUS H1                       the first handle that was heard of, whatever it is
      ! some-difference                         the row of docs/differences.md that says why ...
      C    client < ERROR CODE|text             ... this is what is heard from the C server
      ours client < STATUS_RES H1|0|0|0|0       and this from ours (- is silence)

In what is sent ``|`` parts arguments, ``{x*64}`` is a run of a byte, ``{now+1}`` a time, and
bytes are escaped as in Python.
"""

import re
import time
from dataclasses import dataclass, field
from pathlib import Path

from gearman_py.protocol.codec import request
from gearman_py.protocol.packets import Packet

SERVERS = "C", "ours"


@dataclass
class Step:
    """One line: who does what. ``differs`` is a row's name; ``heard`` what each then answers."""

    who: str
    what: str
    where: str
    differs: str = ""
    heard: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in SERVERS})


@dataclass
class Scene:
    """A conversation with a server that knows no jobs and no functions at its beginning."""

    title: str
    options: dict[str, str] = field(default_factory=lambda: dict.fromkeys(SERVERS, ""))
    alone: bool = False
    steps: list[Step] = field(default_factory=list)


def read(path: Path) -> list[Scene]:
    """The scenes of a file."""
    scenes: list[Scene] = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        where = f"{path.name}:{number}"
        if line.startswith("= "):
            scenes.append(Scene(words[2:]))
        elif line == words:
            who, _, what = words.partition(": ")
            assert what, f"{where}: who does it?"
            scenes[-1].steps.append(Step(who, what, where))
        else:
            _annotate(scenes[-1], words, where)
    return scenes


def _annotate(scene: Scene, words: str, where: str) -> None:
    """Take in an indented line: an option of the scene, or what is heard after a step."""
    mark, _, rest = words.partition(" ")
    rest = rest.strip()
    if mark == "!":
        scene.steps[-1].differs = rest
    elif mark == "alone":
        scene.alone = True
    elif not scene.steps:
        assert mark in SERVERS, f"{where}: options of which server?"
        scene.options[mark] = rest
    else:
        assert mark in SERVERS and scene.steps[-1].differs, f"{where}: not to be understood"
        if rest != "-":
            scene.steps[-1].heard[mark].append(rest)


def encode(messages: str, handles: dict[str, bytes]) -> bytes:
    """The bytes of messages as they stand in a script."""
    return b"".join(_encode(message, handles) for message in messages.split(" & "))


def _encode(message: str, handles: dict[str, bytes]) -> bytes:
    if message.startswith('"'):
        return _bytes(message.strip('"'), handles)
    name, _, arguments = message.partition(" ")
    parts = arguments.split("|") if Packet[name].arguments or arguments else []
    return request(Packet[name], *(_bytes(part, handles) for part in parts))


def _bytes(text: str, handles: dict[str, bytes]) -> bytes:
    def run(found: re.Match[str]) -> str:
        return found[1] * int(found[2])

    def moment(found: re.Match[str]) -> str:
        return str(int(time.time()) + int(found[1]))

    text = re.sub(r"\{now([+-]\d+)\}", moment, text)
    text = re.sub(r"\{(.)\*(\d+)\}", run, text)
    data = text.encode().decode("unicode_escape").encode("latin-1")
    return re.sub(rb"\b(?:H|PFX)[0-9]+\b", lambda name: handles[name[0].decode()], data)
