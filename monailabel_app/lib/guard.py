"""The door: who may connect, from which pages, with how much. Runs before any route, for every request."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Collection
from contextlib import suppress
from urllib.parse import urlsplit

from lib.options import LOOPBACK_NAMES

SMALL_BODY_BYTES = 2**20
LONGEST_TARGET = 4096
MOST_OPEN_REQUESTS = 200
MOST_UPLOADS = 2
BODY_TIMEOUT_S = 30.0
LINGER_S = 2.0
LINGER_BYTES = 2**26
UPLOADS = (("PUT", "/datastore/image"), ("PUT", "/datastore/"), ("PUT", "/session/"))
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Guard:
    """ASGI middleware that refuses strangers, foreign pages and bodies without end."""

    def __init__(
        self,
        app,
        *,
        hosts: Collection[str] = (),
        origins: Collection[str] = (),
        upload_bytes: int = 2**30,
        body_timeout_s: float = BODY_TIMEOUT_S,
    ) -> None:
        """
        Args:
            app: the application behind.
            hosts: names for which requests from other machines are taken; none: from this machine only.
            origins: of pages of other servers that may ask (CORS), such as `https://viewer.example.org`.
            upload_bytes: largest body of an upload, with its multipart frame.
            body_timeout_s: longest wait for the next part of a body.
        """
        self.app = app
        self.remote = bool(hosts)
        self.hosts = {*LOOPBACK_NAMES, *(host.lower() for host in hosts)}
        self.origins = {str(origin).rstrip("/").lower() for origin in origins}
        self.upload_bytes = upload_bytes
        self.body_timeout_s = body_timeout_s
        self._open = 0
        self._uploads = 0

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        upload = (scope["method"], scope["path"]) in UPLOADS
        self._open += 1
        self._uploads += upload
        started = False
        limit = self.upload_bytes if upload else SMALL_BODY_BYTES
        body = _Body(receive, limit, self.body_timeout_s)

        async def answer(message) -> None:
            nonlocal started
            if body.refusal is not None and not started:
                return  # the application knows only that its body ended; the refusal says why
            if message["type"] == "http.response.start":
                started = True
                own = list(message.get("headers", ()))
                names = {name.lower() for name, _ in own}
                message = {**message, "headers": [*own, *(h for h in _HEADERS if h[0] not in names)]}
            await send(message)

        try:
            self._check(scope, upload)
            await self.app(scope, body, answer)
        except _Refused as refusal:
            body.refusal = refusal
        finally:
            self._uploads -= upload
            try:
                if body.refusal is not None and not started:
                    await _refuse(send, body)
            finally:
                self._open -= 1

    def _check(self, scope, upload: bool) -> None:
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if self._open > MOST_OPEN_REQUESTS or self._uploads > MOST_UPLOADS:
            raise _Refused(429, "too many requests at once; try again in some seconds")
        if not self.remote and not _is_this_machine(scope.get("client")):
            raise _Refused(
                403,
                "this server answers its own machine only. To open it, name it: --conf hosts ct.example.org",
            )
        host = host_name(headers.get(b"host", ""))
        if host not in self.hosts:
            raise _Refused(
                403,
                "this server was asked under a name it does not have. Name it: --conf hosts ct.example.org",
            )
        origin = headers.get(b"origin")
        if origin is not None and not self._is_allowed(origin, headers.get(b"host", "")):
            raise _Refused(403, "a page of another server may not ask this one (MONAI_LABEL_CORS_ORIGINS)")
        if len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"") > LONGEST_TARGET:
            raise _Refused(414, f"the address is longer than {LONGEST_TARGET} characters")
        length = headers.get(b"content-length", "0")
        if not length.isascii() or not length.isdigit():
            raise _Refused(400, "Content-Length is no number")
        if int(length) > (self.upload_bytes if upload else SMALL_BODY_BYTES):
            raise _Refused(413, "the request is larger than it may be; images go to PUT /datastore/image")

    def _is_allowed(self, origin: str, host: str) -> bool:
        return origin.lower() in self.origins or urlsplit(origin).netloc.lower() == host.lower() != ""


class _Body:
    """Receives a body up to a limit, and not for ever."""

    def __init__(self, receive, limit: int, timeout_s: float) -> None:
        self.receive, self.left, self.timeout_s = receive, limit, timeout_s
        self.complete = False
        self.refusal: _Refused | None = None

    async def __call__(self):
        if self.refusal is not None:
            raise self.refusal
        if self.complete:
            return await self.receive()  # waits for the client to hang up
        try:
            message = await asyncio.wait_for(self.receive(), self.timeout_s)
        except asyncio.TimeoutError:
            self.refusal = _Refused(408, f"no part of the request came for {self.timeout_s:g} seconds")
            raise self.refusal from None
        if message["type"] == "http.request":
            self.left -= len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
            if self.left < 0:
                self.refusal = _Refused(413, "the request is larger than it may be")
                raise self.refusal
        else:
            self.complete = True
        return message

    async def drain(self) -> None:
        """Take what still comes, for a moment: a connection closed on it would lose the refusal."""
        left, end = LINGER_BYTES, asyncio.get_running_loop().time() + LINGER_S
        with suppress(asyncio.TimeoutError):
            while not self.complete and left > 0:
                message = await asyncio.wait_for(self.receive(), end - asyncio.get_running_loop().time())
                left -= len(message.get("body", b""))
                self.complete = not message.get("more_body", False)


def _is_this_machine(client) -> bool:
    """Whether a peer address, (host, port), is loopback; a connection without one is a local socket."""
    if client is None:
        return True
    try:
        address = ipaddress.ip_address(client[0])
    except ValueError:
        return False
    return address.is_loopback or bool(
        getattr(address, "ipv4_mapped", None) and address.ipv4_mapped.is_loopback
    )


def host_name(host: str) -> str:
    """The name in a Host header, without port and brackets, in lower case."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


async def _refuse(send, rest: _Body) -> None:
    refusal = rest.refusal
    body = json.dumps({"detail": str(refusal)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refusal.status == 429:
        headers.append((b"retry-after", b"5"))
    headers += [*_HEADERS, (b"connection", b"close")]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    if refusal.status != 408:  # which is about a client that sends nothing
        await rest.drain()
    await send({"type": "http.response.body", "body": b""})
