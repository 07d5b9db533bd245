"""Who may see the results page, and where it leads: signing in, and OHIF over an archive."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from app_server import launch, needs_monailabel, wait_until_up
from browser import accessibility_faults, needs_chromium
from realm import PASSWORD, bearer

from radclear.ct import read_study, study_key

pytestmark = [needs_monailabel, needs_chromium]
DICOM = study_key("DOE^JANE_0")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, archive, realm):
    """A server that wants tokens, over an archive."""
    folder = tmp_path_factory.mktemp("web_guarded")
    server = wait_until_up(launch(folder, archive.url, "tasks", "staging", environment=realm.environment))
    yield server
    server.stop()


@pytest.fixture
def series(archive):
    ((_, uid),) = archive.files
    return uid


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "session"), ("GET", "worklist"), ("POST", "find"), ("GET", f"study/{DICOM}"),
        ("POST", f"study/{DICOM}/ask"), ("GET", f"study/{DICOM}/slice/1"),
        ("GET", f"study/{DICOM}/chart/staging"), ("GET", f"study/{DICOM}/ohif?slice=1"),
    ],
)  # fmt: skip
def test_no_data_without_a_token(guarded, method, path):
    assert guarded.request(method, f"/radclear/{path}").status_code == 401


def test_a_reader_signs_in_and_follows_a_link_into_ohif(guarded, realm, tab, series, small_studies, archive):
    tab.goto(f"{guarded.url}/radclear/")
    tab.get_by_role("heading", name="Sign in", exact=True).wait_for()
    assert accessibility_faults(tab) == []
    tab.get_by_label("User name").fill("dr.reader")
    tab.get_by_label("Password").fill("wrong")
    tab.get_by_role("button", name="Sign in").click()
    tab.get_by_text("The sign-in was refused.").wait_for()
    tab.get_by_label("Password").fill(PASSWORD)
    tab.get_by_role("button", name="Sign in").click()
    row = tab.locator(f"tr[data-id={study_key(series)}]")
    row.wait_for()
    assert tab.locator("#reader").inner_text() == "Reader: dr.reader"
    row.get_by_role("button", name="Ask").click()
    row.locator("[data-state=answered]").wait_for()
    row.locator("a").click()
    tab.locator(".frame img[src^=blob]").wait_for()
    assert tab.get_by_text("Stored under your name: dr.reader.").is_visible()
    tab.keyboard.press("d")
    tab.get_by_role("button", name="Store the verdict").click()
    tab.locator(".earlier li", has_text="dr.reader").wait_for()
    tab.get_by_role("slider", name="Slice").focus()
    tab.keyboard.press(".")
    number = int(tab.get_by_role("slider", name="Slice").input_value())
    # before OHIF, which is of the same origin, keeps its language there
    assert tab.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    with tab.context.expect_page() as opened:
        tab.keyboard.press("o")
    opened.value.wait_for_url("**/ohif/viewer**")
    query = parse_qs(urlsplit(opened.value.url).query)
    study = read_study(small_studies / "DOE^JANE_0")
    ((study_uid, _),) = archive.files
    assert query == {
        "StudyInstanceUIDs": [study_uid],
        "initialSeriesInstanceUID": [series],
        "initialSOPInstanceUID": [study.sop_instance_uids[number - 1]],
    }
    tab.reload()  # the token was in the page's memory only
    tab.get_by_role("heading", name="Sign in", exact=True).wait_for()


def test_a_token_can_be_pasted_and_one_without_a_role_is_refused_in_words(guarded, realm, tab):
    tab.goto(f"{guarded.url}/radclear/")
    for token, words in (
        ("nonsense", "The server does not accept this sign-in"),
        (realm.token(exp=1), "The server does not accept this sign-in"),
        (realm.token(), "your account may not read here"),
    ):
        tab.get_by_label("Access token").fill(token)
        tab.get_by_role("button", name="Use the token").click()
        tab.get_by_text(words).wait_for()


def test_a_proxy_that_brings_the_token_needs_no_form(guarded, realm, tab, series):
    tab.set_extra_http_headers(bearer(realm.token("user")))
    tab.goto(f"{guarded.url}/radclear/")
    tab.locator(f"tr[data-id={study_key(series)}]").wait_for()


def test_the_link_redirects_and_the_pages_data_hold_no_uids(guarded, realm, series):
    user = bearer(realm.token("user"))
    key = study_key(series)
    listed = guarded.request("GET", "/radclear/worklist", headers=user).text
    known = guarded.request("GET", f"/radclear/study/{key}", headers=user).text
    assert key in listed and series not in listed + known and "2.25." not in listed + known
    path = f"/radclear/study/{key}/ohif?slice=1"
    answer = guarded.request("GET", path, headers=user, allow_redirects=False)
    assert answer.status_code == 303 and answer.headers["Location"].startswith("/ohif/viewer?StudyInst")
    assert guarded.request("GET", path.replace("=1", "=9"), headers=user).status_code == 404
