"""The worklist of the results page in a real Chromium: asked, found, kept up to date, and what is wrong."""

from __future__ import annotations

import json
import shutil

import pytest
from app_server import TRACES, held_audit, needs_monailabel, until, write_long_study
from browser import SLOW_MS, accessibility_faults, needs_chromium
from web_server import BROKEN, DICOM, LONG, NIFTI, TASKS, start_web_server

from radclear.phantom import make_phantom, write_dicom
from radclear.results.wording import verdict

pytestmark = [needs_monailabel, needs_chromium]


@pytest.fixture(scope="module")
def served(tmp_path_factory, small_studies):
    """A server of its own: at first nothing is answered."""
    server = start_web_server(tmp_path_factory.mktemp("worklist"), small_studies)
    yield server
    server.stop()


@pytest.fixture
def worklist(served, tab):
    tab.goto(f"{served.url}/radclear/")
    tab.locator("tr[data-id]").first.wait_for()
    return tab


def row(page, key):
    return page.locator(f"tr[data-id={key}]")


def state(page, key, name):
    return row(page, key).locator(f"[data-state='{name}']")


def test_studies_are_asked_about_from_the_worklist(served, worklist):
    """First in this module: nothing is answered yet. Two fit in the line at a time, so the page waits."""
    assert worklist.locator("tr[data-id]").count() == 4
    assert worklist.locator("[data-state='not asked']").count() == 4
    busy = worklist.get_by_role("group", name="The server is busy")
    with held_audit(served):
        worklist.get_by_role("button", name="Ask for all shown (4)").click()
        busy.wait_for()
        assert "try again in some seconds" in busy.inner_text() and "Trying again in" in busy.inner_text()
        assert accessibility_faults(worklist) == []
    state(worklist, BROKEN, "failed").wait_for()
    reason = row(worklist, BROKEN).locator(".reason").inner_text()
    assert reason.endswith(".") and "CT" in reason
    assert row(worklist, BROKEN).locator(".when").inner_text().endswith(" UTC")
    for key in (DICOM, NIFTI, LONG):
        state(worklist, key, "answered").wait_for()
    busy.wait_for(state="hidden")
    for key in (DICOM, NIFTI):
        shown = row(worklist, key).inner_text()
        for task in TASKS:
            (entry,) = served.infer(task, key).json()["result"]["tasks"]
            assert verdict(entry) in shown
    text = worklist.content() + served.request("GET", "/radclear/worklist").text
    assert not [trace for trace in TRACES if trace in text]


def test_a_look_that_comes_late_does_not_replace_a_newer_one(served, tab):
    """The first answer is held until the second was shown: then it is older than what is on the page."""
    held = []

    def hold_the_first(route):
        route.continue_() if held else held.append(route)

    tab.route("**/radclear/worklist", hold_the_first)
    tab.goto(f"{served.url}/radclear/")
    tab.get_by_role("heading", name="Worklist").wait_for()
    tab.evaluate("document.dispatchEvent(new CustomEvent('asked', { detail: '' }))")  # it looks again
    tab.locator("tr[data-id]").nth(3).wait_for()
    held[0].fulfill(json={"studies": []})
    tab.wait_for_timeout(500)
    assert tab.locator("tr[data-id]").count() == 4


def test_the_worklist_is_filtered_sorted_and_read_with_keys(worklist):
    worklist.keyboard.press("/")
    worklist.keyboard.type(BROKEN[:12])
    assert [r.get_attribute("data-id") for r in worklist.locator("tr[data-id]").all()] == [BROKEN]
    worklist.keyboard.press("Escape")
    assert worklist.locator("tr[data-id]").count() == 4
    worklist.keyboard.press("?")  # not typed into the filter, and no study was opened yet
    assert "next key slice" in worklist.get_by_role("dialog", name="Keys and help").inner_text()
    worklist.keyboard.press("Escape")
    head = worklist.get_by_role("button", name="Study", exact=True)
    head.click()
    ids = [r.get_attribute("data-id") for r in worklist.locator("tr[data-id]").all()]
    assert ids == sorted(ids, reverse=True)
    assert worklist.locator("th[data-column=id]").get_attribute("aria-sort") == "descending"
    worklist.keyboard.press("j")
    worklist.keyboard.press("j")
    worklist.keyboard.press("k")
    worklist.keyboard.press("Enter")
    worklist.get_by_role("heading", name=ids[0], level=1).wait_for()
    worklist.keyboard.press("n")
    worklist.get_by_role("heading", name=ids[1], level=1).wait_for()
    worklist.keyboard.press("Escape")
    row(worklist, ids[1]).locator("a:focus").wait_for()


