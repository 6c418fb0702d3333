"""Logging in and out."""

import asyncio
from typing import Protocol
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from gearman_py.protocol.http import is_of_another_site
from gearman_py.web.access import COOKIE, Access
from gearman_py.web.sessions import LIFETIME

MAX_FORM = 8192  # bytes
OUT_OF_DATE = "The form is out of date: reload the page."


class Render(Protocol):
    """Makes a page of a template."""

    def __call__(
        self, request: Request, template: str, status: int = 200, **values: object
    ) -> HTMLResponse: ...


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form. Raises HTTPException 413 if it is too large."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_FORM:
            raise HTTPException(413, "The form is too large.")
    fields = parse_qs(body.decode(errors="replace"), max_num_fields=20, keep_blank_values=True)
    return {name: values[0] for name, values in fields.items()}


def check_origin(request: Request) -> None:
    """Refuse a form that another site sent. Raises HTTPException 403."""
    if is_of_another_site(request.headers):
        raise HTTPException(403, "The form came from another site.")


class LoginPages:
    """The form, and what it does."""

    def __init__(self, access: Access, render: Render) -> None:
        self._access = access
        self._render = render

    async def form(self, request: Request) -> Response:
        return self._show(request)

    async def log_in(self, request: Request) -> Response:
        access = self._access
        check_origin(request)
        if access.users is None:
            raise HTTPException(404, "Users do not log in here.")
        fields = await read_form(request)
        name, password = fields.get("name", "")[:100], fields.get("password", "")[:1000]
        address = access.address(request)
        keys = access.limit.keys(address, name)
        if wait := access.limit.wait(*keys):
            access.audit(request, "login refused: too many attempts", name)
            text = f"Too many attempts failed. Try again in {wait:.0f} seconds."
            response = self._show(request, 429, text)
            response.headers["retry-after"] = f"{wait:.0f}"
            return response
        access.limit.note_attempt(*keys)
        user = await asyncio.to_thread(access.users.check, name, password)
        if user is None:
            access.audit(request, "login failed", name)
            return self._show(request, 401, "The name or the password is wrong.")
        access.limit.forgive(address, name)
        return self._begin_session(request, name, _own_path(fields.get("next", "/")))

    async def enter(self, request: Request) -> Response:
        """Where the secret link leads: it is a login."""
        link = self._access.link
        if link is None:
            raise HTTPException(404, "This page does not exist.")
        if not link.opens(request.query_params.get("key", "")):
            self._access.audit(request, "login failed", "")
            return PlainTextResponse("This link is not the one that was printed last.\n", 403)
        return self._begin_session(request, link.user, "/")

    def _begin_session(self, request: Request, name: str, path: str) -> Response:
        access = self._access
        password_id = access.users.password_id(name) if access.users else ""
        access.audit(request, "login", name)
        leave = RedirectResponse(path, 303)
        leave.set_cookie(
            *(COOKIE, access.sessions.begin(name, password_id)),
            max_age=int(LIFETIME),
            secure=access.is_secure(request),
            httponly=True,
            samesite="strict",
        )
        return leave

    async def log_out(self, request: Request) -> Response:
        check_origin(request)
        session = self._access.session(request)
        fields = await read_form(request)
        if session is None or not self._access.accepts_form(request, fields.get("form_token", "")):
            raise HTTPException(403, OUT_OF_DATE)
        self._access.sessions.end(request.cookies.get(COOKIE, ""))
        self._access.audit(request, "logout", session.user)
        leave = RedirectResponse("/login" if self._access.users else "/", 303)
        leave.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return leave

    def _show(self, request: Request, status: int = 200, problem: str = "") -> HTMLResponse:
        following = _own_path(request.query_params.get("next", "/"))
        return self._render(request, "login.html", status, problem=problem, following=following)


def _own_path(path: str) -> str:
    """A path of this site, whatever the address says."""
    plain = path.startswith("/") and not path.startswith("//") and "\\" not in path
    return path if plain and path.isprintable() else "/"
