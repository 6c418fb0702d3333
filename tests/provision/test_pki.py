"""The certificate authority of an inventory: what it issues, what it refuses, where it is kept."""

import base64
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from provision.errors import InventoryError, ToolkitError
from provision.pki import Authority, authority_of, keep_authority
from tests.attacks import attack

NAMES = ("worker1", "10.0.0.7", "fd00::7")
NOW = timedelta(0)


def made(folder: Path) -> Authority:
    folder.mkdir(exist_ok=True)
    return authority_of(folder)


def test_it_is_not_written_before_it_is_kept(tmp_path: Path) -> None:
    one = made(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert keep_authority(tmp_path) == tmp_path / "tls"
    assert keep_authority(tmp_path) is None
    assert (tmp_path / "tls" / "ca.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "tls" / "ca.pem").read_bytes() == one.pem
    assert (tmp_path / "tls" / ".gitignore").read_text() == "ca.key\n"


def test_where_it_cannot_be_written_is_told(tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / "tls").write_text("no folder")
    with pytest.raises(ToolkitError, match=r"cannot be written there: .*; no host was changed"):
        keep_authority(tmp_path)


def test_its_own_certificates_are_right_until_they_are_about_to_end(tmp_path: Path) -> None:
    one = made(tmp_path)
    issued = one.issue(NAMES, 90).certificate
    assert one.why_wrong(issued, NAMES, timedelta(days=89)) == ""
    assert one.why_wrong(issued, tuple(reversed(NAMES)), NOW) == ""
    assert one.why_wrong(issued, NAMES, timedelta(days=91)) == "it ends in 89 days"
    assert one.why_wrong(issued, NAMES[:2], NOW) == "not for worker1, 10.0.0.7"
    assert one.why_wrong(one.issue(NAMES, 0).certificate, NAMES, NOW) == "it has ended"


def strict(side: int, folder: Path) -> ssl.SSLContext:
    """As ssl.create_default_context() is from Python 3.13 on."""
    context = ssl.SSLContext(side)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(folder / "ca.pem")
    context.load_cert_chain(folder / "host.pem", folder / "host.key")
    return context


def test_peers_that_take_the_standard_by_its_word_accept_its_certificates(tmp_path: Path) -> None:
    one = made(tmp_path)
    issued = one.issue(NAMES, 90)
    (tmp_path / "ca.pem").write_bytes(one.pem)
    (tmp_path / "host.pem").write_bytes(issued.certificate)
    (tmp_path / "host.key").write_bytes(issued.key)
    near, far = socket.socketpair()

    def serve() -> None:
        with strict(ssl.PROTOCOL_TLS_SERVER, tmp_path).wrap_socket(far, server_side=True) as peer:
            peer.sendall(b"welcome")

    with ThreadPoolExecutor(1) as pool, near:
        served = pool.submit(serve)
        context = strict(ssl.PROTOCOL_TLS_CLIENT, tmp_path)
        with context.wrap_socket(near, server_hostname=NAMES[1]) as peer:
            assert peer.recv(7) == b"welcome"
        served.result()


def test_what_others_made_is_told(tmp_path: Path) -> None:
    one, other = made(tmp_path / "one"), made(tmp_path / "other")
    assert one.why_wrong(other.issue(NAMES, 90).certificate, NAMES, NOW) == "of another authority"
    for text in (b"", b"-----BEGIN CERTIFICATE-----\n", one.pem):
        assert one.why_wrong(text, NAMES, NOW) == "no certificate of the authority"


@attack("compromised host", "end its plan by a certificate that makes no sense", "mended")
def test_whatever_a_certificate_holds_it_is_judged(tmp_path: Path) -> None:
    one = made(tmp_path)
    issued = one.issue(NAMES, 90).certificate
    lines = issued.decode().splitlines()
    whole = bytearray(base64.b64decode("".join(lines[1:-1])))
    # The count of the signature's unused bits: with 1 for 0 it may be the very same signature.
    unused_bits = len(whole) - len(x509.load_pem_x509_certificate(issued).signature) - 1
    for place in range(len(whole)):
        for bit in (1, 0x20, 0x80):
            whole[place] ^= bit
            text = base64.encodebytes(whole).decode()
            spoilt = f"{lines[0]}\n{text}{lines[-1]}\n".encode()
            assert one.why_wrong(spoilt, NAMES, NOW) or place == unused_bits, (place, bit)
            whole[place] ^= bit


def moved(folder: Path, to: Path) -> Path:
    """A kept authority in a folder that nobody has asked for yet."""
    made(folder)
    keep_authority(folder)
    folder.rename(to)
    return to


def test_it_is_read_again_and_issues_what_it_knew(tmp_path: Path) -> None:
    issued = made(tmp_path / "one").issue(NAMES, 90).certificate
    again = made(moved(tmp_path / "one", tmp_path / "two"))
    assert again.why_wrong(issued, NAMES, NOW) == ""
    assert again.why_wrong(again.issue(NAMES, 1).certificate, NAMES, NOW) == ""


def test_without_its_key_it_judges_and_does_not_issue(tmp_path: Path) -> None:
    issued = made(tmp_path / "one").issue(NAMES, 90).certificate
    folder = moved(tmp_path / "one", tmp_path / "two")
    (folder / "tls" / "ca.key").unlink()
    assert made(folder).why_wrong(issued, NAMES, NOW) == ""
    with pytest.raises(InventoryError, match=r"ca\.key: it is not here, and worker1 is due"):
        made(folder).issue(NAMES, 90)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda place: (place / "ca.key").chmod(0o644), r"ca\.key: others may read it: chmod 600"),
        (lambda place: (place / "ca.key").write_text("x"), r"ca\.key: no private key can be read"),
        (lambda place: (place / "ca.pem").write_text("x"), r"ca\.pem: no certificate can be read"),
        (lambda place: (place / "ca.pem").unlink(), r"ca\.pem: it is missing, and ca\.key"),
    ],
)
def test_files_that_are_no_use_are_named(tmp_path: Path, spoil: object, message: str) -> None:
    folder = moved(tmp_path / "one", tmp_path / "two")
    assert callable(spoil)
    spoil(folder / "tls")
    with pytest.raises(InventoryError, match=message):
        made(folder)


def test_a_key_of_another_authority_is_refused_before_it_signs(tmp_path: Path) -> None:
    one = moved(tmp_path / "one", tmp_path / "two") / "tls"
    other = moved(tmp_path / "three", tmp_path / "four") / "tls"
    (other / "ca.key").rename(one / "ca.key")
    with pytest.raises(
        InventoryError, match=r"two/tls/ca\.key: it is the key of another authority"
    ):
        made(one.parent)


def test_an_authority_that_has_ended_issues_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provision.pki.AUTHORITY_YEARS", 0)
    with pytest.raises(InventoryError, match=r"ca\.pem: it ended on \d{4}-\d\d-\d\d, and worker1"):
        made(tmp_path).issue(NAMES, 90)


def test_an_encrypted_key_is_opened_only_to_issue_something(tmp_path: Path) -> None:
    first = made(tmp_path / "first")
    pair = first.issue(NAMES, 90)
    keep_authority(tmp_path / "first")
    (tmp_path / "first" / "tls" / "ca.key").write_text("$ANSIBLE_VAULT;1.1;AES256\n6666\n")
    (tmp_path / "first").rename(tmp_path / "second")
    again = made(tmp_path / "second")
    assert again.fingerprint == first.fingerprint
    assert again.why_wrong(pair.certificate, NAMES, NOW) == ""
    with pytest.raises(InventoryError, match=r"ca\.key"):
        again.issue(NAMES, 90)
