"""What came of an action, kept to be shown on the page to which its form leads."""

import secrets
from typing import NamedTuple

from starlette.requests import Request

MAX_NOTICES = 200


class ActionOutcome(NamedTuple):
    """What an action did at a job server, or why it did nothing there."""

    server: str
    text: str
    failed: bool = False


class Notice(NamedTuple):
    """An action of a user, and its outcomes."""

    user: str
    action: str
    outcomes: list[ActionOutcome]

    @property
    def failures(self) -> list[ActionOutcome]:
        return [outcome for outcome in self.outcomes if outcome.failed]


class Notices:
    """The last notices, each by a token in the address of the page that shows it."""

    def __init__(self) -> None:
        self._notices: dict[str, Notice] = {}

    def add(self, notice: Notice) -> str:
        """Keep it; returns its token."""
        while len(self._notices) >= MAX_NOTICES:
            del self._notices[next(iter(self._notices))]
        token = secrets.token_urlsafe(9)
        self._notices[token] = notice
        return token

    def find(self, request: Request) -> Notice | None:
        """The notice that a page is to show to its user."""
        notice = self._notices.get(request.query_params.get("notice", ""))
        user = getattr(request.state, "user", None)
        return notice if notice and user and notice.user == user.name else None
