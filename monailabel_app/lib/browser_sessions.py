"""Sessions of browsers: a cookie that stands for a reader's token, for stock OHIF, which sends no token.

The page of results asks for one after the reader has signed in. The cookie holds a random number; the token
stays here, and MONAI Label checks it at every request as if it had come along.
"""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from lib.guard import host_name
from lib.options import LOOPBACK_NAMES
from lib.request_check import RequestError

MOST_SESSIONS = 1000
#: What OHIF asks for, all of it with the role of a reader: no upload, verdict, batch or training by cookie.
OPENED = re.compile(
    r"/info/|/infer/[^/]+|/activelearning/[^/]+|/dicom-web/.*|/ohif/app-config\.js", re.DOTALL
)
NO_COOKIE = (
    "OHIF cannot be opened from here: the browser keeps the sign-in for it only over TLS (https://), or on "
    "the server's own machine"
)


class BrowserSessions:
    """The tokens behind the cookies, in memory: a restart ends all sessions."""

    def __init__(self) -> None:
        self._tokens: OrderedDict[str, str] = OrderedDict()

    def begin(self, token: str) -> str:
        """Keep a token; gives the number that stands for it. Where there are too many, the oldest ends."""
        number = secrets.token_urlsafe(32)
        self._tokens[number] = token
        while len(self._tokens) > MOST_SESSIONS:
            self._tokens.popitem(last=False)
        return number

    def token(self, number: str) -> str | None:
        """The token that a number stands for."""
        return self._tokens.get(number)

    def end(self, number: str) -> None:
        """Forget a token."""
        self._tokens.pop(number, None)


class SessionCookie:
    """ASGI middleware that puts the token of a session into a request of the server's own pages.

    `SameSite=Strict` keeps the cookie from pages of other sites. Sites hold many servers, so a request counts
    only where the browser says that a page of this very server makes it (`Sec-Fetch-Site: same-origin`).
    """

    def __init__(self, app: Callable, sessions: BrowserSessions) -> None:
        self.app = app
        self.sessions = sessions

    async def __call__(self, scope: dict[str, Any], receive: Callable, send: Callable) -> None:
        if scope["type"] == "http" and OPENED.fullmatch(scope["path"]):
            headers = dict(scope["headers"])
            if b"authorization" not in headers and headers.get(b"sec-fetch-site") == b"same-origin":
                token = self.sessions.token(session_number(Request(scope)))
                if token is not None:
                    bearer = (b"authorization", b"Bearer " + token.encode())
                    scope = {**scope, "headers": [*scope["headers"], bearer]}
        await self.app(scope, receive, send)


def cookie_name(request: Request) -> str:
    """The cookie's name. With `__Host-` browsers see to it that only this server has set it, over TLS."""
    own = host_name(request.headers.get("host", "")) in LOOPBACK_NAMES
    return "radclear" if own else "__Host-radclear"


def session_number(request: Request) -> str:
    """What the session's cookie holds; empty without one."""
    return request.cookies.get(cookie_name(request), "")


def sessions_router(sessions: BrowserSessions, *, reader: Any, no_viewer: str) -> APIRouter:
    """Beginning and ending a session, at `/radclear/session`.

    Args:
        sessions: the tokens.
        reader: dependency that lets readers in.
        no_viewer: why there is no OHIF; then no session is needed.
    """
    router = APIRouter(prefix="/radclear/session", include_in_schema=False)

    @router.post("", dependencies=[reader])
    async def begin(request: Request) -> Response:
        if no_viewer:
            raise RequestError(no_viewer, status=404)
        if request.headers.get("sec-fetch-site") != "same-origin":
            raise RequestError(NO_COOKIE)
        sessions.end(session_number(request))
        number = sessions.begin(request.headers["authorization"].partition(" ")[2])
        return _with_cookie(request, number)

    @router.delete("")
    async def end(request: Request) -> Response:
        sessions.end(session_number(request))
        return _with_cookie(request, "", max_age=0)

    return router


def _with_cookie(request: Request, value: str, **options: Any) -> Response:
    answer, name = Response(status_code=204), cookie_name(request)
    secure = name.startswith("__Host-")
    answer.set_cookie(name, value, path="/", secure=secure, httponly=True, samesite="strict", **options)
    return answer
