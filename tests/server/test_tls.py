"""--ssl: TLS with a certificate of the CA is the only way in, and a handshake holds up nobody."""

import contextlib
import http.client
import signal
import socket
import ssl
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509

from gearman_py.net.tls import TLS, TLSError
from gearman_py.protocol.codec import request
from gearman_py.protocol.packets import Packet
from tests.authority import DAY, Authority, words
from tests.job_servers import Address, GearmandProcess
from tests.peer import Peer
from tests.ports import reserve_port
from tests.tally import tally
from tests.waiting import LIMIT, await_true

Start = Callable[..., GearmandProcess]
ConnectTLS = Callable[[Address], Peer]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


def version(address: Address, context: ssl.SSLContext) -> bytes:
    """What the server answers to ``version`` by TLS; raises OSError when it does not."""
    with (
        socket.create_connection(address, 10) as plain,
        context.wrap_socket(plain, server_hostname=address[0]) as peer,
    ):
        peer.sendall(b"version\r\n")
        return peer.recv(1000)


def test_certificate_of_the_ca_is_served(start: Start, authority: Authority) -> None:
    address = start(*words(authority.issue("server"))).listening()
    assert version(address, authority.issue("client").client_context()).startswith(b"OK ")


def test_peers_without_a_valid_certificate_are_refused(
    start: Start, authority: Authority, tmp_path: Path
) -> None:
    address = start(*words(authority.issue("server"))).listening()
    foreign = Authority(tmp_path, "other").issue("client")
    nobody = ssl.create_default_context(cafile=str(authority.file))
    late = authority.issue("late", until=-DAY).client_context()
    stranger = TLS(str(authority.file), foreign.certificate, foreign.key).client_context()
    old = authority.issue("old").client_context()
    old.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):  # Python would rather not
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    let_in = 0
    for context in (nobody, late, stranger, old):
        with contextlib.suppress(OSError):
            let_in += bool(version(address, context))
    with socket.create_connection(address, 10) as plain, contextlib.suppress(OSError):
        plain.sendall(b"version\r\n")
        let_in += b"OK" in plain.recv(1000)
    assert not let_in
    assert version(address, authority.issue("client").client_context()).startswith(b"OK ")
    tally("tls", kinds_of_stranger=5, let_in=let_in)


def test_plain_connection_is_refused(start: Start, authority: Authority) -> None:
    address = start(*words(authority.issue("server"))).listening()
    with socket.create_connection(address, 10) as peer:
        peer.sendall(b"version\r\n" * 100)
        try:
            assert b"OK" not in peer.recv(1000)
        except ConnectionResetError:
            pass


def test_metrics_are_for_who_has_a_certificate_too(start: Start, authority: Authority) -> None:
    port = reserve_port()
    files = authority.issue("server")
    start(*words(files), "--metrics-listen", f"127.0.0.1:{port}").listening()
    nobody = ssl.create_default_context(cafile=str(authority.file))
    answers = []
    for context in (authority.issue("prometheus").client_context(), nobody):
        scraper = http.client.HTTPSConnection("127.0.0.1", port, timeout=LIMIT, context=context)
        with contextlib.suppress(OSError):
            scraper.request("GET", "/metrics")
            answers.append(scraper.getresponse().read())
        scraper.close()
    (answer,) = answers
    assert b"gearman_up 1\n" in answer
    certificate = x509.load_pem_x509_certificate(Path(files.certificate).read_bytes())
    end = certificate.not_valid_after_utc.timestamp()
    assert f"gearman_certificate_end_seconds {end}\n".encode() in answer


def test_client_refuses_a_server_of_another_name_or_ca(
    start: Start, authority: Authority, tmp_path: Path
) -> None:
    address = start(*words(authority.issue("server", address="127.0.0.9"))).listening()
    for client in (authority.issue("client"), Authority(tmp_path, "other").issue("client")):
        with pytest.raises(ssl.SSLCertVerificationError):
            version(address, client.client_context())


