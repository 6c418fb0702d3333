"""gearadmin top on a terminal, with curses, which not every Python was built with."""

import contextlib
import curses
import select
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from gearman_py.cli import common
from gearman_py.cli.top import TopScreen, take_snapshot, top_parser
from gearman_py.net.servers import ServerAddress

KEY_INTERVAL = 100  # milliseconds: how soon what has come is shown


def main(arguments: Sequence[str]) -> int:
    """Run it until q is pressed; return the exit status."""
    parser = top_parser()
    options = parser.parse_args(arguments)
    servers = common.parse_servers_option(parser, options)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        parser.error("top needs a terminal; for scripts: gearadmin --stats --json")
    try:
        curses.setupterm()
    except curses.error as error:
        parser.error(f"top: {error}; expected a terminal that can move its cursor ($TERM)")
    screen = TopScreen(options.sort.upper(), options.function)
    return common.run_command_line(
        "gearadmin", lambda: _run_in_curses(screen, servers, options.interval)
    )


def _run_in_curses(screen: TopScreen, servers: Sequence[ServerAddress], interval: int) -> int:
    try:
        return curses.wrapper(_show, screen, servers, interval)
    except curses.error:
        if _is_terminal_gone():
            raise BrokenPipeError from None
        raise


def _show(
    window: "curses.window", screen: TopScreen, servers: Sequence[ServerAddress], interval: int
) -> int:
    with contextlib.suppress(curses.error):  # it has no colors
        curses.use_default_colors()
    curses.set_escdelay(25)
    window.timeout(KEY_INTERVAL)
    stopped = threading.Event()

    def ask_repeatedly() -> None:
        with ThreadPoolExecutor(len(servers)) as pool:
            while not stopped.is_set():
                screen.update(take_snapshot(servers, pool))
                stopped.wait(interval)

    threading.Thread(target=ask_repeatedly, daemon=True).start()
    going_on = True
    while going_on:
        _draw(window, screen)
        try:
            going_on = screen.press(window.getkey())
        except curses.error:  # no key was pressed
            going_on = not _is_terminal_gone()
    stopped.set()
    return common.OK


def _is_terminal_gone() -> bool:
    """Whether the terminal's other end was closed; a process that it does not control goes on."""
    poll = select.poll()
    poll.register(sys.stdin, 0)
    return bool(poll.poll(0))  # a hang-up is told unasked


def _draw(window: "curses.window", screen: TopScreen) -> None:
    height, width = window.getmaxyx()
    lines, selected = screen.lines(width, height)
    window.erase()
    for number, line in enumerate(lines[:height]):
        style = curses.A_REVERSE if number == selected else curses.A_NORMAL
        window.addstr(number, 0, line, style)
    window.refresh()
