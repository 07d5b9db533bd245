"""Stock OHIF with authentication: it sends no token, so a cookie stands for the one of the reader."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from app_server import launch, needs_monailabel, wait_until_up
from browser import SLOW_MS, needs_chromium
from ohif_browser import ask_in_the_panel, viewer_page
from orthanc_server import Orthanc, needs_orthanc
from orthanc_study import write_archive_study
from realm import PASSWORD, bearer

pytestmark = [needs_monailabel, needs_orthanc]
NAME = "ct.example.org"
COOKIE = "radclear"
#: What browsers say about a request of this server's own page.
OWN = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory, realm):
    """Orthanc with one study, and a server over it that wants tokens: (server, study)."""
    folder = tmp_path_factory.mktemp("ohif_signin")
    orthanc = Orthanc(folder).start()
    study = write_archive_study(folder / "study", n_slices=24, size=128)
    orthanc.store(study.files["long"])
    environment = {**realm.environment, **orthanc.environment}
    server = wait_until_up(launch(folder, orthanc.url, "hosts", NAME, environment=environment))
    yield server, study
    server.stop()
    orthanc.kill()


def begin(server, token: str, **headers: str):
    """Ask for a session; gives the answer."""
    return server.request("POST", "/radclear/session", headers={**bearer(token), **OWN, **headers})


def number_of(answer) -> str:
    """The session's number in an answer's cookie."""
    assert answer.status_code == 204, answer.text
    return answer.headers["Set-Cookie"].partition("=")[2].partition(";")[0]


def cookie(number: str, *, name: str = COOKIE) -> dict[str, str]:
    return {"Cookie": f"MONAILABEL_SERVER_URL=http%3A//127.0.0.1/; {name}={number}"}


@needs_chromium
def test_a_reader_signs_in_once_and_stock_ohif_shows_images_models_and_overlay(archive):
    server, study = archive
    with viewer_page(server.url) as page:
        page.goto(f"{server.url}/ohif/monai-label?StudyInstanceUIDs={study.uid}")
        page.get_by_role("heading", name="Sign in", exact=True).wait_for()
        page.get_by_label("User name").fill("dr.reader")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/ohif/monai-label?*")  # back, by itself
        (cookie,) = [known for known in page.context.cookies() if known["name"] == COOKIE]
        assert cookie["httpOnly"] and cookie["sameSite"] == "Strict" and cookie["expires"] == -1
        assert COOKIE not in page.evaluate("document.cookie").replace("MONAILABEL", "")
        listed = ask_in_the_panel(page, server.url, "staging_overlay", picture="ohif-signed-in")
        assert "tumor_location_overlay" in listed
        lines = (server.data / "audit.jsonl").read_text().splitlines()
        assert {line["user"] for line in map(json.loads, lines) if line["event"] == "answer"} == {"dr.reader"}

        page.goto(f"{server.url}/radclear/")
        page.get_by_label("User name").fill("dr.reader")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("button", name="Sign out").click()
        page.get_by_text("You are signed out.").wait_for()
        page.goto(f"{server.url}/ohif/")
        page.get_by_role("heading", name="Sign in", exact=True).wait_for()
        assert not [known for known in page.context.cookies() if known["name"] == COOKIE]


def test_the_cookie_opens_what_ohif_asks_for_and_nothing_else(archive, realm):
    server, study = archive
    with_cookie = {**cookie(number_of(begin(server, realm.token("user", "annotator", "admin")))), **OWN}
    assert server.request("GET", "/info/", headers=with_cookie).status_code == 200
    assert server.request("GET", "/dicom-web/studies", headers=with_cookie).json()
    asked = server.infer("staging", study.series["long"], headers=with_cookie)
    assert asked.status_code == 200, asked.text
    for method, path in (
        ("GET", "/radclear/worklist"), ("GET", "/radclear/session"), ("POST", "/radclear/session"),
        ("POST", "/radclear/verdicts"), ("GET", "/datastore/"), ("PUT", "/datastore/image"),
        ("PUT", "/datastore/label"), ("PUT", "/session/"), ("POST", "/batch/infer/staging"),
        ("DELETE", "/batch/infer"), ("POST", "/train/staging"), ("DELETE", "/train/"),
        ("POST", "/radclear/models/staging/bundled"), ("POST", "/scoring/staging"),
        ("GET", "/info/../datastore/"), ("GET", "/infer/../radclear/worklist"),
    ):  # fmt: skip
        answer = server.request(method, path, headers=with_cookie, json={}, allow_redirects=False)
        assert answer.status_code in (401, 404), (method, path, answer.status_code)
    foreign = {**with_cookie, "Origin": "https://other.example.org"}
    assert server.infer("staging", study.series["long"], headers=foreign).status_code == 403


@pytest.mark.parametrize("said", [{}, *({"Sec-Fetch-Site": s} for s in ("none", "same-site", "cross-site"))])
def test_the_cookie_counts_only_for_pages_of_this_server(archive, realm, said):
    server, _ = archive
    with_cookie = cookie(number_of(begin(server, realm.token("user"))))
    assert server.request("GET", "/info/", headers={**with_cookie, **said}).status_code == 401
    script = server.request("GET", "/ohif/app-config.js", headers={**with_cookie, **said}).text
    assert "window.config" not in script and "/radclear/" in script


def test_a_session_is_as_good_as_its_token_and_ends(archive, realm):
    server, _ = archive

    def status(number: str, **options: str) -> int:
        return server.request("GET", "/info/", headers={**cookie(number, **options), **OWN}).status_code

    assert begin(server, "nonsense").status_code == 401
    assert begin(server, realm.token()).status_code == 403
    assert status("nonsense") == status("") == 401
    first = number_of(begin(server, realm.token("user")))
    assert status(first) == 200 and status(first, name=f"__Host-{COOKIE}") == 401
    second = number_of(begin(server, realm.token("user"), **cookie(first)))  # signed in again
    assert status(first) == 401 and status(second) == 200
    ended = server.request("DELETE", "/radclear/session", headers=cookie(second))
    assert ended.status_code == 204 and "Max-Age=0" in ended.headers["Set-Cookie"]
    assert status(second) == 401
    for life in (3, 15, 60):  # on a slow machine the token may have ended before it gets there
        end = int(time.time()) + life
        short = begin(server, realm.token("user", exp=end))
        if short.status_code != 401:
            break
    time.sleep(max(0.0, end + 1 - time.time()))
    assert status(number_of(short)) == 401


def test_under_a_name_the_cookie_is_of_this_server_and_tls_alone(archive, realm):
    server, _ = archive
    named = begin(server, realm.token("user"), Host=NAME)
    number = number_of(named)
    name, *words = named.headers["Set-Cookie"].replace("=" + number, "").split("; ")
    assert name == f"__Host-{COOKIE}"
    assert {word.lower() for word in words} == {"httponly", "path=/", "samesite=strict", "secure"}
    for known, expected in ((f"__Host-{COOKIE}", 200), (COOKIE, 401)):
        headers = {**cookie(number, name=known), **OWN, "Host": NAME}
        assert server.request("GET", "/info/", headers=headers).status_code == expected
    plain = server.request("POST", "/radclear/session", headers={**bearer(realm.token("user")), "Host": NAME})
    assert plain.status_code == 400 and "TLS" in plain.json()["detail"]


@needs_chromium
def test_a_page_of_the_same_site_cannot_use_the_session(archive, realm, chrome):
    """Another port is the same site: browsers send the cookie there and, from its pages, here."""
    server, study = archive
    number = number_of(begin(server, realm.token("user")))
    ask = f"/infer/staging?image={study.series['long']}"
    form = f'<form method=post action="{server.url}{ask}"><button>go</button></form>'
    received = []

    class Page(BaseHTTPRequestHandler):
        def log_message(self, *args) -> None:
            pass

        def do_GET(self) -> None:
            received.append(self.headers.get("Cookie", ""))
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(form.encode())

    other = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    context = chrome.new_context()
    known = {"name": COOKIE, "value": number, "domain": "127.0.0.1", "path": "/", "sameSite": "Strict"}
    context.add_cookies([{**known, "httpOnly": True}])
    page = context.new_page()
    page.set_default_timeout(SLOW_MS)

    def status(path: str, action: Callable[[], object]) -> int:
        with page.expect_response(server.url + path) as told:  # not what the page itself asks for
            action()
        return told.value.status

    def fetched(path: str, method: str) -> int:
        options = {"method": method, "mode": "no-cors", "credentials": "include"}
        script = "([url, options]) => fetch(url, options).catch(Number)"
        return status(path, lambda: page.evaluate(script, [server.url + path, options]))

    page.goto(f"{server.url}/")
    assert fetched("/info/", "GET") == 200
    page.goto(f"http://127.0.0.1:{other.server_port}/")
    assert number in received[0]
    answered = (server.data / "audit.jsonl").read_text().count('"answer"')
    assert fetched("/info/", "GET") == fetched("/dicom-web/studies", "GET") == 401
    assert fetched(ask, "POST") == status(ask, page.get_by_role("button").click) == 403
    assert (server.data / "audit.jsonl").read_text().count('"answer"') == answered
    context.close()
    other.shutdown()
