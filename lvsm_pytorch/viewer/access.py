"""Access to the viewer: open on loopback, by a token in the address on other hosts."""

from __future__ import annotations

import hmac
import http
import ipaddress
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from lvsm_pytorch.errors import fail

REFUSED = 'This viewer needs the whole address that lvsm view has printed, with its token: http://HOST:PORT/?token=...\n'

# viser looks up websockets' `serve` by name when it starts

PATCHING = threading.Lock()


def is_loopback(host: str) -> bool:
    """Whether the host can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == 'localhost'


class Token:
    """A random token. It is passed as ?token=... in the address, then kept in a cookie that the browser sends with every further request, websockets included."""

    def __init__(self) -> None:
        self.value = secrets.token_urlsafe(24)
        self.cookie = f'lvsm-view-{secrets.token_hex(4)}'    # cookies are those of a host, whatever the port

    def in_address(self, path: str) -> bool:
        return any(map(self.matches, parse_qs(urlsplit(path).query).get('token', [])))

    def in_cookie(self, header: str) -> bool:
        try:
            found = SimpleCookie(header).get(self.cookie)
        except CookieError:
            return False

        return found is not None and self.matches(found.value)

    def matches(self, value: str) -> bool:
        return hmac.compare_digest(value.encode(), self.value.encode())


@contextmanager
def require_token(token: Token | None) -> Iterator[None]:
    """A viser server that is started inside this context refuses every HTTP and websocket request without the token. None admits all.

    Raises:
        ValueError: If this version of viser starts its server in an unknown way, so that requests would not be checked.
    """
    if token is None:
        yield
        return

    from websockets.asyncio import server

    with PATCHING:
        serve, checked = server.serve, []

        def guarded(*args: Any, process_request: Callable[..., Any], **kwargs: Any) -> Any:
            checked.append(True)
            return serve(*args, process_request = guarded_by(token, process_request), **kwargs)

        server.serve = guarded  # pyright: ignore[reportAttributeAccessIssue]

        try:
            yield
        finally:
            server.serve = serve  # pyright: ignore[reportAttributeAccessIssue]

    if not checked:
        fail('host', 'must be 127.0.0.1 with this version of viser, whose requests can not be checked for a token', 'another one', 'Forward the port by ssh, or install another version of viser.')


def guarded_by(token: Token, process_request: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Wraps `process_request` of websockets so that requests without the token are refused."""
    def guarded(connection: Any, request: Any) -> Any:
        in_address = token.in_address(request.path)

        if not in_address and not token.in_cookie(request.headers.get('Cookie', '')):
            return connection.respond(http.HTTPStatus.FORBIDDEN, REFUSED)

        response = process_request(connection, request)

        if response is not None and in_address:
            response.headers['Set-Cookie'] = f'{token.cookie}={token.value}; HttpOnly; SameSite=Strict; Path=/'

        return response

    return guarded
