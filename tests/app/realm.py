"""A realm that signs tokens: what MONAI Label asks about who somebody is."""

from __future__ import annotations

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest

PASSWORD = "a long password"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class Realm:
    """A key pair, and an address that publishes its public half and gives tokens, as Keycloak does."""

    def __init__(self) -> None:
        rsa = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.rsa")
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.public = base64.b64encode(public).decode()
        realm = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args) -> None:
                pass

            def do_GET(self) -> None:
                known = {"public_key": realm.public}
                if self.path.endswith("/.well-known/openid-configuration"):
                    known = {"token_endpoint": f"{realm.url}/token"}
                self._send(200, known)

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                right = form["username"] == ["dr.reader"] and form["password"] == [PASSWORD]
                token = {"access_token": realm.token("user", "annotator"), "token_type": "Bearer"}
                self._send(200 if right else 401, token if right else {"error": "invalid_grant"})

            def _send(self, status: int, content: dict) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(content).encode())

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.httpd.server_port}/realms/monailabel"
        threading.Thread(target=self.httpd.serve_forever, daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a server that trusts this realm."""
        return {
            "MONAI_LABEL_AUTH_ENABLE": "true",
            "MONAI_LABEL_AUTH_REALM_URI": self.url,
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def token(self, *roles: str, key=None, **claims) -> str:
        import jwt

        payload = {
            "preferred_username": "dr.reader",
            "email": "reader@example.org",
            "name": "R. Reader",
            "exp": int(time.time()) + 3600,
            "realm_access": {"roles": [f"monailabel-{role}" for role in roles]},
        }
        claims = {name: value for name, value in {**payload, **claims}.items() if value is not None}
        return jwt.encode(claims, key or self.key, algorithm="RS256")


@pytest.fixture(scope="module")
def realm():
    made = Realm()
    yield made
    made.httpd.shutdown()