def test_a_study_is_found_by_its_name_without_the_page_knowing_names(worklist):
    worklist.locator("#filter").fill("ROE_RICHARD.nii.gz")
    worklist.keyboard.press("Enter")
    worklist.get_by_role("heading", name=NIFTI, level=1).wait_for()
    worklist.keyboard.press("Escape")
    worklist.locator("#filter").fill("nobody")
    worklist.keyboard.press("Enter")
    said = worklist.get_by_text("No study has this id, name or UID.")
    said.wait_for()
    with worklist.expect_response("**/radclear/worklist"):  # the next look at the worklist leaves it there
        worklist.evaluate("document.dispatchEvent(new CustomEvent('asked'))")
    worklist.evaluate("new Promise((done) => setTimeout(done, 500))")
    assert said.is_visible()
    worklist.locator("#filter").fill("somebody")
    said.wait_for(state="hidden")


def test_an_address_that_was_cut_off_leads_to_the_worklist(served, tab):
    tab.goto(f"{served.url}/radclear/#/study/study%")
    tab.get_by_role("heading", name="Worklist").wait_for()


def test_a_server_without_studies_says_so(served, tab):
    tab.route("**/radclear/worklist", lambda route: route.fulfill(json={"studies": []}))
    tab.goto(f"{served.url}/radclear/")
    tab.get_by_text("The server has no studies.").wait_for()


def test_nothing_moves_for_those_who_want_no_motion(chrome, served):
    for wish, moves in (("no-preference", "breathe"), ("reduce", "none")):
        page = chrome.new_page(reduced_motion=wish)
        page.set_default_timeout(SLOW_MS)
        page.goto(f"{served.url}/radclear/")
        page.locator("tr[data-id]").first.wait_for()
        script = """() => {
          document.querySelector('.state').dataset.state = 'running';
          return getComputedStyle(document.querySelector('.state .sign')).animationName;
        }"""
        assert page.evaluate(script) == moves
        page.close()


def test_a_server_that_is_gone_is_said_in_words(served, worklist):
    worklist.route("**/radclear/worklist", lambda route: route.abort())
    worklist.reload()
    worklist.get_by_text("The server does not answer.").wait_for()
    worklist.unroute("**/radclear/worklist")
    worklist.locator("tr[data-id]").first.wait_for()  # it asks again by itself
    worklist.goto(f"{served.url}/radclear/#/study/study-0000000000000000")
    worklist.get_by_role("heading", name="The study cannot be shown").wait_for()
    said = worklist.inner_text("main")
    assert "No study has this id" in said and "null" not in said and "undefined" not in said
    assert accessibility_faults(worklist) == []


def test_the_servers_address_leads_a_person_to_the_page_and_a_program_to_json(served, tab):
    tab.goto(served.url)
    assert tab.url == f"{served.url}/radclear/"
    assert served.request("GET", "/").json()["page"] == "/radclear/"


def test_answers_of_other_weights_or_about_other_images_are_called_so(served, tab):
    """As after an update of the server, and after somebody changed the study's files."""
    files = [served.data / "labels" / task / f"{NIFTI}.info.json" for task in TASKS]
    before = [file.read_text(encoding="utf-8") for file in files]
    for file, text in zip(files, before, strict=True):
        info = json.loads(text)
        info["params"]["result"]["tasks"][0]["model"]["weights_sha256"] = "0" * 64
        info["params"]["result"]["study"]["series_hash"] = "0" * 64
        file.write_text(json.dumps(info), encoding="utf-8")
    try:
        tab.goto(f"{served.url}/radclear/")
        row(tab, NIFTI).get_by_text("older weights").nth(2).wait_for()
        row(tab, NIFTI).locator("a").click()
        tab.get_by_text("Given by older weights").wait_for()
        tab.get_by_text("The slice cannot be shown. The study's files were changed").wait_for()
        tab.get_by_text("The curve is shown without the overview.").wait_for()
        assert accessibility_faults(tab) == []
        tab.get_by_role("radio", name="Disagree").check()
        tab.get_by_label("Your name").fill("Ada")
        tab.get_by_role("button", name="Store the verdict").click()
        tab.get_by_text("The verdict is not stored.").wait_for()
        assert served.request("GET", f"/radclear/verdicts?image={NIFTI}").json()["verdicts"] == []
    finally:
        for file, text in zip(files, before, strict=True):
            file.write_text(text, encoding="utf-8")


