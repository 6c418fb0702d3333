"""The options of gearmand that say where it listens, and for whom."""

from dataclasses import dataclass

from gearman_py.net.servers import DEFAULT_PORT
from gearman_py.net.tls import TLS
from gearman_py.server.option_fields import option


@dataclass(frozen=True)
class ListenSettings:
    """Addresses and TLS: the first of the Settings."""

    port: int = option(
        DEFAULT_PORT, "-p --port", "TCP port (or $GEARMAND_PORT)", type=int, metavar="PORT"
    )
    listen: tuple[str, ...] = option(
        (),
        "-L --listen",
        "address or unix:PATH to listen on; may be repeated (all addresses)",
        metavar="ADDRESS",
        action="append",
    )
    protocol: str = option(
        "",
        "-r --protocol",
        "speak a second protocol on a port of its own: http",
        metavar="PROTOCOL",
        choices=["http"],
    )
    http_port: int = option(
        8080, "--http-port", "port for HTTP, with -r http (8080)", type=int, metavar="PORT"
    )
    admin_listen: tuple[str, ...] = option(
        (),
        "--admin-listen",
        "a Unix socket for operators, for this user and group: all text commands, and shutdown",
        metavar="unix:PATH",
        action="append",
    )
    admin_only: bool = option(
        False,
        "--admin-only",
        "accept text commands that change something (cancel, maxqueue, pause, limit and the like) "
        "or show workloads only on the sockets of --admin-listen",
        action="store_true",
    )
    metrics_listen: tuple[str, ...] = option(
        (),
        "--metrics-listen",
        "answer HTTP GET /metrics (Prometheus) and /healthz at this address; may be repeated",
        metavar="ADDRESS:PORT",
        action="append",
    )
    daemon: bool = option(
        False, "-d --daemon", "detach and run in the background", action="store_true"
    )
    ssl: bool = option(
        False,
        "--ssl",
        "accept only TLS, and only peers with a certificate of the CA; Unix sockets are not "
        "affected",
        action="store_true",
    )
    ssl_ca_file: str = option(
        "/etc/ssl/certs/gearmand-ca.pem", "--ssl-ca-file", "the CA's certificate", metavar="FILE"
    )
    ssl_certificate: str = option(
        "/etc/ssl/certs/gearmand.pem", "--ssl-certificate", "our certificate", metavar="FILE"
    )
    ssl_key: str = option(
        "/etc/ssl/certs/gearmand.key", "--ssl-key", "our private key", metavar="FILE"
    )
    tls_relay_time: float = option(
        3600.0,
        "--tls-relay-time",
        "a process that was replaced by a reload relays the TLS connections it had; close them "
        "after SECONDS, each between two jobs (3600)",
        type=float,
        metavar="SECONDS",
    )

    @property
    def tls(self) -> TLS | None:
        """The files for TLS, with --ssl."""
        return TLS(self.ssl_ca_file, self.ssl_certificate, self.ssl_key) if self.ssl else None