@pytest.mark.slow
def test_silent_handshakes_hold_up_nobody_and_are_ended(start: Start, authority: Authority) -> None:
    address = start(*words(authority.issue("server"))).listening()
    silent = [socket.create_connection(address, 10) for _ in range(100)]
    assert version(address, authority.issue("client").client_context()).startswith(b"OK ")
    for peer in silent:
        with peer:
            assert peer.recv(1) == b""
    tally("handshakes", silent=len(silent), others_held_up=0, closed_after_seconds=5)


@pytest.mark.slow
def test_handshakes_that_are_not_ended_count_as_connections_and_keep_nobody_out(
    start: Start, authority: Authority
) -> None:
    metrics = reserve_port()
    options = "--max-connections", "20", "--metrics-listen", f"127.0.0.1:{metrics}"
    server = start(*options, *words(authority.issue("server")))
    address = server.listening()
    client = authority.issue("client").client_context()
    descriptors = Path(f"/proc/{server.process.pid}/fd")
    before = len(list(descriptors.iterdir()))

    def begin(number: int, opened: contextlib.ExitStack) -> list[socket.socket]:
        """Handshakes that are begun, and not gone on with."""
        return [opened.enter_context(socket.create_connection(address, 10)) for _ in range(number)]

    with contextlib.ExitStack() as opened:
        for peer in begin(200, opened)[20:]:  # most at once, the last after five seconds
            with contextlib.suppress(ConnectionResetError):
                assert peer.recv(1) == b"", "it is turned away"
        await_true(lambda: len(list(descriptors.iterdir())) <= before + 21)
        assert server.log.count("refusing new ones (--max-connections)") == 1

        def is_served() -> bool:
            with contextlib.suppress(OSError):
                return version(address, client).startswith(b"OK ")
            return False

        def gets_in_beside_them() -> bool:
            """Whether one of them had to give way, before all of them had been ended anyway."""
            with contextlib.ExitStack() as attempt:
                begin(20, attempt)
                await_true(is_served)
            return "its place was needed" in server.log

        await_true(gets_in_beside_them)
    with contextlib.ExitStack() as opened:
        inside: list[ssl.SSLSocket] = []

        def fill() -> bool:
            """Whether there are as many connections as may be."""
            with contextlib.suppress(OSError):
                plain = opened.enter_context(socket.create_connection(address, 10))
                peer = opened.enter_context(client.wrap_socket(plain, server_hostname=address[0]))
                peer.sendall(b"version\r\n")
                if peer.recv(1000):
                    inside.append(peer)
            return len(inside) == 20

        await_true(fill)
        scraper = http.client.HTTPSConnection("127.0.0.1", metrics, timeout=30, context=client)
        with contextlib.closing(scraper):
            scraper.request("GET", "/healthz")
            assert scraper.getresponse().status == 200
    tally("half handshakes", begun=200, allowed=20, turned_away=180)


@pytest.fixture
def connect_tls(authority: Authority) -> Iterator[ConnectTLS]:
    """Makes peers that speak by TLS."""
    context = authority.issue("client").client_context()
    with contextlib.ExitStack() as opened:

        def connect(address: Address) -> Peer:
            peer = Peer(address)
            peer.socket = context.wrap_socket(peer.socket, server_hostname=address[0])
            opened.enter_context(peer.socket)
            return peer

        yield connect


@pytest.mark.slow
def test_an_idle_connection_takes_little_more_than_openssl_keeps_for_it(
    start: Start, authority: Authority, connect_tls: ConnectTLS
) -> None:
    server = start(*words(authority.issue("server")))
    address = server.listening()

    def connect(number: int) -> None:
        for _ in range(number):
            assert connect_tls(address).command("version").startswith(b"OK ")

    connect(30)
    before = server.resident()
    connect(250)
    each = (server.resident() - before) / 250
    tally("idle TLS connections", connections=250, KiB_each=round(each / 1024))
    itself = 26 if ssl.OPENSSL_VERSION_INFO < (3, 5) else 33  # KiB that OpenSSL keeps
    assert each < (itself + 8) * 1024


