"""Who may ask: token, host and origin of every request, and the headers of every answer."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from m2h_runtime.libraries import require

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

HERE = ("localhost", "127.0.0.1", "::1")
"""What a browser may call this machine. Another name is a foreign page that had its own name point here."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Access:
    """Lets requests through, or answers them with one line that says why not.

    Args:
        token: what a request has to know, in its query or as the cookie that a query got; None: nothing.
        port: names the cookie, so that two robots behind one name do not share it.
        local: the dashboard listens for this machine alone.
        host: it was told to listen on, which it is called by as well.
    """

    def __init__(self, token: str | None, port: int, *, local: bool, host: str) -> None:
        self._web = require("aiohttp.web", "--web", "web")
        self._token = token
        self._cookie = f"m2h_token_{port}"
        self._local = local
        self._names = {*HERE, host.lower()}

    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let `handler` answer if the request may be answered; a right token in the query becomes a cookie."""
        if (refused := self._refused(request)) is not None:
            return refused
        response = await handler(request)
        if self._token is not None and "token" in request.query and not response.prepared:
            response.set_cookie(self._cookie, self._token, httponly=True, samesite="Strict", path="/")
        return response

    def _refused(self, request: web.Request) -> web.Response | None:
        if self._local and self._token is None and _host(request) not in self._names:
            return self._said(
                403, "this dashboard answers to localhost only; open it as http://localhost:PORT"
            )
        if not _same_origin(request):
            return self._said(403, "this request comes from another page")
        if self._token is not None and not self._known(request):
            return self._said(401, "a token is needed: open the URL that m2h-run printed when it started")
        return None

    def _said(self, status: int, text: str) -> web.Response:
        answer: web.Response = self._web.Response(status=status, text=text + "\n")
        return answer

    def _known(self, request: web.Request) -> bool:
        """The query decides, if it has a token: then a wrong one is told, whatever the cookie is."""
        given = request.query.get("token", request.cookies.get(self._cookie))
        return given is not None and self._is_token(given)

    def _is_token(self, text: str) -> bool:
        return secrets.compare_digest(text.encode(errors="replace"), (self._token or "").encode())

    async def sign(self, _: web.Request, response: web.StreamResponse) -> None:
        """Add the security headers."""
        response.headers.update(HEADERS)


def _host(request: web.Request) -> str:
    try:
        return urlsplit(f"//{request.host}").hostname or ""
    except ValueError:  # no host name at all
        return ""


def _same_origin(request: web.Request) -> bool:
    """Browsers send an origin with what changes something and with WebSockets; other programs need none."""
    origin = request.headers.get("Origin")
    try:
        return origin is None or urlsplit(origin).netloc == request.host != ""
    except ValueError:  # no origin at all
        return False
