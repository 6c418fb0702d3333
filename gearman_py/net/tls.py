"""TLS with certificates on both sides: which files, and the contexts made of them.

Both sides show a certificate of the same private CA; a client also checks that the server's is
for the name or address it dialled. Nothing older than TLS 1.2 is spoken. Key files must not ask
for a passphrase.
"""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for those who do speak it: importing it takes 10 ms of a command's start
    import ssl

HANDSHAKE_LIMIT = 5.0  # seconds

# A client's files: libgearman's environment variables, and where it looks without them.
CA_FILE = "GEARMAND_CA_CERTIFICATE", "/etc/ssl/certs/gearmand-ca.pem"
CERTIFICATE = "GEARMAN_CLIENT_PEM", "/etc/ssl/certs/gearman.pem"
KEY = "GEARMAN_CLIENT_KEY", "/etc/ssl/certs/gearman.key"

# What OpenSSL says of a peer that does not speak TLS.
PLAIN = ("wrong_version_number", "unexpected_message", "http_request", "packet_length_too_long")

# What it says of a peer that speaks it otherwise than we do.
OTHERWISE = {
    "peer_did_not_return_a_certificate": "it shows no certificate",
    "unsupported_protocol": "its TLS is older than 1.2",
}

# A server need not say why it refuses a certificate: asyncio's do not.
TURNED_AWAY = "it hung up at once: is our certificate one of its CA, and not expired?"


class TLSError(ValueError):
    """A certificate or key cannot be used; the message says which and why."""


@dataclass(frozen=True)
class TLS:
    """Paths of PEM files: the CA's certificate, one's own certificate, and its private key.

    A client may leave its own out, for a server that asks for none; gearman_py's does ask.
    """

    ca_file: str
    certificate: str = ""
    key: str = ""

    @classmethod
    def of_client(cls, ca_file: str = "", certificate: str = "", key: str = "") -> "TLS":
        """The files given; the others as the environment says, or where libgearman looks."""
        given = ((ca_file, CA_FILE), (certificate, CERTIFICATE), (key, KEY))
        return cls(*(path or os.environ.get(name) or usual for path, (name, usual) in given))

    def server_context(self) -> "ssl.SSLContext":
        """For a server that serves only those whom the CA knows. Raises TLSError."""
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        # Nobody here resumes sessions, and to offer it takes a fifth of a connection's memory.
        context.num_tickets = 0
        return self._fill(context)

    def client_context(self) -> "ssl.SSLContext":
        """For a client; the server's certificate and name are checked. Raises TLSError."""
        import ssl

        return self._fill(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    def _fill(self, context: "ssl.SSLContext") -> "ssl.SSLContext":
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
            raise TLSError(f"{self.ca_file}: no CA certificate in PEM ({error.reason})") from error
        if own:
            self.load(context)
        return context

    def load(self, context: "ssl.SSLContext") -> None:
        """Read certificate and key, again if need be: for handshakes to come. Raises TLSError."""
        try:
            context.load_cert_chain(self.certificate, self.key, password=_no_passphrase)
        except OSError as error:
            why = getattr(error, "reason", None) or error.strerror
            raise TLSError(f"{self.certificate} and {self.key}: {why}") from error


def fresh_context(tls: TLS) -> "ssl.SSLContext":
    """A client's, of the files as they are now: certificates are renewed. Raises OSError."""
    try:
        return tls.client_context()
    except TLSError as error:
        raise OSError(str(error)) from error


def why_refused(error: Exception) -> str:
    """Why a peer and we did not come to terms, in a few words, of an SSLError."""
    if (said := getattr(error, "verify_message", None)) is not None:
        return f"its certificate is refused: {said.rstrip('.')}"
    reason = (getattr(error, "reason", None) or "").lower()
    if reason in PLAIN:
        return "it does not speak TLS on this port"
    if reason in OTHERWISE:
        return OTHERWISE[reason]
    if "alert" in reason:
        alert = reason.partition("alert_")[2].replace("_", " ")
        return f"it refused us: {alert} (is our certificate one of its CA?)"
    return f"TLS failed: {reason.replace('_', ' ') or error}"


def _no_passphrase() -> str:
    raise TLSError("the private key asks for a passphrase: give one without")
