"""gearman-web: a page for operators about all job servers as one."""

import asyncio
import getpass
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING

from gearman_py.cli import common
from gearman_py.net.servers import UNIX, ServerAddress
from gearman_py.option_parser import OptionParser

if TYPE_CHECKING:  # imported late: it needs the extra "web", which --help does without
    from gearman_py.web.access import Access

DEFAULT_PORT = 4780
ROLES = ("read", "operate")
_EPILOG = f"""\
It listens on loopback. To let others in, give it TLS and a file of users, or put a proxy before
it that logs users in.

{common.EXIT_STATUSES}
examples:
  gearman-web -h one.example.org -h two.example.org
  gearman-web --users users --add-user alice --role operate
  gearman-web -L 0.0.0.0 --users users --tls-certificate web.pem --tls-key web.key
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it until it is stopped; return the exit status."""
    common.open_standard_streams()
    parser = command_parser()
    options = parser.parse_args(arguments)
    try:
        import jinja2  # noqa: F401  to say early what is missing
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        parser.error(f"{error.name} is missing: pip install 'gearman_py[web]'")
    if options.add_user is not None:
        return _add_user(parser, options)
    _check_exposure(parser, options)
    common.log_to_stderr(options.verbose + 1, options.log_format)
    return common.run_command_line("gearman-web", lambda: _run(parser, options))


def _add_user(parser: ArgumentParser, options: Namespace) -> int:
    from gearman_py.web.users import DashboardUser, UsersError, write_account

    if options.users is None:
        parser.error("--add-user needs --users FILE")
    prompt = f"password of {options.add_user}: "
    terminal = sys.stdin.isatty()
    try:
        password = getpass.getpass(prompt) if terminal else sys.stdin.readline().rstrip("\n")
    except EOFError:
        parser.error("no password was given")
    except KeyboardInterrupt:
        return common.INTERRUPTED
    try:
        write_account(options.users, DashboardUser(options.add_user, options.role), password)
    except UsersError as error:
        parser.error(str(error))
    return common.OK


def _check_exposure(parser: ArgumentParser, options: Namespace) -> None:
    """Refuse to be open to others without encryption, or without knowing who they are."""
    if bool(options.tls_certificate) != bool(options.tls_key):
        parser.error("--tls-certificate and --tls-key belong together")
    if bool(options.trusted_proxy) != bool(options.user_header):
        parser.error("--trusted-proxy and --user-header belong together")
    if _is_loopback(options.listen):
        return
    if not options.tls_certificate and not options.trusted_proxy:
        parser.error(
            f"-L {options.listen}: passwords and jobs would cross the network readable; expected "
            "--tls-certificate and --tls-key, or --trusted-proxy, or a loopback address"
        )
    if options.users is None and not options.trusted_proxy:
        parser.error(
            f"-L {options.listen}: everyone could read it; expected --users FILE "
            "(gearman-web --users FILE --add-user NAME), or --trusted-proxy"
        )


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _run(parser: ArgumentParser, options: Namespace) -> int:
    from gearman_py.web.app import make_app
    from gearman_py.web.collector import Collector
    from gearman_py.web.deploy_records import read_records
    from gearman_py.web.history import History, HistoryError
    from gearman_py.web.serve import ListenError, serve

    servers = common.parse_servers_option(parser, options)
    if options.names and len(options.names) != len(servers):
        parser.error(f"--name: {len(options.names)} given for {len(servers)} job servers")
    access = _make_access(parser, options)
    operated = _find_admin_sockets(parser, options, servers)
    try:
        history = History(options.history)
    except HistoryError as error:
        parser.error(f"--history {error}")

    async def run_app() -> None:
        collector = Collector(servers, history, options.interval, options.names, operated)
        read = partial(read_records, options.deploys) if options.deploys else None
        app = make_app(collector, access, read)
        files = (options.tls_certificate, options.tls_key)
        await serve(
            app, options.listen, options.port_of_page, files if options.tls_certificate else None
        )

    try:
        asyncio.run(run_app())
    except ListenError as error:
        print(f"gearman-web: {error}", file=sys.stderr)
        return common.FAILED
    return common.OK


