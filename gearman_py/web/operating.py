"""Actions: what users with the role operate have the job servers do, and the log of it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse

from gearman_py.admin.aio import AsyncAdminClient
from gearman_py.admin.aio_several import is_unknown
from gearman_py.admin.answers import is_unknown_command
from gearman_py.errors import AdminError, GearmanError
from gearman_py.web.access import Access
from gearman_py.web.collector import Collector
from gearman_py.web.fleet import ServerLook
from gearman_py.web.login import OUT_OF_DATE, check_origin, read_form
from gearman_py.web.notices import ActionOutcome, Notice, Notices

# The fields of forms that say what an action is about, and what it is to be.
SUBJECT = (
    *("function", "server", "handle", "schedule", "priority", "at"),
    *("running", "rate", "per_key", "separator"),
)
ONLY_ADMIN_SOCKET = (
    "it takes such commands only on its admin socket (--admin-only; see --admin-socket)"
)
NOT_THERE = "it does not have it"
ONLY_OURS = "it cannot do this: it is not a job server of gearman_py"

Act = Callable[[AsyncAdminClient], Awaitable[str]]


class Operator:
    """Reads the forms of actions, carries them out and notes both in the audit log."""

    def __init__(self, collector: Collector, access: Access, notices: Notices) -> None:
        self._collector = collector
        self._access = access
        self._notices = notices

    async def read_form(self, request: Request, action: str) -> dict[str, str]:
        """The fields of an action's form. Raises HTTPException if the user may not do it."""
        user, fields = request.state.user, dict[str, str]()
        try:
            check_origin(request)
            fields = await read_form(request)
            self.check_role(request, action)
            if not self._access.accepts_form(request, fields.get("form_token", "")):
                raise HTTPException(403, OUT_OF_DATE)
        except HTTPException as refusal:
            subject = _find_subject(fields)
            self._access.audit(
                request, action, user.name, **subject, outcome=f"refused: {refusal.detail}"
            )
            raise
        return fields

    def check_role(self, request: Request, action: str) -> None:
        """Raises HTTPException 403 unless the user operates."""
        if not request.state.user.operates:
            raise HTTPException(403, f"To {action}, a user needs the role operate.")

    def find_server(self, fields: dict[str, str]) -> list[ServerLook]:
        """The job server that a form names. Raises HTTPException 404."""
        name = fields.get("server", "")
        found = [look for look in self._collector.fleet.servers if look.address == name]
        if not found:
            raise HTTPException(404, f"Unknown job server {name!r}.")
        return found

    async def carry_out(
        self,
        request: Request,
        action: str,
        fields: dict[str, str],
        servers: Sequence[ServerLook],
        act: Act,
    ) -> list[ActionOutcome]:
        """Act at all of these job servers at once. What became of it is in the audit log."""
        user, subject = request.state.user, _find_subject(fields)

        async def act_at(server: ServerLook) -> ActionOutcome:
            client = self._collector.operator_client(server, user.name)
            try:
                return ActionOutcome(server.address, await act(client))
            except GearmanError as error:
                text, failed = explain_failure(error)
                return ActionOutcome(
                    server.address, text.removeprefix(f"{client.server}: "), failed
                )
            finally:
                await client.close()

        outcome = "broken off"
        outcomes: list[ActionOutcome] = []
        try:
            outcomes = await asyncio.gather(*map(act_at, servers))
            if all(each.text == NOT_THERE for each in outcomes):
                outcomes = [each._replace(failed=True) for each in outcomes]
            failed = sum(each.failed for each in outcomes)
            outcome = f"failed at {failed} of {len(outcomes)}" if failed else "done"
        finally:
            said = {each.server: each.text for each in outcomes}
            self._access.audit(request, action, user.name, **subject, outcome=outcome, servers=said)
        return outcomes

    async def lead_back(
        self, request: Request, action: str, outcomes: list[ActionOutcome], path: str, **words: str
    ) -> RedirectResponse:
        """To the page from which the form came, which says what became of it."""
        await self._collector.look({each.server for each in outcomes if each.failed})
        token = self._notices.add(Notice(request.state.user.name, action, outcomes))
        given = {key: value for key, value in words.items() if value}
        return RedirectResponse(f"{path}?{urlencode({**given, 'notice': token})}", 303)


def explain_failure(error: GearmanError) -> tuple[str, bool]:
    """What a job server said, or that it is silent; and whether that is a failure."""
    if is_unknown(error):
        return NOT_THERE, False
    if is_unknown_command(error):
        return ONLY_OURS, True
    if isinstance(error, AdminError) and "PERMISSION" in str(error):
        return ONLY_ADMIN_SOCKET, True
    return str(error), True


def _find_subject(fields: dict[str, str]) -> dict[str, str]:
    return {name: fields[name] for name in SUBJECT if name in fields}
