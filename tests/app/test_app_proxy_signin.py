"""Readers who sign in behind or at nginx: with the files and lines of `deploy/` and its how-to, over TLS."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from app_server import ROOT, launch, needs_monailabel, wait_until_up
from browser import needs_chromium
from ohif_browser import viewer_page
from proxy_server import NAME, needs_nginx, start_proxy
from realm import PASSWORD, bearer

from radclear.ct import study_key

pytestmark = [needs_monailabel, needs_nginx]
SIGN_IN = (ROOT / "deploy" / "nginx-signin.conf").read_text(encoding="utf-8")
COOKIE = "_oauth2_proxy=of a reader"
PAGE = {"sec_fetch_mode": "navigate"}
LOGIN = "https://login.example.org"


class SignInService:
    """What oauth2-proxy says to nginx: who has its cookie is let in, with the token of the realm."""

    def __init__(self, token: str) -> None:
        service = self
        self.token = token

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args) -> None:
                pass

            def do_GET(self) -> None:
                if self.path != "/oauth2/auth":
                    self.send_response(302)
                    back = self.headers.get("X-Auth-Request-Redirect", "")
                    self.send_header("Location", f"{LOGIN}{self.path}?{back}")
                elif self.headers.get("Cookie") == COOKIE:
                    self.send_response(202)
                    self.send_header("Authorization", f"Bearer {service.token}")
                else:
                    self.send_response(401)
                self.end_headers()

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.httpd.server_port
        threading.Thread(target=self.httpd.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, archive, realm):
    """A server that has a name and wants tokens, over an archive."""
    folder = tmp_path_factory.mktemp("proxied")
    conf = ("hosts", NAME, "tasks", "staging")
    server = wait_until_up(launch(folder, archive.url, *conf, environment=realm.environment))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def signing(tmp_path_factory, guarded, realm):
    """nginx with `deploy/nginx-signin.conf`, and the service that it asks."""
    service = SignInService(realm.token("user"))
    text, count = re.subn(r"127\.0\.0\.1:4180", f"127.0.0.1:{service.port}", SIGN_IN)
    assert count == 3
    proxy = start_proxy(tmp_path_factory.mktemp("signing"), guarded.port, signin=text)
    yield proxy
    proxy.stop()
    service.httpd.shutdown()


def test_who_is_not_signed_in_is_sent_to_the_sign_in_or_refused(signing, realm):
    for path in ("/radclear/", "/ohif/viewer?StudyInstanceUIDs=1.2&initialSeriesInstanceUID=1.3"):
        status, headers, _ = signing.ask("GET", path, **PAGE)
        assert (status, headers["Location"]) == (302, f"{LOGIN}/oauth2/start?{path}")
    for path in ("/info/", "/dicom-web/studies", "/radclear/worklist", "/datastore/", "/"):
        assert signing.ask("GET", path)[0] == 401
        assert signing.ask("GET", path, **bearer(realm.token("user", "admin")))[0] == 401
    assert signing.ask("PUT", "/datastore/image?image=x", body=b"x")[0] == 401
    assert signing.ask("GET", "/oauth2/callback")[0] == 302  # the service is reached by who is not signed in
    assert signing.ask("GET", "/oauth2/auth", cookie=COOKIE)[0] == 404  # nginx asks it, clients do not


def test_who_is_signed_in_reads_and_the_audit_says_who(signing, guarded, realm, archive):
    ((_, series),) = archive.files
    assert signing.ask("GET", "/radclear/session", cookie=COOKIE)[0] == 200
    form = {"content_type": "application/x-www-form-urlencoded", "origin": f"https://{NAME}:{signing.port}"}
    path = f"/infer/staging?image={study_key(series)}"
    claimed = bearer(realm.token("user", preferred_username="somebody.else"))
    status, _, body = signing.ask("POST", path, body=b"params={}", cookie=COOKIE, **claimed, **form)
    assert status == 200 and b"prediction" in body
    lines = [json.loads(line) for line in (guarded.data / "audit.jsonl").read_text().splitlines()]
    assert [line["user"] for line in lines if line["event"] == "answer"] == ["dr.reader"]
    foreign = {**form, "origin": "https://other.example.org"}
    assert signing.ask("POST", path, body=b"params={}", cookie=COOKIE, **foreign)[0] == 403
    assert signing.ask("PUT", "/datastore/image?image=x", body=b"x", cookie=COOKIE)[0] == 403  # no annotator
    script = signing.ask("GET", "/ohif/app-config.js", cookie=COOKIE)[2]
    assert b"window.config" in script  # OHIF starts: the proxy has signed the reader in


@needs_chromium
def test_the_page_says_what_to_do_when_the_sign_in_at_nginx_is_over(signing):
    url = f"https://{NAME}:{signing.port}"
    flag = f"--host-resolver-rules=MAP {NAME} 127.0.0.1"
    with viewer_page(url, flag, ignore_https_errors=True) as page:
        name, _, value = COOKIE.partition("=")
        page.context.add_cookies([{"name": name, "value": value, "url": url}])
        page.goto(f"{url}/radclear/")
        page.locator("tr[data-id] a").first.wait_for()
        page.context.clear_cookies()
        page.locator("tr[data-id] a").first.click()
        page.get_by_text("Load this page anew").wait_for()
        assert page.get_by_label("Password").count() == 0  # nginx would not let it through


@needs_chromium
def test_the_cookie_for_ohif_is_kept_over_tls(tmp_path_factory, guarded):
    """The page's own sign-in, behind nginx without one: Chromium keeps a `__Host-` cookie and sends it."""
    proxy = start_proxy(tmp_path_factory.mktemp("tls"), guarded.port)
    url = f"https://{NAME}:{proxy.port}"
    try:
        with viewer_page(
            url, f"--host-resolver-rules=MAP {NAME} 127.0.0.1", ignore_https_errors=True
        ) as page:
            page.goto(f"{url}/radclear/")
            page.get_by_label("User name").fill("dr.reader")
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Sign in").click()
            page.locator("tr[data-id]").first.wait_for()
            (cookie,) = page.context.cookies()
            assert cookie["name"] == "__Host-radclear" and cookie["secure"] and cookie["httpOnly"]
            assert page.evaluate("fetch('/info/').then((answer) => answer.status)") == 200
            page.get_by_role("button", name="Sign out").click()
            page.get_by_text("You are signed out.").wait_for()
            assert page.evaluate("fetch('/info/').then((answer) => answer.status)") == 401
            assert page.context.cookies() == []
    finally:
        proxy.stop()
