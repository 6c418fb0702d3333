"""What stands before the pages: who may come in, and what every response tells the browser."""

from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gearman_py.web.access import Access
from gearman_py.web.users import UsersError

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
OPEN_PATHS = ("/login", "/enter", "/healthz", "/static/")


class Guard:
    """Stands around an ASGI application: lets in who may come in, and adds HEADERS."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if not scope["path"].startswith("/static/"):
                    headers.setdefault("cache-control", "no-store")
            await send(message)

        refusal = _refuse(HTTPConnection(scope), self._access)
        await (refusal or self._app)(scope, receive, send_with_headers)


def _refuse(request: HTTPConnection, access: Access) -> Response | None:
    """The response to someone who may not come in. Notes who else it is."""
    if "content-length" in request.headers and "transfer-encoding" in request.headers:
        # RFC 9112 6.1: a proxy may have read it as another request, of another user.
        text = "Content-Length and Transfer-Encoding in one request.\n"
        return PlainTextResponse(text, 400, {"connection": "close"})
    if not access.allows_host(request):
        text = "Unknown name of this site; expected localhost or 127.0.0.1.\n"
        return PlainTextResponse(text, 421)
    try:
        request.state.user = access.user(request)
    except UsersError as error:
        return PlainTextResponse(f"The users cannot be read: {error}\n", 503)
    if request.state.user is not None or request.url.path.startswith(OPEN_PATHS):
        return None
    if access.link is not None:
        return PlainTextResponse(
            "Open the link that was printed when this page was started.\n", 403
        )
    if access.users is None:
        return PlainTextResponse("The proxy did not say who you are.\n", 403)
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/login?next={quote(wanted)}", 303)
