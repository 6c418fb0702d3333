"""Who may see the pages, and what protects those who do."""

import contextlib
import http.client
import json
import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gearman_py.web.sessions import MAX_FAILURES, MAX_SESSIONS, LoginLimit, Sessions
from tests.attacks import attack
from tests.forked import run_text, run_tool
from tests.job_servers import JobServer
from tests.waiting import LIMIT
from tests.web.site import Site, running_site

PASSWORD = "correct horse"  # noqa: S105  of a test


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobServer]:
    server = JobServer(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.stop()


def add_user(path: Path, name: str, *options: str, password: str = PASSWORD) -> str:
    """Add a user; return what was said."""
    words = ("--users", str(path), "--add-user", name, *options)
    line = f"{password}\n".encode()
    return run_tool("web", *words, input=line, timeout=LIMIT, env=os.environ).stderr.decode()


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    assert add_user(path, "alice", "--role", "operate") == ""
    assert add_user(path, "bob") == ""
    return path


def log_in(site: Site, name: str = "alice", password: str = PASSWORD, **more: str) -> int:
    fields = {"name": name, "password": password, "next": "/functions"}
    return site.post("/login", fields, **more).status


@pytest.mark.slow
def test_a_page_says_what_the_browser_must_not_do(server: JobServer, tmp_path: Path) -> None:
    with running_site(tmp_path, "-h", server.address) as site:
        for path in ("/", "/nothing", "/static/live.js", "/function?name=nothing"):
            headers = site.get(path).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert headers["x-frame-options"] == "DENY"
            assert headers["x-content-type-options"] == "nosniff"
        assert site.get("/static/../pages.py").status == 404
        assert site.get("/static/%2e%2e/pages.py").status == 404
        assert site.get("/healthz").text == "ok\n"


def test_other_sites_cannot_read_what_is_open_to_this_machine(
    server: JobServer, tmp_path: Path
) -> None:
    with running_site(tmp_path, "-h", server.address) as site:
        port = site.address.rpartition(":")[2]
        assert site.get("/", Host=f"evil.example.org:{port}").status == 421
        assert site.get("/", Host=f"localhost:{port}").status == 200


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-L", "0.0.0.0"], "--tls-certificate and --tls-key, or --trusted-proxy"),
        (["-L", "10.0.0.1", "--tls-certificate", "x", "--tls-key", "y"], "everyone could read it"),
        (["--tls-key", "x"], "belong together"),
        (["--trusted-proxy", "10.0.0.1"], "belong together"),
        (["--trusted-proxy", "proxy", "--user-header", "X"], "expected 10.0.0.1"),
        (["--users", "/nonexistent/users"], "No such file"),
        (["--history", "/nonexistent/history"], "/nonexistent/history: unable to open"),
    ],
)
def test_what_would_be_open_to_others_is_refused_in_words(options: list[str], said: str) -> None:
    done = run_text("web", *options, timeout=LIMIT)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_users_log_in_and_out(server: JobServer, users: Path, tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    options = ("-h", server.address, "--users", str(users), "--audit-log", str(audit))
    with running_site(tmp_path, *options) as site:
        answer = site.get("/functions?sort=name")
        assert (answer.status, answer.headers["location"]) == (
            *(303, "/login?next=/functions%3Fsort%3Dname"),
        )
        assert site.get("/jobs").status == 303
        assert log_in(site, password="wrong") == 401  # noqa: S106
        assert log_in(site, name="nobody") == 401
        answer = site.post("/login", {"name": "alice", "password": PASSWORD, "next": "//evil/"})
        assert (answer.status, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        page = site.page("/functions")
        assert "alice" in page.text
        token = page.html.partition('name="form_token" value="')[2].partition('"')[0]
        assert site.post("/logout", {}).status == 403
        assert site.post("/logout", {"form_token": "guess"}).status == 403
        assert site.get("/functions").status == 200
        assert site.post("/logout", {"form_token": token}).status == 303
        assert site.get("/functions").status == 303
    entries = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [(entry["event"], entry["user"]) for entry in entries] == [
        ("login failed", "alice"),
        ("login failed", "nobody"),
        ("login", "alice"),
        ("logout", "alice"),
    ]
    assert entries[0]["address"] == "127.0.0.1"


@pytest.mark.slow
def test_forms_of_other_sites_are_refused(server: JobServer, users: Path, tmp_path: Path) -> None:
    with running_site(tmp_path, "-h", server.address, "--users", str(users)) as site:
        assert log_in(site, Origin="https://evil.example.org") == 403
        assert log_in(site, Sec_Fetch_Site="cross-site") == 403
        assert log_in(site, Origin=site.address, Sec_Fetch_Site="same-origin") == 303
        # Behind a proxy that names the host otherwise.
        proxied = {"Origin": "https://jobs.example.org", "Sec_Fetch_Site": "same-origin"}
        assert log_in(site, **proxied) == 303
        large = site.post("/login", {"name": "x" * 100_000, "password": "x"})
        assert large.status == 413


@pytest.mark.slow
def test_a_login_cannot_be_tried_for_ever(server: JobServer, users: Path, tmp_path: Path) -> None:
    with running_site(tmp_path, "-h", server.address, "--users", str(users)) as site:
        for _ in range(MAX_FAILURES):
            assert log_in(site, password="wrong") == 401  # noqa: S106
        answer = site.post("/login", {"name": "alice", "password": PASSWORD})
        assert answer.status == 429
        assert int(answer.headers["retry-after"]) > 0
        assert "Try again in" in answer.text


@pytest.mark.slow
def test_a_user_who_is_removed_is_out(server: JobServer, users: Path, tmp_path: Path) -> None:
    with running_site(tmp_path, "-h", server.address, "--users", str(users)) as site:
        assert log_in(site, "bob") == 303
        assert site.get("/").status == 200
        kept = [line for line in users.read_text().splitlines() if not line.startswith("bob")]
        users.write_text("\n".join(kept))
        assert site.get("/").status == 303
        users.write_text("alice:secret\n")
        answer = site.get("/")
        assert answer.status == 503
        assert "line 1: expected NAME:ROLE:scrypt" in answer.text


@pytest.mark.slow
def test_the_file_of_users_has_no_passwords(users: Path) -> None:
    text = users.read_text()
    assert PASSWORD not in text
    assert users.stat().st_mode & 0o777 == 0o600
    assert text.startswith("alice:operate:scrypt:")
    assert "too short" in add_user(users, "carol", password="short")  # noqa: S106
    assert "cannot be a user's name" in add_user(users, "a:b")
    assert add_user(users, "alice", password="another one") == ""  # noqa: S106
    assert users.read_text().count("alice") == 1


def test_a_user_without_a_name_is_refused(tmp_path: Path) -> None:
    assert "'' cannot be a user's name" in add_user(tmp_path / "users", "")


@pytest.mark.slow
def test_a_proxy_names_the_user_and_others_cannot(server: JobServer, tmp_path: Path) -> None:
    options = ("-h", server.address, "--user-header", "X-User", "--operator", "alice")
    with running_site(tmp_path, *options, "--trusted-proxy", "127.0.0.1") as site:
        assert site.get("/").status == 403
        assert "alice, may operate" in site.get("/", X_User="alice").document.text
        assert "bob, may read" in site.get("/", X_User="bob").document.text
        # The browser's own header, that the proxy did not remove, beside that of the proxy.
        connection = http.client.HTTPConnection("127.0.0.1", int(site.address.rpartition(":")[2]))
        with contextlib.closing(connection):
            connection.putrequest("GET", "/")
            for name in ("mallory", "alice"):
                connection.putheader("X-User", name)
            connection.endheaders()
            assert connection.getresponse().status == 403
    with running_site(tmp_path, *options, "--trusted-proxy", "127.0.0.2") as site:
        assert site.get("/", X_User="alice").status == 403


@pytest.mark.slow
def test_https_is_spoken_and_the_cookie_kept_to_it(
    server: JobServer, users: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = str(tmp_path / "web.pem"), str(tmp_path / "web.key")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-nodes", "-days", "2", "-keyout", key, "-out", certificate]
    subprocess.run([*command, *names, *files], check=True, capture_output=True)
    monkeypatch.setattr(
        *(ssl, "_create_default_https_context"),
        lambda: ssl.create_default_context(cafile=certificate),
    )
    files = ["--tls-certificate", certificate, "--tls-key", key]
    with running_site(tmp_path, "-h", server.address, "--users", str(users), *files) as site:
        answer = site.post("/login", {"name": "alice", "password": PASSWORD})
        assert answer.status == 303
        assert "secure" in answer.headers["set-cookie"].lower()
        assert site.get("/").status == 200


@attack(
    "peer on the network", "choose the address that logins are counted by, behind a proxy", "mended"
)
@pytest.mark.slow
def test_the_last_address_that_the_proxy_names_counts(
    server: JobServer, users: Path, tmp_path: Path
) -> None:
    audit = tmp_path / "audit"
    options = ("--trusted-proxy", "127.0.0.1", "--user-header", "X-User", "--audit-log", str(audit))
    with running_site(tmp_path, "-h", server.address, "--users", str(users), *options) as site:
        host, port = site.address.removeprefix("http://").rsplit(":", 1)
        for number in range(MAX_FAILURES + 1):
            connection = http.client.HTTPConnection(host, int(port), timeout=30)
            connection.putrequest("POST", "/login")
            connection.putheader("X-Forwarded-For", f"9.9.9.{number}")
            connection.putheader("X-Forwarded-For", "8.8.8.8, 10.0.0.66")
            body = f"name=user{number}&password=wrong".encode()
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            status = connection.getresponse().status
            connection.close()
            assert status == (401 if number < MAX_FAILURES else 429)
        site.post("/login", {"name": "x", "password": "y"}, X_Forwarded_For="<i>not one</i>")
    addresses = [json.loads(line)["address"] for line in audit.read_text().splitlines()]
    assert addresses == ["10.0.0.66"] * (MAX_FAILURES + 1) + ["127.0.0.1"]
    assert audit.stat().st_mode & 0o777 == 0o600


@attack(
    "peer on the network", "go on with a session after its user's password was changed", "mended"
)
@pytest.mark.slow
def test_a_new_password_ends_the_sessions_of_the_old_one(
    server: JobServer, users: Path, tmp_path: Path
) -> None:
    with running_site(tmp_path, "-h", server.address, "--users", str(users)) as site:
        assert log_in(site) == 303
        assert site.get("/functions").status == 200
        assert add_user(users, "alice", password="another password") == ""  # noqa: S106
        assert site.get("/functions").status == 303
        assert log_in(site, password="another password") == 303  # noqa: S106
        assert site.get("/functions").status == 200


@attack("peer on the network", "smuggle a request past a proxy by two lengths", "mended")
@pytest.mark.slow
def test_a_request_with_two_lengths_is_refused_and_the_last_of_its_connection(
    server: JobServer, tmp_path: Path
) -> None:
    head = "POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60\r\n"
    chunked = "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    smuggled = "GET /functions HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with running_site(tmp_path, "-h", server.address) as site, connect(site) as peer:
        peer.sendall(f"{head}{chunked}{smuggled}".encode())
        answers = b"".join(iter(lambda: peer.recv(2**16), b""))
    assert answers.startswith(b"HTTP/1.1 400")
    assert answers.count(b"HTTP/1.1") == 1


@attack(
    "peer on the network",
    "keep others from the dashboard by 300 requests that do not end",
    "mended",
)
@pytest.mark.slow
def test_requests_that_do_not_end_give_way(server: JobServer, tmp_path: Path) -> None:
    with running_site(tmp_path, "-h", server.address) as site, contextlib.ExitStack() as opened:
        for number in range(300):
            peer = opened.enter_context(connect(site))
            peer.sendall(b"" if number % 3 == 0 else b"POST /login HTTP/1.1\r\nHost: localhost\r\n")
            if number % 3 == 1:
                peer.sendall(b"Content-Length: 100\r\n\r\nname")
        assert site.get("/healthz").status == 200
        assert site.get("/").status == 200


def connect(site: Site) -> socket.socket:
    host, port = site.address.removeprefix("http://").rsplit(":", 1)
    return socket.create_connection((host, int(port)), 30)


def test_who_logs_in_often_ends_sessions_of_their_own() -> None:
    sessions = Sessions()
    other = sessions.begin("bob")
    first, *_, last = [sessions.begin("alice") for _ in range(MAX_SESSIONS + 1)]
    assert sessions.find(other)
    assert sessions.find(last)
    assert sessions.find(first) is None


@attack("peer on the network", "lock an operator out by wrong passwords for their name", "mended")
def test_wrong_passwords_lock_a_name_where_its_user_has_not_logged_in() -> None:
    limit = LoginLimit()
    limit.note_attempt(*limit.keys("10.0.0.1", "alice"))
    limit.forgive("10.0.0.1", "alice")
    for number in range(MAX_FAILURES):
        limit.note_attempt(*limit.keys(f"10.6.6.{number}", "alice"))
    assert limit.wait(*limit.keys("10.6.6.99", "alice")) > 0
    assert limit.wait(*limit.keys("10.0.0.1", "alice")) == 0
    for _ in range(MAX_FAILURES):
        limit.note_attempt(*limit.keys("10.0.0.1", "alice"))
    assert limit.wait(*limit.keys("10.0.0.1", "alice")) > 0
