"""Who is logged in, and how often a login may be tried.

Sessions are kept in memory: a restart ends them. The browser has a random token, and each form of
a session has another, without which it is refused (CSRF).
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

LIFETIME = 12 * 3600.0  # seconds
MAX_SESSIONS = 1000
MAX_SESSIONS_OF_USER = 50
MAX_FAILURES = 5  # within WINDOW, for an address and for a name
WINDOW = 60.0  # seconds
MAX_TRACKED = 10_000  # addresses and names

Clock = Callable[[], float]


@dataclass
class LoginSession:
    """A login: of whom, with which password, until when, and what its forms carry."""

    user: str
    password_id: str
    until: float
    form_token: str = field(default_factory=secrets.token_urlsafe)


class Sessions:
    """The sessions by token."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._sessions: dict[str, LoginSession] = {}

    def begin(self, user: str, password_id: str = "") -> str:
        """Begin a session; returns its token. ``password_id``: of the password that opened it."""
        now = self._clock()
        self._sessions = {key: one for key, one in self._sessions.items() if one.until > now}
        own = [key for key, one in self._sessions.items() if one.user == user]
        for key in own[: max(0, len(own) - MAX_SESSIONS_OF_USER + 1)]:
            del self._sessions[key]
        while len(self._sessions) >= MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        token = secrets.token_urlsafe(32)
        self._sessions[token] = LoginSession(user, password_id, now + LIFETIME)
        return token

    def find(self, token: str) -> LoginSession | None:
        """The session of a token, unless it is over."""
        session = self._sessions.get(token)
        return session if session and session.until > self._clock() else None

    def end(self, token: str) -> None:
        self._sessions.pop(token, None)


class LoginLimit:
    """Refuses logins after too many that failed."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._failures: dict[str, list[float]] = {}
        self._known: dict[tuple[str, str], None] = {}

    def keys(self, address: str, name: str) -> tuple[str, str]:
        """What an attempt is counted by: its address, and its name.

        Where a user has logged in from, their name is counted apart, or others could lock them out.
        """
        where = f" at {address}" if (address, name) in self._known else ""
        return f"address {address}", f"name {name}{where}"

    def wait(self, *keys: str) -> float:
        """Seconds until the next attempt is allowed; 0: now."""
        now = self._clock()
        left = [0.0]
        for key in keys:
            recent = [when for when in self._failures.get(key, ()) if now - when < WINDOW]
            if len(recent) >= MAX_FAILURES:
                left.append(recent[-MAX_FAILURES] + WINDOW - now)
        return max(left)

    def note_attempt(self, *keys: str) -> None:
        """An attempt begins: it counts as failed until `forgive`, so that many at once count."""
        now = self._clock()
        for key in keys:
            recent = self._failures.pop(key, [])
            self._failures[key] = [*recent[-MAX_FAILURES + 1 :], now]
        while len(self._failures) > MAX_TRACKED:
            del self._failures[next(iter(self._failures))]

    def forgive(self, address: str, name: str) -> None:
        """An attempt succeeded."""
        for key in self.keys(address, name):
            self._failures.pop(key, None)
        self._known.pop((address, name), None)
        self._known[address, name] = None
        while len(self._known) > MAX_TRACKED:
            del self._known[next(iter(self._known))]
