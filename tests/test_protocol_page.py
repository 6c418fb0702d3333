"""docs/protocol.md says what the tables of packets and commands say."""

import re
from pathlib import Path

from gearman_py.broker.admin_commands import COMMANDS, OPERATORS
from gearman_py.protocol.packets import Packet

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "protocol.md").read_text()


def test_each_packet_has_its_row() -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+) \| (\w+) \| (.*?) ?\| .*\|$", PAGE, re.MULTILINE)
    assert [
        (int(number), name, senders, tuple(arguments.split(", ") if arguments else ()))
        for number, name, senders, arguments in rows
    ] == [(packet.value, packet.name, packet.senders, packet.arguments) for packet in Packet]


def test_each_text_command_has_its_row() -> None:
    commands = re.findall(r"^\| `([a-z]+)[^`]*` \|", PAGE, re.MULTILINE)
    assert {name.encode() for name in commands} == {*COMMANDS, *OPERATORS}
