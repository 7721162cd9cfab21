"""What stands before every request: who may ask, from which page, and what the answer may load.

A page of another site can send requests to a server on loopback, and a name that it controls can be made to
point at 127.0.0.1 (DNS rebinding). So: the Host must be one of ours, a request that another page makes is
refused, and what changes state needs the token that only the printed address carries.
"""

import secrets
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})
TOKEN_HEADER = "x-eigenscope-token"
SAFE_METHODS = frozenset({"GET", "HEAD"})

RESPONSE_HEADERS = {
    "content-security-policy": "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "font-src 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
            "form-action 'none'",
        ]
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


class Security:
    """Wraps an application; every answer, errors included, leaves with the security headers."""

    def __init__(self, app: ASGIApp, token: str, allowed_hosts: Collection[str] = LOOPBACK_HOSTS) -> None:
        self.app = app
        self.token = token
        self.allowed_hosts = frozenset(host.lower() for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request or WebSocket: refused, or handed on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        refusal = self.refusal(scope)
        if refusal is None:
            await self.app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refusal})
        else:
            await JSONResponse({"error": refusal}, status_code=403)(scope, receive, _with_headers(send))

    def refusal(self, scope: Scope) -> str | None:
        """Why the request may not pass; None where it may."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if _host_name(host) not in self.allowed_hosts:
            return f"host {host!r} is not one of {', '.join(sorted(self.allowed_hosts))}"
        changes = scope["type"] == "http" and scope["method"] not in SAFE_METHODS
        origin = headers.get("origin")
        if origin is None and (changes or scope["type"] == "websocket"):
            return "a request without an Origin can't change anything or listen"
        if origin is not None and not _same_origin(origin, host):
            return f"origin {origin!r} is not this page"
        if changes and not secrets.compare_digest(headers.get(TOKEN_HEADER, "").encode(), self.token.encode()):
            return f"the header {TOKEN_HEADER} is missing or wrong: open the address that the program printed"
        return None


def _host_name(host: str) -> str:
    """`localhost:8765` without its port, in small letters; brackets of IPv6 stay."""
    name, _, port = host.rpartition(":")
    return (name if name and port.isdecimal() else host).lower()


def _same_origin(origin: str, host: str) -> bool:
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            headers = MutableHeaders(scope=message)
            for name, value in RESPONSE_HEADERS.items():
                headers[name] = value
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return send_with_headers