def _find_admin_sockets(
    parser: ArgumentParser, options: Namespace, servers: Sequence[ServerAddress]
) -> list[ServerAddress]:
    """Where those who operate reach the servers: as others do, unless an admin socket is named."""
    names = options.names or [str(each) for each in servers]
    found = dict(zip(names, servers, strict=True))
    for word in options.admin_sockets:
        name, _, place = word.rpartition("=")
        if name not in found or not place.startswith(UNIX):
            expected = f"SERVER=unix:PATH, SERVER being {', '.join(names)}"
            parser.error(f"--admin-socket {word}: expected {expected}")
        if options.users is None and not options.trusted_proxy:
            parser.error("--admin-socket needs users who operate: --users or --trusted-proxy")
        found[name] = ServerAddress(place, 0)
    return [found[name] for name in names]


def _make_access(parser: ArgumentParser, options: Namespace) -> "Access":
    from gearman_py.web.access import Access, Proxy
    from gearman_py.web.users import Users, UsersError

    proxy = None
    if options.trusted_proxy:
        networks = tuple(options.trusted_proxy)
        proxy = Proxy(networks, options.user_header, frozenset(options.operator or ()))
    try:
        users = Users(options.users) if options.users else None
    except UsersError as error:
        parser.error(f"--users {error}")
    return Access(users=users, proxy=proxy, audit_file=options.audit_log)


def _network(text: str) -> object:
    try:
        return ip_network(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{error}; expected 10.0.0.1 or 10.0.0.0/24") from None


def command_parser() -> ArgumentParser:
    parser = OptionParser(
        prog="gearman-web",
        usage="gearman-web [-h HOST]... [option]...",
        description="Show all job servers as one on a web page.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        add_help=False,
    )
    common.add_servers(parser)
    _add_page(parser.add_argument)
    common.add_help(parser)
    common.add_tls(parser)
    _add_users(parser.add_argument_group("who may see it").add_argument)
    return parser


def _add_page(add: Callable[..., object]) -> None:
    add(
        "--name",
        dest="names",
        action="append",
        default=[],
        metavar="NAME",
        help="what to call a job server; may be repeated, in their order (its address)",
    )
    add("-L", "--listen", default="127.0.0.1", metavar="ADDRESS", help="of the page (127.0.0.1)")
    add(
        "--web-port",
        dest="port_of_page",
        type=common.port_number,
        default=DEFAULT_PORT,
        metavar="PORT",
        help=f"of the page ({DEFAULT_PORT})",
    )
    add("--history", type=Path, metavar="FILE", help="keep 8 days of history in it (in memory)")
    add(
        "--deploys",
        type=Path,
        metavar="FILE",
        default=os.environ.get("GEARMAN_WEB_DEPLOYS"),
        help="where deploys are written down for the page of deploys ($GEARMAN_WEB_DEPLOYS)",
    )
    add(
        "--interval",
        type=common.positive_int,
        default=5,
        metavar="SECONDS",
        help="between two looks at the job servers (5)",
    )
    add("--log-format", choices=("text", "json"), help="what log lines look like (text)")
    add("-v", dest="verbose", action="count", default=0, help="log more")


def _add_users(add: Callable[..., object]) -> None:
    add("--users", type=Path, metavar="FILE", help="users log in; FILE has their passwords' hashes")
    add("--add-user", metavar="NAME", help="add NAME to --users, or change it, and exit")
    add("--role", choices=ROLES, default="read", help="of the user to add (read)")
    add("--tls-certificate", metavar="FILE", help="serve the page by HTTPS")
    add("--tls-key", metavar="FILE", help="its private key")
    add(
        "--trusted-proxy",
        action="append",
        type=_network,
        metavar="ADDRESS",
        help="a proxy that logs users in; may be repeated",
    )
    add("--user-header", metavar="NAME", help="the header in which it names the user")
    add("--operator", action="append", metavar="NAME", help="who may operate; may be repeated")
    add(
        "--admin-socket",
        dest="admin_sockets",
        action="append",
        default=[],
        metavar="SERVER=unix:PATH",
        help="the admin socket of a job server with --admin-only, used for operators alone; may be "
        "repeated",
    )
    add("--audit-log", type=Path, metavar="FILE", help="append who did what to it (the log)")


if __name__ == "__main__":
    sys.exit(main())
