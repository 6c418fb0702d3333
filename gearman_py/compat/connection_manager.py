"""The base of client, worker and admin client: servers, and the encoding of data."""

from collections.abc import Iterable
from typing import Any

from gearman_py.compat.errors import GearmanError
from gearman_py.compat.job import GearmanJob
from gearman_py.net.servers import ServerAddress, parse_servers
from gearman_py.net.tls import TLS

Name = str | bytes
Host = str | tuple[str, int] | dict[str, Any]


class DataEncoder:
    """Converts workloads and results to bytes; set a subclass as ``data_encoder``."""

    @classmethod
    def encode(cls, encodable_object: Any) -> Any:
        """Encode a value as bytes, or as a str, which is sent as UTF-8."""
        raise NotImplementedError

    @classmethod
    def decode(cls, decodable_string: Any) -> Any:
        """Decode received bytes."""
        raise NotImplementedError


class NoopEncoder(DataEncoder):
    """Passes bytes and str through, and nothing else."""

    @classmethod
    def encode(cls, encodable_object: Any) -> Any:
        """The data itself. Raises TypeError unless it is bytes or str."""
        if not isinstance(encodable_object, bytes | str):
            raise TypeError(f"Expecting byte string, got {type(encodable_object)!r}")
        return encodable_object

    @classmethod
    def decode(cls, decodable_string: Any) -> Any:
        """The data itself."""
        return decodable_string


class GearmanConnectionManager:
    """The base of all three. Connections are opened on first use."""

    data_encoder: type[DataEncoder] | DataEncoder = NoopEncoder
    job_class = GearmanJob

    def __init__(self, host_list: Iterable[Host] | None = None) -> None:
        self.connection_list: list[ServerAddress] = []
        for host in host_list or ():
            if isinstance(host, dict):
                if not {"host", "port", "keyfile", "certfile", "ca_certs"} <= host.keys():
                    raise GearmanError("Incomplete SSL connection definition")
                tls = TLS(host["ca_certs"], host["certfile"], host["keyfile"])
                where = f"{host['host']}:{host['port']}"
                try:
                    self.connection_list += parse_servers([where], tls=tls)
                except ValueError as error:
                    raise GearmanError(str(error)) from error
                continue
            if not isinstance(host, str | tuple):
                raise GearmanError(f"Expected str, tuple or dict; got {host!r} (type {type(host)})")
            self.add_connection(host)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} connection_list={[str(one) for one in self.connection_list]}>"
        )

    def add_connection(self, hostport_tuple: str | tuple[str, int]) -> ServerAddress:
        """Add a server: "host", "host:port" or (host, port). Raises ValueError."""
        if isinstance(hostport_tuple, str):
            (server,) = parse_servers([hostport_tuple])
        else:
            host, port = hostport_tuple
            server = ServerAddress(host, int(port))
        self.connection_list.append(server)
        return server

    def establish_connection(self, current_connection: ServerAddress) -> ServerAddress:
        """The server itself: connections are opened on first use."""
        return current_connection

    def encode(self, data: Any) -> bytes:
        """Encode a value with data_encoder, as it goes on the wire."""
        encoded = self.data_encoder.encode(data)
        return encoded.encode() if isinstance(encoded, str) else bytes(encoded)

    def decode(self, data: bytes) -> Any:
        """Decode bytes with data_encoder."""
        return self.data_encoder.decode(data)


def as_text(name: Name) -> str:
    """The name of a function, a unique or a handle, as our library expects it."""
    return name if isinstance(name, str) else name.decode(errors="surrogateescape")


def as_bytes(name: str) -> bytes:
    """The reverse of as_text: pygearman gives handles and uniques as bytes."""
    return name.encode(errors="surrogateescape")
