"""Guard in front of all routes: who may ask, from which page, and what a browser may do with the answer."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_READING = ("GET", "HEAD")
_OPEN = ("/", "/docs", "/openapi.json")
"""Pages that hold nothing of a user; the files in ``/static/`` are as open."""


class Guard:
    """Middleware that answers forbidden requests itself and adds headers to all answers."""

    def __init__(self, app: ASGIApp, token: str | None, names: frozenset[str] | None) -> None:
        """Take the settings.

        Args:
            app: what is guarded.
            token: what clients must know; None if anybody who can connect may ask.
            names: names of this machine that browsers may call it by; None for any. Otherwise a page elsewhere could
                have its own name point to this address, and then read the answers (DNS rebinding).
        """
        self._app, self._token, self._names = app, token, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refuse(scope)
        await (refusal or self._app)(scope, receive, send_more)

    def _refuse(self, scope: Scope) -> JSONResponse | None:
        headers, path = Headers(scope=scope), scope["path"]
        host = headers.get("host", "")
        if self._names is not None and _name(host) not in self._names:
            legal = ", ".join(sorted(self._names))
            return _answer(403, f"Host: {host!r} is not a name of this server; legal: {legal}; others need --token")
        if scope["method"] not in _READING and not _same_origin(headers, host):
            return _answer(403, "Origin: changes are accepted only from this server's own page, or without a browser")
        is_open = path in _OPEN or path.startswith("/static/")
        if self._token is not None and not is_open and not _knows(HTTPConnection(scope), self._token):
            refusal = _answer(401, "the token is missing or wrong; send it as `Authorization: Bearer TOKEN`")
            refusal.headers["WWW-Authenticate"] = "Bearer"
            return refusal
        return None


def cookie_name(scope: Scope) -> str:
    """Return the name of the cookie of this server; browsers send cookies to all ports of a machine."""
    return f"bandsplit-{scope['server'][1]}"


def cookie_value(token: str) -> str:
    """Return a value that proves that its owner knew the token, without containing it."""
    return hmac.new(token.encode(), b"bandsplit serve: cookie", hashlib.sha256).hexdigest()


def _knows(request: HTTPConnection, token: str) -> bool:
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode()):
        return True
    cookie = request.cookies.get(cookie_name(request.scope), "")
    return hmac.compare_digest(cookie.encode(), cookie_value(token).encode())


def _same_origin(headers: Headers, host: str) -> bool:
    """Return whether a request comes from the server's own page, or from no page."""
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == host != ""


def _name(host: str) -> str:
    """Return a ``Host`` without its port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower()


def _answer(status: int, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status)
