"""gearadmin: ask a job server how it is, and tidy its functions and jobs."""

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence

from gearman_py import __version__
from gearman_py.admin.client import AdminClient
from gearman_py.cli import common

_STOPS = {
    "shutdown": (False, "stop the server at once (by its admin socket)"),
    "drain": (True, "stop the server when its jobs are done (by its admin socket)"),
}
# option: (what is sent, help). Run in this order.
_LISTINGS = {
    "status": ("status", "functions: name, jobs, running, workers"),
    "priority-status": ("prioritystatus", "functions: name, high, normal, low, workers"),
    "workers": ("workers", "connections: fd, address, id : functions"),
    "show-jobs": ("show jobs", "jobs: handle, retries, ignored, background"),
    "show-unique-jobs": ("show unique jobs", "the unique of every job"),
}
_VALUES = {
    "server-version": ("version", "the server's version"),
    "server-verbose": ("verbose", "how much the server logs"),
    "getpid": ("getpid", "the server's process id"),
}
_ACTIONS = {
    "create-function": ("FUNCTION", "make a function known before its workers come"),
    "drop-function": ("FUNCTION", "forget a function without workers and jobs"),
    "cancel-job": ("HANDLE", "take a waiting job from its queue"),
}


_ALL = (*_LISTINGS, *_VALUES, *_ACTIONS, *_STOPS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask a server; return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not any(vars(options).get(_name(option)) for option in _ALL):
        parser.error("nothing to do: say what to ask, such as --status")
    servers = common.server_names(parser, options.host, options.port)
    return common.command("gearadmin", lambda: _ask(parser, options, AdminClient(servers)))


def _ask(parser: ArgumentParser, options: Namespace, client: AdminClient) -> int:
    actions = {
        "create-function": client.create_function,
        "drop-function": client.drop_function,
        "cancel-job": client.cancel,
    }
    with client:
        for option, act in actions.items():
            if (word := vars(options)[_name(option)]) is not None:
                try:
                    act(word)
                except ValueError as error:
                    parser.error(str(error))
                print("OK")
        for option, (sent, _) in _VALUES.items():
            if vars(options)[_name(option)]:
                print(common.printable(client.value(sent)))
        for option, (sent, _) in _LISTINGS.items():
            if vars(options)[_name(option)]:
                lines = [*client.listing(sent), "."]
                print("\n".join(map(common.printable, lines)))
        for option, (graceful, _) in _STOPS.items():
            if vars(options)[option]:
                client.shutdown(graceful=graceful)
                print("OK")
    return common.OK


def _name(option: str) -> str:
    return option.replace("-", "_")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="gearadmin",
        description="Ask a Gearman job server how it is.",
        epilog=f"{common.EXIT_STATUSES}\nexample:\n  gearadmin -h jobs.example.org --status\n",
        formatter_class=RawDescriptionHelpFormatter,
        add_help=False,
    )
    add = parser.add_argument
    for option, (_, text) in {**_LISTINGS, **_VALUES, **_STOPS}.items():
        add(f"--{option}", action="store_true", help=text)
    for option, (word, text) in _ACTIONS.items():
        add(f"--{option}", metavar=word, help=text)
    common.add_servers(parser)
    add("--version", action="version", version=f"gearadmin {__version__}")
    add("-H", "--help", action="help", help="show this and leave")
    return parser


if __name__ == "__main__":
    sys.exit(main())
