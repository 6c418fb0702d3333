"""TLS with certificates on both sides: which files, and the contexts made of them.

Both sides show a certificate of the same private CA; a client also checks that the server's is
for the name or address it dialled. Nothing older than TLS 1.2 is spoken. Key files must not ask
for a passphrase.
"""

import ssl
from dataclasses import dataclass

HANDSHAKE_LIMIT = 5.0  # seconds


class TLSError(ValueError):
    """A certificate or key cannot be used; the message says which and why."""


@dataclass(frozen=True)
class TLS:
    """Paths of PEM files: the CA's certificate, one's own certificate, and its private key."""

    ca_file: str
    certificate: str
    key: str

    def server_context(self) -> ssl.SSLContext:
        """For a server that serves only those whom the CA knows. Raises TLSError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        return self._fill(context)

    def client_context(self) -> ssl.SSLContext:
        """For a client; the server's certificate and name are checked. Raises TLSError."""
        return self._fill(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    def _fill(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        for path in (self.ca_file, self.certificate, self.key):
            try:
                with open(path, "rb"):
                    pass
            except OSError as error:
                raise TLSError(f"{path}: {error.strerror}") from error
        try:
            context.load_verify_locations(self.ca_file)
        except ssl.SSLError as error:
            raise TLSError(f"{self.ca_file}: no CA certificate in PEM ({error.reason})") from error
        self.load(context)
        return context

    def load(self, context: ssl.SSLContext) -> None:
        """Read certificate and key, again if need be: for handshakes to come. Raises TLSError."""
        try:
            context.load_cert_chain(self.certificate, self.key, password=_no_passphrase)
        except (ssl.SSLError, OSError) as error:
            why = getattr(error, "reason", None) or error.strerror
            raise TLSError(f"{self.certificate} and {self.key}: {why}") from error


def _no_passphrase() -> str:
    raise TLSError("the private key asks for a passphrase: give one without")
