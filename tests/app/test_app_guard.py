"""The guard lets this machine and known names in, and no foreign pages or bodies without end."""

from __future__ import annotations

import asyncio
import json

import pytest
from lib.guard import SMALL_BODY_BYTES, Guard


async def application(scope, receive, send):
    """Reads the whole body and says how long it was."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps({"size": size}).encode()})


def ask(
    guard,
    *,
    method="GET",
    path="/info/",
    headers=(),
    host="127.0.0.1:8000",
    client=("127.0.0.1", 5000),
    chunks=(b"",),
    query=b"",
    silent=False,
):
    """Status, headers and JSON of one request; `silent`: the body never comes."""
    pending = list(chunks)
    sent = []

    async def receive():
        if silent or not pending:
            await asyncio.sleep(3600)
        body = pending.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(pending)}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "client": client,
        "headers": [(b"host", host.encode()), *((k.encode(), v.encode()) for k, v in headers)],
    }
    asyncio.run(guard(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), json.loads(sent[1]["body"])


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST", "[::1]:8000"])
@pytest.mark.parametrize(
    "client", [("127.0.0.1", 1), ("127.8.9.1", 1), ("::1", 1), ("::ffff:127.0.0.1", 1), None]
)
def test_this_machine_is_answered(host, client):
    status, headers, _ = ask(Guard(application), host=host, client=client)
    assert status == 200
    assert headers[b"x-content-type-options"] == b"nosniff" and headers[b"cache-control"] == b"no-store"


@pytest.mark.parametrize(
    "client", [("192.0.2.7", 1), ("::ffff:192.0.2.7", 1), ("2001:db8::1", 1), ("nonsense", 1)]
)
def test_other_machines_are_not_answered_whatever_they_say(client):
    status, _, answer = ask(Guard(application), client=client, host="localhost:8000")
    assert status == 403 and "--conf hosts" in answer["detail"]
    assert ask(Guard(application, hosts=["ct.example.org"]), client=client, host="CT.example.org")[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example.org", "localhost.evil.example.org:8000", "", "127.0.0.1.nip.io", "[x"]
)
def test_other_names_are_not_answered(host):
    """A page may point its own name at 127.0.0.1 (DNS rebinding)."""
    status, _, answer = ask(Guard(application, hosts=["ct.example.org"]), host=host)
    assert status == 403 and "--conf hosts" in answer["detail"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8000", 200),
        ("https://viewer.example.org", 200),
        ("http://127.0.0.1:9000", 403),
        ("http://evil.example.org", 403),
        ("https://viewer.example.org.evil.example.org", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_pages_of_other_servers_may_not_ask(origin, status):
    guard = Guard(application, origins=["https://viewer.example.org/"])
    assert ask(guard, method="POST", path="/infer/staging", headers=[("origin", origin)])[0] == status


def test_announced_and_real_sizes_are_bounded():
    guard = Guard(application, upload_bytes=3 * SMALL_BODY_BYTES)
    small, large = b"x" * SMALL_BODY_BYTES, [b"x" * SMALL_BODY_BYTES] * 4
    assert ask(guard, method="POST", chunks=[small])[2] == {"size": len(small)}
    assert ask(guard, method="POST", chunks=[small, b"x"])[0] == 413
    assert ask(guard, method="POST", headers=[("content-length", str(2**40))], silent=True)[0] == 413
    assert ask(guard, method="PUT", path="/datastore/image", chunks=large[:3])[0] == 200
    assert ask(guard, method="PUT", path="/datastore/image", chunks=large)[0] == 413
    assert ask(guard, method="POST", path="/datastore/image", chunks=large[:3])[0] == 413
    for nonsense in ("-1", "1e9", "x", "", "\u0661"):
        if nonsense.isascii():
            assert ask(guard, headers=[("content-length", nonsense)])[0] == 400
    assert ask(guard, query=b"image=" + b"x" * 5000)[0] == 414


def test_a_body_that_does_not_come_ends_the_request():
    status, _, answer = ask(Guard(application, body_timeout_s=0.05), method="POST", silent=True)
    assert status == 408 and "0.05 seconds" in answer["detail"]


def test_uploads_at_once_are_bounded_and_counted_down_again():
    guard = Guard(application)

    async def many():
        gate = asyncio.Event()

        async def receive():
            await gate.wait()
            return {"type": "http.request", "body": b"", "more_body": False}

        async def one(statuses):
            async def send(message):
                if message["type"] == "http.response.start":
                    statuses.append(message["status"])

            scope = {
                "type": "http", "method": "PUT", "path": "/datastore/image", "client": None,
                "headers": [(b"host", b"localhost")],
            }  # fmt: skip
            await guard(scope, receive, send)

        statuses = []
        tasks = [asyncio.create_task(one(statuses)) for _ in range(5)]
        await asyncio.sleep(0.05)
        refused = list(statuses)
        gate.set()
        await asyncio.gather(*tasks)
        return refused, statuses

    refused, statuses = asyncio.run(many())
    assert refused == [429] * 3 and sorted(statuses) == [200, 200, 429, 429, 429]
    assert ask(guard, method="PUT", path="/datastore/image")[0] == 200


def test_websockets_are_closed():
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(Guard(application)({"type": "websocket"}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_an_application_that_hides_why_its_body_ended_does_not_hide_it_from_the_client():
    async def hides(scope, receive, send):
        try:
            await application(scope, receive, send)
        except Exception:
            await send({"type": "http.response.start", "status": 400, "headers": []})
            await send({"type": "http.response.body", "body": b"{}"})

    assert ask(Guard(hides), method="POST", chunks=[b"x" * SMALL_BODY_BYTES, b"x"])[0] == 413
    assert ask(Guard(hides, body_timeout_s=0.05), method="POST", silent=True)[0] == 408
