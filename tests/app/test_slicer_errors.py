"""What the Slicer module's client says when a server does not do what was asked: sentences, no tracebacks."""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from app_server import ROOT

pytest.importorskip("requests", reason="requests is not installed (Slicer and MONAI Label bring it)")
sys.path.insert(0, str(ROOT / "monailabel_app" / "slicer" / "Radclear"))

from RadclearLib.server import Server, ServerError  # noqa: E402

TOKEN = "Bearer abc"


class Replies(BaseHTTPRequestHandler):
    """Answers as told: `server.replies` maps method and path to status and body."""

    def do_GET(self) -> None:
        length = int(self.headers.get("content-length", 0))
        self.server.seen.append((self.path, self.rfile.read(length), self.headers.get("authorization")))
        status, body = self.server.replies.get(self.path.partition("?")[0], (404, '{"detail": "Not Found"}'))
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    do_POST = do_PUT = do_GET

    def log_message(self, *_) -> None:
        """Nothing to say."""


@pytest.fixture
def replies():
    """A server whose replies a test sets, and the module's client of it."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), Replies)
    http.replies, http.seen = {}, []
    threading.Thread(target=http.serve_forever, daemon=True).start()
    http.client = Server(f"127.0.0.1:{http.server_port}/")
    yield http
    http.shutdown()
    http.server_close()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, "{}", "The server wants to know who you are. Enter your name and your password"),
        (403, '{"detail": "not yours"}', "The server does not allow this. Not yours."),
        (422, '{"detail": "slices 3 to 5 are missing"}', "Slices 3 to 5 are missing."),
        (429, '{"detail": "x"}', "The server has too many questions waiting. Try again in a minute."),
        (
            500,
            "<html>Traceback</html>",
            "The server failed (HTTP 500). Ask whoever runs it to look at its log.",
        ),
        (302, "", "The server failed (HTTP 302). Ask whoever runs it to look at its log."),
        (
            200,
            "<html>a router</html>",
            "What answers at this address is no radclear server. Check the address.",
        ),
        (200, '{"models": {"spleen": {"type": "segmentation"}}}', "none of radclear's questions"),
    ],
)
def test_refusals_are_sentences(replies, status, body, said):
    replies.replies["/info/"] = (status, body)
    with pytest.raises(ServerError) as error:
        replies.client.tasks()
    assert said in str(error.value) and "Traceback" not in str(error.value)


def test_signing_in_sends_the_token_and_no_name_with_verdicts(replies):
    replies.replies["/auth/"] = (200, '{"enabled": true}')
    replies.replies["/auth/token"] = (200, '{"access_token": "abc", "token_type": "Bearer"}')
    replies.replies["/radclear/verdicts"] = (201, '{"reader": "ada"}')
    client = replies.client
    assert client.asks_for_password()
    client.sign_in("ada", "secret&more")
    about = {"image": "i", "task": "staging", "weights_sha256": "a", "backbone_sha256": "b"}
    about["series_hash"] = "c"
    given = SimpleNamespace(reader="somebody else", verdict="correct", classes=("II",), comment="")
    client.give_verdict(SimpleNamespace(**about), given)
    _, body, token = replies.seen[-1]
    assert token == TOKEN and json.loads(body) == {
        **about,
        "verdict": "correct",
        "classes": ["II"],
        "comment": "",
    }
    assert b"secret%26more" in replies.seen[1][1]


def test_a_server_without_sign_in_asks_for_none(replies):
    assert not replies.client.asks_for_password()


@pytest.mark.parametrize("address", ["", "ftp://x", "http://", "file:///etc/passwd"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ServerError, match="no address of a server"):
        Server(address)
