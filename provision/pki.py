"""The private certificate authority of an inventory: whom a fleet with TLS believes.

It is two files beside the inventory, ``tls/ca.pem`` and ``tls/ca.key``; whoever has the key can
make himself a worker or a client, so it stays here, and may be encrypted with ansible-vault. Hosts
hold certificates that it issued, each for the host's own names. A plan makes it in memory alone;
it is written when the first host is about to hear of it.
"""

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from ipaddress import ip_address
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from provision.errors import InventoryError, ToolkitError
from provision.inventory import vault
from provision.wording import format_count

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

AUTHORITY_YEARS = 10  # that the authority is good for
CLOCK_SKEW = timedelta(hours=1)  # by which a host's clock may be behind ours
FOLDER = "tls"


class Pair(NamedTuple):
    """A certificate and its private key, in PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """Issues certificates. ``place`` is its folder; the key is read when it is needed."""

    def __init__(
        self,
        place: Path,
        certificate: "x509.Certificate",
        read_key: "Callable[[], ec.EllipticCurvePrivateKey | None]",
    ) -> None:
        self.place = place
        self._certificate = certificate
        self._read_key = read_key
        self._reading = Lock()
        self.kept = False

    @cached_property
    def _private_key(self) -> "ec.EllipticCurvePrivateKey | None":
        return self._read_key()

    @property
    def _key(self) -> "ec.EllipticCurvePrivateKey | None":
        with self._reading:  # whose password is asked for once, though hosts want it at once
            return self._private_key

    @property
    def pem(self) -> bytes:
        """Its certificate, by which everyone knows it."""
        return _to_pem(self._certificate)

    @property
    def fingerprint(self) -> str:
        """What tells it from any other."""
        from cryptography.hazmat.primitives import hashes

        return self._certificate.fingerprint(hashes.SHA256()).hex()[:16]

    def issue(self, names: Sequence[str], days: int) -> Pair:
        """A new key, and a certificate that says it is these names' (DNS names or addresses).

        Raises :class:`InventoryError` when the authority's own key is not here.
        """
        from cryptography import x509
        from cryptography.x509.oid import ExtendedKeyUsageOID

        if self._key is None:
            raise InventoryError(
                f"{self.place / 'ca.key'}: it is not here, and {names[0]} is due a certificate: "
                "bring it from where the authority was made"
            )
        if self._certificate.not_valid_after_utc <= datetime.now(UTC):
            raise InventoryError(
                f"{self.place / 'ca.pem'}: it ended on "
                f"{self._certificate.not_valid_after_utc:%Y-%m-%d}, and {names[0]} is due a "
                "certificate: move the folder away, and the next deploy makes a new authority"
            )
        key = _new_key()
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = _certificate_builder(names[0], key, timedelta(days=days))
        builder = builder.issuer_name(self._certificate.subject)
        builder = builder.add_extension(x509.BasicConstraints(False, None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
        builder = builder.add_extension(_alternative_names(names), critical=False)
        return Pair(_to_pem(_sign_certificate(builder, self._key)), _key_pem(key))

    def why_wrong(self, certificate: bytes, names: Sequence[str], left: timedelta) -> str:
        """Why this certificate is not one of these names that is good for so long; "": it is."""
        from cryptography import x509
        from cryptography.exceptions import InvalidSignature

        try:
            found = x509.load_pem_x509_certificate(certificate)
            known = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            if found.issuer != self._certificate.subject:
                return "of another authority"
            found.verify_directly_issued_by(self._certificate)
        except InvalidSignature:
            return "of another authority"
        except Exception:  # what a host's file can raise here has no common class
            return "no certificate of the authority"
        if set(known) != set(_alternative_names(names)):
            return f"not for {', '.join(names)}"
        rest = found.not_valid_after_utc - datetime.now(UTC)
        if rest <= timedelta(0):
            return "it has ended"
        return f"it ends in {format_count(rest.days, 'day')}" if rest < left else ""

    def keep(self) -> bool:
        """Write it down, unless that is done; whether it was new."""
        if self.kept or self._key is None:
            return False
        self.place.mkdir(mode=0o700, exist_ok=True)
        (self.place / ".gitignore").write_text("ca.key\n")
        descriptor = os.open(self.place / "ca.key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(_key_pem(self._key))
            file.flush()
            os.fsync(descriptor)
        (self.place / "ca.pem").write_bytes(self.pem)
        self.kept = True
        return True


_made: dict[Path, Authority] = {}  # by inventory: one for a run, whose hosts ask at once
_making = Lock()


def authority_of(inventory: Path) -> Authority:
    """An inventory's authority; a new one, not yet written, when it has none.

    Raises :class:`InventoryError` for files that are no use.
    """
    with _making:
        if inventory not in _made:
            _made[inventory] = _read_authority(inventory / FOLDER)
        return _made[inventory]


def keep_authority(inventory: Path) -> Path | None:
    """Write down the authority that was made for a plan of this inventory; where, if it was.

    Raises :class:`ToolkitError`.
    """
    made = _made.get(inventory)
    try:
        return made.place if made and made.keep() else None
    except OSError as error:
        raise ToolkitError(
            f"{inventory / FOLDER}: the new certificate authority cannot be written there: "
            f"{error.strerror}; no host was changed"
        ) from None


def _read_authority(place: Path) -> Authority:
    from cryptography import x509

    if not (place / "ca.pem").exists():
        if (place / "ca.key").exists():
            raise InventoryError(
                f"{place / 'ca.pem'}: it is missing, and ca.key beside it is not: "
                "bring it back, or delete ca.key too for a new authority"
            )
        return new_authority(place, place.parent.resolve().name)
    try:
        certificate = x509.load_pem_x509_certificate((place / "ca.pem").read_bytes())
    except (OSError, ValueError) as error:
        raise InventoryError(f"{place / 'ca.pem'}: no certificate can be read: {error}") from None
    path = place / "ca.key"
    if _is_encrypted(path):
        made = Authority(place, certificate, partial(_read_key, path, certificate))
    else:
        key = _read_key(path, certificate)
        made = Authority(place, certificate, lambda: key)
    made.kept = True
    return made


def _is_encrypted(path: Path) -> bool:
    try:
        return vault.is_encrypted(path.read_text())
    except (OSError, UnicodeDecodeError):
        return False


def _read_key(path: Path, certificate: "x509.Certificate") -> "ec.EllipticCurvePrivateKey | None":
    """The key of this certificate; None: it is not here. Raises InventoryError."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        text = path.read_text()
        open_to = path.stat().st_mode & 0o077
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InventoryError(f"{path}: it cannot be read: {error}") from None
    if vault.is_encrypted(text):
        text = vault.open_vault(text, str(path))
    elif open_to:
        raise InventoryError(f"{path}: others may read it: chmod 600 {path}")
    try:
        key = load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError) as error:
        raise InventoryError(f"{path}: no private key can be read: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InventoryError(f"{path}: expected an elliptic-curve key")
    if key.public_key() != certificate.public_key():
        raise InventoryError(
            f"{path}: it is the key of another authority than {path.with_suffix('.pem')}: "
            "bring back the two that belong together"
        )
    return key


def new_authority(place: Path, name: str) -> Authority:
    """One that is not written down; ``name`` is told in its certificate."""
    from cryptography import x509

    key = _new_key()
    builder = _certificate_builder(
        f"gearman CA of {name}", key, timedelta(days=365 * AUTHORITY_YEARS)
    )
    builder = builder.issuer_name(x509.Name(_common_name(f"gearman CA of {name}")))
    builder = builder.add_extension(x509.BasicConstraints(True, 0), critical=True)
    # RFC 5280, 4.2.1.3: a CA says that its key signs certificates.
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    builder = builder.add_extension(usage, critical=True)
    return Authority(place, _sign_certificate(builder, key), lambda: key)


def _new_key() -> "ec.EllipticCurvePrivateKey":
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _certificate_builder(
    name: str, key: "ec.EllipticCurvePrivateKey", valid: timedelta
) -> "x509.CertificateBuilder":
    from cryptography import x509

    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name(_common_name(name)))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + valid)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _common_name(name: str) -> "list[x509.NameAttribute[str]]":
    from cryptography import x509

    return [x509.NameAttribute(x509.NameOID.COMMON_NAME, name[:64])]


def _alternative_names(names: Sequence[str]) -> "x509.SubjectAlternativeName":
    from cryptography import x509

    def one(name: str) -> "x509.GeneralName":
        try:
            return x509.IPAddress(ip_address(name))
        except ValueError:
            return x509.DNSName(name)

    return x509.SubjectAlternativeName(map(one, dict.fromkeys(names)))


def _sign_certificate(
    builder: "x509.CertificateBuilder", key: "ec.EllipticCurvePrivateKey"
) -> "x509.Certificate":
    """With the ids of both keys: Python's SSL from 3.13 on refuses what lacks them (RFC 5280)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    builder = builder.add_extension(issuer, critical=False)
    return builder.sign(key, hashes.SHA256())


def _to_pem(certificate: "x509.Certificate") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: "ec.EllipticCurvePrivateKey") -> bytes:
    from cryptography.hazmat.primitives import serialization as form

    return key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
