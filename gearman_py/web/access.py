"""Who may see the pages: all on this machine, users who log in, those a proxy or a link names."""

import hmac
import json
import logging
import os
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path

from starlette.requests import HTTPConnection

from gearman_py.web.secret_link import SecretLink
from gearman_py.web.sessions import LoginLimit, LoginSession, Sessions
from gearman_py.web.users import OPERATE, READ, DashboardUser, Users

COOKIE = "gearman-web"
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
ANONYMOUS = DashboardUser("", READ)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Proxy:
    """A proxy that logs users in: its addresses, and the header in which it names the user."""

    networks: tuple[IPv4Network | IPv6Network, ...]
    header: str
    operators: frozenset[str] = frozenset()

    def trusts(self, address: str) -> bool:
        try:
            return any(ip_address(address) in network for network in self.networks)
        except ValueError:
            return False

    def user(self, name: str) -> DashboardUser:
        return DashboardUser(name, OPERATE if name in self.operators else READ)


@dataclass(kw_only=True)
class Access:
    """How users are known. Without any way, everyone who can connect may read."""

    users: Users | None = None
    proxy: Proxy | None = None
    link: SecretLink | None = None
    audit_file: Path | None = None
    sessions: Sessions = field(default_factory=Sessions)
    limit: LoginLimit = field(default_factory=LoginLimit)
    _secret: bytes = field(default_factory=secrets.token_bytes, repr=False)

    @property
    def is_open(self) -> bool:
        return self.users is None and self.proxy is None and self.link is None

    @property
    def is_local(self) -> bool:
        """Whether only browsers on this machine are to use it."""
        return self.users is None and self.proxy is None

    def session(self, request: HTTPConnection) -> LoginSession | None:
        """The session of a request's cookie."""
        return self.sessions.find(request.cookies.get(COOKIE, ""))

    def user(self, request: HTTPConnection) -> DashboardUser | None:
        """Who asks; None: they have to log in. Raises UsersError."""
        if self.is_open:
            return ANONYMOUS
        if (
            self.proxy is not None
            and self.proxy.trusts(_peer(request))
            and (name := _only_value(request, self.proxy.header))
        ):
            return self.proxy.user(name)
        session = self.session(request)
        if session is not None and self.link is not None:
            return DashboardUser(session.user, OPERATE)
        if self.users is not None and session is not None:
            user = self.users.find(session.user)
            same = self.users.password_id(session.user) == session.password_id
            return user if same else None
        return None

    def form_token(self, request: HTTPConnection) -> str:
        """What the forms of a user carry: of the session, or of the user that a proxy names."""
        if session := self.session(request):
            return session.form_token
        user = getattr(request.state, "user", None)
        if not user or not user.name:
            return ""
        return hmac.digest(self._secret, user.name.encode(), "sha256").hex()

    def accepts_form(self, request: HTTPConnection, form_token: str) -> bool:
        """Whether a form is one of the user who asks."""
        own = self.form_token(request)
        return bool(own) and hmac.compare_digest(own.encode(), form_token.encode())

    def allows_host(self, request: HTTPConnection) -> bool:
        """Whether the name by which it is asked is its own, where it is for this machine alone.

        Otherwise any web page could read it in the browser of someone on this machine, by a name
        that leads here (DNS rebinding).
        """
        name = request.headers.get("host", "").lower()
        host = name if name.endswith("]") else name.rpartition(":")[0] or name
        return not self.is_local or host in LOCAL_NAMES

    def address(self, request: HTTPConnection) -> str:
        """Where a request comes from: what the proxy says, if there is one."""
        peer = _peer(request)
        if self.proxy is not None and self.proxy.trusts(peer):
            # Of several, all but the last may be the browser's own.
            said = ",".join(request.headers.getlist("x-forwarded-for")).rpartition(",")[2]
            return _as_address(said.strip()) or peer
        return peer

    def is_secure(self, request: HTTPConnection) -> bool:
        """Whether the browser uses HTTPS, so that the cookie may be kept to that."""
        if self.proxy is not None and self.proxy.trusts(_peer(request)):
            return request.headers.get("x-forwarded-proto") == "https"
        return request.url.scheme == "https"

    def audit(self, request: HTTPConnection, event: str, user: str, **facts: object) -> None:
        """Note who did what, as a line of JSON."""
        entry: dict[str, object] = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "event": event,
            "user": user,
            "address": self.address(request),
            **facts,
        }
        line = json.dumps(entry)
        if self.audit_file is None:
            log.info("audit: %s", line)
            return
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            with open(os.open(self.audit_file, flags, 0o600), "a") as file:
                file.write(f"{line}\n")
        except OSError as error:
            log.error("audit: %s (%s: %s)", line, self.audit_file, error.strerror)


def _only_value(request: HTTPConnection, header: str) -> str:
    """A header's value; "" if there are several, of which the browser may have sent one."""
    values = request.headers.getlist(header)
    return values[0].strip() if len(values) == 1 else ""


def _as_address(text: str) -> str:
    """An address as it is written; "" if it is not one."""
    try:
        return str(ip_address(text))
    except ValueError:
        return ""


def _peer(request: HTTPConnection) -> str:
    return request.client.host if request.client else ""