@pytest.mark.slow
def test_a_result_that_is_not_read_costs_its_size_and_arrives(
    start: Start, authority: Authority, connect_tls: ConnectTLS
) -> None:
    server = start(*words(authority.issue("server")))
    address = server.listening()
    client, worker = connect_tls(address), connect_tls(address)
    worker.say(Packet.CAN_DO, b"f")
    result = bytes(range(256)) * (48 * 2**12)
    _, handle = client.ask(Packet.SUBMIT_JOB, b"f", b"", b"")
    assert worker.ask(Packet.GRAB_JOB)[:2] == ("JOB_ASSIGN", handle)
    before = server.resident()
    worker.say(Packet.WORK_COMPLETE, handle, result)
    assert worker.ask(Packet.ECHO_REQ, b"") == ("ECHO_RES", b"")
    await_true(lambda: server.resident() - before < 1.3 * len(result))
    assert client.hear() == ("WORK_COMPLETE", handle, result)
    await_true(lambda: server.resident() - before < len(result) / 4)


def test_all_that_a_peer_sent_before_it_left_is_taken(
    start: Start, authority: Authority, connect_tls: ConnectTLS
) -> None:
    address = start(*words(authority.issue("server"))).listening()
    leaving, operator = connect_tls(address), connect_tls(address)
    job = request(Packet.SUBMIT_JOB_BG, b"f", b"", b"")
    leaving.socket.sendall(job * 20_000)  # more than is served in one turn
    leaving.socket.shutdown(socket.SHUT_WR)
    await_true(lambda: operator.command("status").startswith(b"f\t20000\t"))


def test_a_peer_whose_connection_is_ended_hears_why_and_may_still_send(
    start: Start, authority: Authority, connect_tls: ConnectTLS
) -> None:
    server = start(*words(authority.issue("server")))
    address = server.listening()
    operator = connect_tls(address)
    descriptors = Path(f"/proc/{server.process.pid}/fd")
    before = len(list(descriptors.iterdir()))
    for _ in range(5):
        peer = connect_tls(address)
        peer.socket.sendall(b"\0BAD" + bytes(100))
        assert peer.hear()[:2] == ("ERROR", b"INVALID_MAGIC")
        with contextlib.suppress(OSError):
            for _ in range(20):
                peer.socket.sendall(bytes(1000))
        assert peer.closed()
        peer.socket.close()
    await_true(lambda: len(list(descriptors.iterdir())) == before)
    assert operator.command("version").startswith(b"OK ")
    assert "Traceback" not in server.log


def test_a_reset_is_noticed_behind_unread_records(
    start: Start, authority: Authority, connect_tls: ConnectTLS
) -> None:
    address = start(*words(authority.issue("server"))).listening()
    operator = connect_tls(address)
    for _ in range(5):
        leaving = connect_tls(address)
        for _ in range(200):
            leaving.say(Packet.ECHO_REQ, b"")
        leaving.socket.close()  # on answers that it has not read
    await_true(lambda: operator.command("workers").count(b"\n") == 2)


def test_sighup_reads_the_certificate_again(start: Start, authority: Authority) -> None:
    server = start(*words(authority.issue("server", address="127.0.0.9")))
    address = server.listening()
    client = authority.issue("client").client_context()
    authority.issue("server")
    server.process.send_signal(signal.SIGHUP)
    await_true(lambda: "new connections use the certificate" in server.log)
    assert version(address, client).startswith(b"OK ")


def test_missing_key_is_named_at_the_start(start: Start, authority: Authority) -> None:
    tls = authority.issue("server")
    Path(tls.key).unlink()
    server = start(*words(tls))
    assert server.process.wait(30) == 1
    assert f"gearmand: {tls.key}: No such file" in server.log
    with pytest.raises(TLSError):
        tls.client_context()
