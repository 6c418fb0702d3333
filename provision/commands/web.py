"""`invoke web`: the dashboard of an inventory's job servers, on this machine and through SSH.

Nothing is installed on the hosts, and their firewalls stay as they are. The SSH connections are
those of the other commands: through jump hosts, with verified keys.
"""

import asyncio
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from gearman_py.net.servers import ServerAddress
from gearman_py.net.tls import TLS
from provision.errors import InventoryError, ToolkitError
from provision.inventory import load as inventory
from provision.inventory.host import Host
from provision.inventory.places import EVERY
from provision.options import Options
from provision.pki import authority_of
from provision.ssh.forwarding import LOOPBACK, LocalForward, forward_to
from provision.wording import format_count

CLIENT = "dashboard"  # the name in its certificate
INTERVAL = 5.0  # seconds between two looks
PRIVATE = 0o600


class TunnelledTLS(TLS):
    """TLS to a host that was verified by its SSH key: the certificate is not for 127.0.0.1."""

    def client_context(self) -> ssl.SSLContext:
        context = super().client_context()
        context.check_hostname = False
        return context


def show(
    folder: Path, options: Options, port: int, history: str, say: Callable[[str], None]
) -> int:
    """Serve the dashboard until Ctrl-C. Returns a status. Raises ToolkitError."""
    hosts = list(inventory.load(folder, options.limit).group("job_server"))
    if not hosts:
        raise InventoryError("no host in group job_server")
    with ExitStack() as stack:
        tls = stack.enter_context(_client_tls(hosts))
        forwards = [stack.enter_context(_forward(host)) for host in hosts]
        servers = [
            ServerAddress(LOOPBACK, forward.port, tls if host.variables["gearman_tls"] else None)
            for host, forward in zip(hosts, forwards, strict=True)
        ]
        say(f"{format_count(len(hosts), 'job server')}: http://{LOOPBACK}:{port} (Ctrl-C ends it)")
        try:
            _serve(servers, [host.name for host in hosts], port, history)
        except KeyboardInterrupt:
            pass  # how it is meant to end
    return 0


def _serve(servers: list[ServerAddress], names: list[str], port: int, history: str) -> None:
    from gearman_py.web.access import Access
    from gearman_py.web.app import make_app
    from gearman_py.web.collector import Collector
    from gearman_py.web.history import History, HistoryError
    from gearman_py.web.serve import ListenError, serve

    async def run() -> None:
        kept = History(Path(history) if history else None)
        collector = Collector(servers, kept, INTERVAL, names)
        await serve(make_app(collector, Access()), LOOPBACK, port, None)

    try:
        asyncio.run(run())
    except (HistoryError, ListenError) as error:
        raise ToolkitError(f"web: {error}") from error


def _forward(host: Host) -> AbstractContextManager[LocalForward]:
    """A port of loopback that leads to the job server of a host."""
    listening = host.variables["gearman_listen"]
    address = LOOPBACK if listening in EVERY else listening
    return forward_to(host, address, host.variables["gearman_port"])


@contextmanager
def _client_tls(hosts: list[Host]) -> Iterator[TLS | None]:
    """A certificate for as long as it is needed; None where no job server asks for one."""
    secure = [host for host in hosts if host.variables["gearman_tls"]]
    if not secure:
        yield None
        return
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
        yield TunnelledTLS(*(str(Path(folder, name)) for name in files))
