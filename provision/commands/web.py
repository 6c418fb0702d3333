"""`./invoke web`: the dashboard of an inventory's job servers, on this machine and through SSH.

Nothing is installed on the hosts, and their firewalls stay as they are. The SSH connections are
those of the other commands: through jump hosts, with verified keys. With ``operate``, the page is
for who has its link alone, and steers by the admin sockets of the hosts, through sudo.
"""

import asyncio
import logging
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from pathlib import Path

from gearman_py.net.servers import UNIX, ServerAddress
from gearman_py.net.tls import TLS
from gearman_py.web.secret_link import SecretLink
from provision.commands.fleet_history import FleetHistory
from provision.errors import InventoryError, ToolkitError
from provision.fleet.admin_forward import forward_admin_socket, open_relay
from provision.fleet.pool import describe_operator
from provision.inventory import load as inventory
from provision.inventory.host import Host
from provision.inventory.places import EVERY
from provision.options import Options
from provision.pki import authority_of
from provision.ssh.forwarding import LOOPBACK, forward_to, listen_unix
from provision.wording import format_count

CLIENT = "dashboard"  # the name in its certificate
LAST_PORT = 65535
INTERVAL = 5.0  # seconds between two looks
PRIVATE = 0o600


class TunnelledTLS(TLS):
    """TLS to a host that was verified by its SSH key: the certificate is not for 127.0.0.1.

    The files are read once, and need not stay.
    """

    def client_context(self) -> ssl.SSLContext:
        return self._context

    @cached_property
    def _context(self) -> ssl.SSLContext:
        context = super().client_context()
        context.check_hostname = False
        return context


class SayingHandler(logging.Handler):
    """Says what is logged."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(record.getMessage())


def show(
    folder: Path,
    options: Options,
    port: int,
    history: str,
    say: Callable[[str], None],
    *,
    operate: bool = False,
) -> int:
    """Serve the dashboard until Ctrl-C. Returns a status. Raises ToolkitError."""
    if port not in range(LAST_PORT + 1):
        raise ToolkitError(f"--port {port}: say 0 to {LAST_PORT}")
    known = inventory.load(folder, options.limit)
    hosts = list(known.group("job_server"))
    if not hosts:
        raise InventoryError("no host in group job_server")
    with ExitStack() as stack:
        tls = _client_tls(hosts)
        sockets = stack.enter_context(tempfile.TemporaryDirectory(prefix="gearman-web-"))
        servers = [
            stack.enter_context(_forwarded(host, tls, Path(sockets, f"{number}.sock")))
            for number, host in enumerate(hosts)
        ]
        operated, link = list[ServerAddress](), None
        if operate:
            operated = stack.enter_context(_admin_sockets(hosts, say))
            link = SecretLink(describe_operator()["who"])
            stack.enter_context(_shown_audit(say))
        url = f"http://{LOOPBACK}:{port}{link.path if link else ''}"
        told = f"{format_count(len(hosts), 'job server')}: {url} (Ctrl-C ends it)"
        names = [host.name for host in hosts]
        try:
            deploys = FleetHistory(known.hosts)
            tell = partial(say, told)
            _serve(servers, names, port, history, operated, link, deploys, tell)
        except KeyboardInterrupt:
            pass  # how it is meant to end
    return 0


def _serve(
    servers: list[ServerAddress],
    names: list[str],
    port: int,
    history: str,
    operated: list[ServerAddress],
    link: SecretLink | None,
    deploys: FleetHistory,
    tell: Callable[[], None],
) -> None:
    from gearman_py.web.access import Access
    from gearman_py.web.app import make_app
    from gearman_py.web.collector import Collector
    from gearman_py.web.history import History, HistoryError
    from gearman_py.web.serve import ListenError, serve

    async def run() -> None:
        kept = History(Path(history) if history else None)
        collector = Collector(servers, kept, INTERVAL, names, operated)
        app = make_app(collector, Access(link=link), deploys.read)
        await serve(app, LOOPBACK, port, None, tell)

    try:
        asyncio.run(run())
    except (HistoryError, ListenError) as error:
        raise ToolkitError(f"web: {error}") from error


@contextmanager
def _forwarded(host: Host, tls: TLS | None, path: Path) -> Iterator[ServerAddress]:
    """Where the job server of a host can be reached on this machine, by this user alone.

    With TLS that is a port, at which others have no certificate.
    """
    listens = host.variables["gearman_listen"]
    address = LOOPBACK if listens in EVERY else listens
    if host.variables["gearman_tls"]:
        listening = socket.create_server((LOOPBACK, 0))
        server = ServerAddress(LOOPBACK, listening.getsockname()[1], tls)
    else:
        listening, server = listen_unix(path), ServerAddress(f"{UNIX}{path}", 0)
    with forward_to(host, address, host.variables["gearman_port"], listening):
        yield server


@contextmanager
def _admin_sockets(hosts: list[Host], say: Callable[[str], None]) -> Iterator[list[ServerAddress]]:
    """Sockets of this machine, for this user alone, that lead to the admin sockets of the hosts.

    A sudo password is asked for now. A host that fails is told, and is tried again when it is used.
    """
    with tempfile.TemporaryDirectory(prefix="gearman-web-") as folder, ExitStack() as stack:
        paths = [Path(folder, f"{number}.sock") for number in range(len(hosts))]
        for host, path in zip(hosts, paths, strict=True):
            try:
                open_relay(host).close()
            except ToolkitError as error:
                say(f"it cannot be steered now: {error}")
            stack.enter_context(forward_admin_socket(host, path))
        yield [ServerAddress(f"{UNIX}{path}", 0) for path in paths]


@contextmanager
def _shown_audit(say: Callable[[str], None]) -> Iterator[None]:
    """Meanwhile what is done on the pages is told."""
    audit = logging.getLogger("gearman_py.web.access")
    handler = SayingHandler(say)
    audit.addHandler(handler)
    usual = audit.level
    audit.setLevel(logging.INFO)
    try:
        yield
    finally:
        audit.removeHandler(handler)
        audit.setLevel(usual)


def _client_tls(hosts: list[Host]) -> TLS | None:
    """A certificate that is kept in memory alone; None where no job server asks for one."""
    secure = [host for host in hosts if host.variables["gearman_tls"]]
    if not secure:
        return None
    authority = authority_of(secure[0].folder)
    if not authority.kept:
        raise InventoryError(f"{authority.place}: the CA does not exist yet: a deploy makes it")
    certificate, key = authority.issue([CLIENT], secure[0].variables["gearman_certificate_days"])
    with tempfile.TemporaryDirectory(prefix="gearman-web-") as folder:
        files = {"ca.pem": authority.pem, "client.pem": certificate, "client.key": key}
        for name, content in files.items():
            path = Path(folder, name)
            path.touch(PRIVATE)
            path.write_bytes(content)
        tls = TunnelledTLS(*(str(Path(folder, name)) for name in files))
        tls.client_context()
    return tls