def test_what_a_batch_stored_is_shown_without_asking(served, tab, tmp_path):
    """One question about one study more; nobody asks for it on the page."""
    scan = write_long_study(tmp_path / "x.nii", n_slices=8, seed=5)
    with open(scan, "rb") as stream:
        sent = served.request("PUT", "/datastore/image?image=later", files={"file": ("x.nii", stream)})
    key = sent.json()["image"]
    started = served.request("POST", "/batch/infer/lung_disease?images=unlabeled")
    assert started.status_code == 200
    path, open_states = "/batch/infer", ("SUBMITTED", "RUNNING")
    until(lambda: served.request("GET", path).json()["status"] not in open_states, every_s=0.5)
    tab.goto(f"{served.url}/radclear/")
    state(tab, key, "partly answered").wait_for()
    assert "1 of 3 answered" in row(tab, key).inner_text()
    assert row(tab, key).locator("td", has_text="–").count() == 2
    row(tab, key).locator("a").click()
    tab.locator(".frame img[src^=blob]").wait_for()
    assert "Tumor location, Staging: there is no answer" in tab.inner_text(".banners")
    with held_audit(served):
        tab.get_by_role("button", name="Ask for answers").click()
        tab.get_by_text("It was asked for and comes by itself.").wait_for()
    tab.get_by_text("Not all questions are answered").wait_for(state="hidden")


@pytest.fixture(scope="module")
def two_series(served, tmp_path_factory):
    """The id of a study with two series, and the UID of the one that reading does not choose."""
    from pydicom import dcmread

    folder = tmp_path_factory.mktemp("two")
    long, short = (
        write_dicom(make_phantom(seed, n_slices=24, size=64), folder / "study" / str(seed)) for seed in (8, 9)
    )
    for file in (*long[12:], *short[6:]):
        file.unlink()
    packed = shutil.make_archive(str(folder / "two"), "zip", folder / "study")
    with open(packed, "rb") as stream:
        sent = served.request("PUT", "/datastore/image?image=two", files={"file": ("two.zip", stream)})
    return sent.json()["image"], str(dcmread(short[0]).SeriesInstanceUID)


def listed(served, key):
    rows = served.request("GET", "/radclear/worklist").json()["studies"]
    return next(row for row in rows if row["id"] == key)


def judge(served, key, answer):
    """A reader agrees with an answer."""
    result = answer["result"]
    model = result["tasks"][0]["model"]
    said = {"image": key, "task": result["tasks"][0]["task"], "verdict": "agree", "reader": "Ada"}
    said |= {"weights_sha256": model["weights_sha256"], "backbone_sha256": model["backbone_weights_sha256"]}
    said["series_hash"] = result["study"]["series_hash"]
    assert served.request("POST", "/radclear/verdicts", json=said).status_code == 201


def test_an_answer_about_a_series_that_a_client_named_is_not_shown_as_the_studys(served, tab, two_series):
    key, series = two_series
    named = served.infer("staging", key, params=json.dumps({"series": series})).json()
    judge(served, key, named)
    tab.goto(f"{served.url}/radclear/")
    state(tab, key, "not asked").wait_for()
    assert "A verdict is about an answer that is not kept here" in row(tab, key).inner_text()
    assert "✓ agree" in row(tab, key).inner_text()
    own = served.infer("staging_overlay", key, query={"output": "json"}).json()
    assert own["result"]["study"]["series_hash"] != named["result"]["study"]["series_hash"]
    known = listed(served, key)
    assert [a["text"] for a in known["answers"]] == [verdict(own["result"]["tasks"][0])]
    assert known["verdicts"] == [] and known["reason"] == "", "the verdict is about the other series"
    served.infer("staging", key, params=json.dumps({"series": series}))
    assert listed(served, key) == known, "asked once more, by name, and still the study's own is shown"


def test_what_other_clients_asked_is_shown_and_counted(served, tab, two_series):
    """Viewers ask one question at a time. An answer that cannot be kept is still given."""
    key, _ = two_series
    stage = served.infer("staging", key).json()
    served.infer("lung_disease_findings", key)
    kept = served.data / "labels" / "tumor_location"
    blocked = kept / f"{key}.info.json"
    blocked.mkdir(parents=True)
    try:
        assert served.infer("tumor_location", key).status_code == 200
    finally:
        blocked.rmdir()
    assert "is not kept for the worklist" in served.printed and not list(kept.glob(f".{key}*"))
    tab.goto(f"{served.url}/radclear/")
    state(tab, key, "partly answered").wait_for()
    assert "2 of 3 answered" in row(tab, key).inner_text()
    tab.set_viewport_size({"width": 840, "height": 700})
    assert tab.locator(".badge").evaluate_all("all => all.every(e => e.getClientRects().length === 1)")
    judge(served, key, stage)
    tab.reload()
    state(tab, key, "partly judged").wait_for()
    assert "1 of 2 verdicts" in row(tab, key).inner_text()
    tab.locator("#filter").fill(f"answered {key}")
    assert row(tab, key).count() == 1, "a judged study is an answered one"
    tab.locator("#filter").fill("")
    row(tab, key).get_by_role("button", name="Ask").click()
    row(tab, key).get_by_text("1 of 3 verdicts").wait_for()
    for task in ("lung_disease", "tumor_location"):
        judge(served, key, served.infer(task, key).json())
    tab.reload()
    state(tab, key, "judged").wait_for()
    assert "3 of 3 verdicts" in row(tab, key).inner_text()
    assert accessibility_faults(tab) == []
