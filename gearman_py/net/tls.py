"""Mutual TLS: the files, and the contexts made from them.

Both sides present a certificate of the same private CA; a client also checks that the server's
certificate is for the name or address it connects to. TLS 1.2 is the minimum. Key files must not
be encrypted.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gearman_py.net.environment import read_variable

if TYPE_CHECKING:  # imported only for TLS: it adds 10 ms to the start of a command
    import ssl

HANDSHAKE_LIMIT = 5.0  # seconds

# The files of a client: libgearman's environment variables and default paths.
CA_FILE = "GEARMAND_CA_CERTIFICATE", "/etc/ssl/certs/gearmand-ca.pem"
CERTIFICATE = "GEARMAN_CLIENT_PEM", "/etc/ssl/certs/gearman.pem"
KEY = "GEARMAN_CLIENT_KEY", "/etc/ssl/certs/gearman.key"

# OpenSSL's reasons when a peer does not speak TLS.
PLAIN = ("wrong_version_number", "unexpected_message", "http_request", "packet_length_too_long")

# OpenSSL's reasons when the peers do not agree.
MISMATCHES = {
    "peer_did_not_return_a_certificate": "it does not present a certificate",
    "unsupported_protocol": "its TLS is older than 1.2",
}

# A server may refuse a certificate without saying why.
REFUSED_AT_ONCE = "it closed the connection at once: is our certificate from its CA and valid?"


class TLSError(ValueError):
    """A certificate or key cannot be used; the message says which and why."""


@dataclass(frozen=True)
class TLS:
    """Paths of PEM files: the certificate of the CA, our own certificate, and its private key.

    A client may omit its own for a server that does not require one; gearmand does.
    """

    ca_file: str
    certificate: str = ""
    key: str = ""

    @classmethod
    def of_client(cls, ca_file: str = "", certificate: str = "", key: str = "") -> "TLS":
        """The files given; the others from the environment or its file, else libgearman's."""
        given = ((ca_file, CA_FILE), (certificate, CERTIFICATE), (key, KEY))
        return cls(*(path or read_variable(name) or usual for path, (name, usual) in given))

    def server_context(self) -> "ssl.SSLContext":
        """For a server that accepts only certificates of the CA. Raises TLSError."""
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        # Sessions are not resumed, and tickets take a fifth of the memory of a connection.
        context.num_tickets = 0
        return self._load_files(context)

    def client_context(self) -> "ssl.SSLContext":
        """For a client, which checks the certificate and name of the server. Raises TLSError."""
        import ssl

        return self._load_files(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    def _load_files(self, context: "ssl.SSLContext") -> "ssl.SSLContext":
        import ssl

        context.minimum_version = ssl.TLSVersion.TLSv1_2
        own = (self.certificate, self.key) if self.certificate or self.key else ()
        for path in (self.ca_file, *own):
            try:
                with open(path, "rb"):
                    pass
            except OSError as error:
                raise TLSError(f"{path}: {error.strerror}") from error
        try:
            context.load_verify_locations(self.ca_file)
        except ssl.SSLError as error:
            raise TLSError(
                f"{self.ca_file}: not a CA certificate in PEM ({error.reason})"
            ) from error
        if own:
            self.load(context)
        return context

    def load(self, context: "ssl.SSLContext") -> None:
        """Load certificate and key, or reload them for future handshakes. Raises TLSError."""
        try:
            context.load_cert_chain(self.certificate, self.key, password=_no_passphrase)
        except OSError as error:
            why = getattr(error, "reason", None) or error.strerror
            raise TLSError(f"{self.certificate} and {self.key}: {why}") from error


def fresh_context(tls: TLS) -> "ssl.SSLContext":
    """A client context of the current files: certificates get renewed. Raises OSError."""
    try:
        return tls.client_context()
    except TLSError as error:
        raise OSError(str(error)) from error


def why_refused(error: Exception) -> str:
    """Why a handshake failed, in a few words, from an SSLError."""
    if (said := getattr(error, "verify_message", None)) is not None:
        return f"its certificate was refused: {said.rstrip('.')}"
    if type(error).__name__ == "SSLEOFError":
        return REFUSED_AT_ONCE
    reason = (getattr(error, "reason", None) or "").lower()
    if reason in PLAIN:
        return "it does not speak TLS on this port"
    if reason in MISMATCHES:
        return MISMATCHES[reason]
    if "alert" in reason:
        alert = reason.partition("alert_")[2].replace("_", " ")
        return f"it refused us: {alert} (is our certificate from its CA?)"
    return f"TLS failed: {reason.replace('_', ' ') or error}"


def _no_passphrase() -> str:
    raise TLSError("the private key is encrypted; use one without a passphrase")
