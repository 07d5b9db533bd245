"""The results page in a real Chromium against a real server: worklist, answers, images, verdicts."""

from __future__ import annotations

import json
import re
import shutil
import time

import pytest
from app_server import ROOT, START_S, TRACES, launch, needs_monailabel, wait_until_up, write_long_study
from browser import accessibility_faults, needs_chromium

from radclear.ct import ABDOMEN, LUNG, read_study, study_key
from radclear.results.png import encode_png
from radclear.results.thumbnails import slice_pictures
from radclear.results.wording import verdict

pytestmark = [needs_monailabel, needs_chromium]
DICOM, NIFTI = study_key("DOE^JANE_0"), study_key("ROE_RICHARD.nii.gz")
BROKEN, LONG = study_key("DOE^BROKEN"), study_key("DOE^LONG.nii")
TASKS = ("tumor_location", "lung_disease", "staging")


@pytest.fixture(scope="module")
def served(tmp_path_factory, small_studies):
    """A server with room for one waiting request."""
    folder = tmp_path_factory.mktemp("web")
    studies = folder / "studies"
    shutil.copytree(small_studies, studies)
    write_long_study(studies / "DOE^LONG.nii", n_slices=96)
    server = wait_until_up(launch(folder, studies, "waiting", "1"))
    yield server
    server.stop()


@pytest.fixture
def worklist(served, tab):
    tab.goto(f"{served.url}/radclear/")
    tab.locator("tr[data-id]").first.wait_for()
    return tab


@pytest.fixture
def answered(served, tab):
    """The DICOM study, answered, with its pictures loaded."""
    served.request("POST", f"/radclear/study/{DICOM}/ask")
    tab.goto(f"{served.url}/radclear/#/study/{DICOM}")
    tab.locator(".cursor-dot.chosen").wait_for()
    tab.locator(".frame img[src^=blob]").wait_for()
    return tab


def row(page, key):
    return page.locator(f"tr[data-id={key}]")


def state(page, key, name):
    return row(page, key).locator(f"[data-state='{name}']")


def told(server, key):
    return server.request("GET", f"/radclear/study/{key}").json()


def test_studies_are_asked_about_from_the_worklist(served, worklist):
    """First in this module: nothing is answered yet. Two fit in the line at a time, so the page waits."""
    assert worklist.locator("tr[data-id]").count() == 4
    assert worklist.locator("[data-state='not asked']").count() == 4
    worklist.get_by_role("button", name="Ask for all shown (4)").click()
    busy = worklist.get_by_role("group", name="The server is busy")
    busy.wait_for()
    assert "try again in some seconds" in busy.inner_text() and "Trying again in" in busy.inner_text()
    assert accessibility_faults(worklist) == []
    state(worklist, BROKEN, "failed").wait_for()
    reason = row(worklist, BROKEN).locator(".reason").inner_text()
    assert reason.endswith(".") and "CT" in reason
    for key in (DICOM, NIFTI, LONG):
        state(worklist, key, "answered").wait_for()
    assert busy.is_hidden()
    for key in (DICOM, NIFTI):
        shown = row(worklist, key).inner_text()
        for task in TASKS:
            (entry,) = served.infer(task, key).json()["result"]["tasks"]
            assert verdict(entry) in shown
    text = worklist.content() + served.request("GET", "/radclear/worklist").text
    assert not [trace for trace in TRACES if trace in text]


def test_the_worklist_is_filtered_sorted_and_read_with_keys(worklist):
    worklist.keyboard.press("/")
    worklist.keyboard.type(BROKEN[:12])
    assert [r.get_attribute("data-id") for r in worklist.locator("tr[data-id]").all()] == [BROKEN]
    worklist.keyboard.press("Escape")
    assert worklist.locator("tr[data-id]").count() == 4
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
    worklist.get_by_text("No study has this id, name or UID.").wait_for()


def test_three_panels_say_what_the_server_says(served, answered):
    known = told(served, DICOM)
    for task in known["tasks"]:
        panel = answered.get_by_role("article", name=task["title"])
        text = panel.inner_text()
        assert task["text"] in text and task["meaning"] in text
        rows = panel.locator("tbody tr")
        assert rows.count() == len(task["classes"])
        for shown, entry in zip(rows.all(), task["classes"], strict=True):
            assert entry["label"] in shown.inner_text() and entry["text"] in shown.inner_text()
            width = float(shown.locator(".fill").get_attribute("width"))
            assert width == pytest.approx(200 * entry["probability"], abs=0.01)
    page = answered.inner_text("main")
    assert "Demonstration weights" in page and "say nothing about a patient" in page
    assert "studies come from a folder" in page and not answered.locator("a[target=_blank]").count()
    assert "For research use only, not for diagnosis" in answered.inner_text("header")


def test_slices_are_chosen_by_keys_slider_curve_and_thumbnail(served, answered):
    task = told(served, DICOM)["tasks"][0]
    keys, count = task["key_slices"], len(task["attention"])
    slider = answered.get_by_role("slider", name="Slice")
    assert slider.input_value() == str(keys[0]["number"])
    slider.focus()
    answered.keyboard.press("Home")
    assert slider.input_value() == "1" and slider.get_attribute("aria-valuetext").startswith("Slice 1 of ")
    answered.keyboard.press("End")
    assert slider.input_value() == str(count)
    answered.keyboard.press(",")
    assert slider.input_value() == str(count - 1)
    answered.keyboard.press("[")
    assert slider.input_value() in {str(key["number"]) for key in keys}
    answered.locator(".thumbnail").nth(len(keys) - 1).click()
    assert slider.input_value() == str(keys[-1]["number"])
    assert answered.locator(".thumbnail[aria-pressed=true]").inner_text().startswith(f"#{len(keys)}")
    chart = answered.locator("svg.attention")
    left, top, width, height, _ = map(float, chart.get_attribute("data-plot").split())
    scale = chart.bounding_box()["width"] / float(chart.get_attribute("viewBox").split()[2])
    chart.hover(position={"x": (left + width / 2) * scale, "y": (top + height) * scale - 1})
    assert answered.locator(".reading").inner_text().startswith("Slice 1, ")
    chart.click(position={"x": (left + width / 2) * scale, "y": (top + 1) * scale})
    assert slider.input_value() == str(count)
    dot = answered.locator(".cursor-dot.chosen")
    assert float(dot.get_attribute("cy")) == pytest.approx(top, abs=0.5)


def test_pictures_are_the_slices_right_at_the_left(served, answered):
    study = read_study(served.studies / "DOE^JANE_0")
    number = told(served, DICOM)["tasks"][0]["key_slices"][0]["number"]
    for window, size in ((ABDOMEN, 768), (LUNG, 192)):
        path = f"/radclear/study/{DICOM}/slice/{number}?window={window.name}&size={size}"
        (picture,) = slice_pictures(study, number - 1, [window], size=size)
        assert served.request("GET", path).content == encode_png(picture.grey)
    alt = answered.locator(".frame img").get_attribute("alt")
    assert f"slice {number} of 8" in alt and "abdomen window" in alt and "right at the left" in alt
    answered.keyboard.press("w")
    answered.locator(".frame img[alt*='lung window']").wait_for()
    assert answered.locator("input[name=window][value=lung]").is_checked()
    assert "−600/1500 HU" in answered.locator("fieldset.windows").inner_text()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("slice/0", 404), ("slice/17", 404), ("slice/x", 422), ("slice/1?size=5000", 400),
        ("slice/1?window=../../x", 400), ("slice/1?series_hash=" + "0" * 64, 409), ("chart/none", 404),
        ("ohif?slice=1", 404),
    ],
)  # fmt: skip
def test_what_a_study_does_not_have_is_refused(served, path, status):
    answer = served.request("GET", f"/radclear/study/{DICOM}/{path}")
    assert answer.status_code == status and answer.json()["detail"]


def test_only_the_pages_own_files_are_served(served):
    for path in ("main.py", "../main.py", "..%2fmain.py", "%2e%2e/main.py", "..%2f..%2flib%2froutes.py", "",
                 "%2fetc%2fpasswd", "index.html%00.js"):  # fmt: skip
        answer = served.request("GET", f"/radclear/files/{path}")
        assert answer.status_code == 404, path
    page = served.request("GET", "/radclear/")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|style=", page.text)
    assert served.request("GET", "/radclear", allow_redirects=False).headers["Location"] == "/radclear/"


def test_the_page_refers_to_nothing_outside_itself():
    for file in sorted((ROOT / "monailabel_app" / "web").iterdir()):
        addresses = set(re.findall(r"\w+://[^\s\"'`]+", file.read_text(encoding="utf-8")))
        assert addresses <= {"http://www.w3.org/2000/svg"}, file.name


def test_help_lists_the_keys_and_single_keys_can_be_switched_off(answered):
    answered.keyboard.press("?")
    help = answered.get_by_role("dialog", name="Keys and help")
    assert "next key slice" in help.inner_text() and "previous study" in help.inner_text()
    assert accessibility_faults(answered) == []
    help.get_by_label("Single keys are on").uncheck()
    answered.keyboard.press("Escape")
    assert help.is_hidden()
    slider = answered.get_by_role("slider", name="Slice")
    before = slider.input_value()
    answered.keyboard.press(".")
    answered.keyboard.press(",")
    answered.keyboard.press(",")
    assert slider.input_value() == before
    answered.get_by_role("button", name="Keys and help").click()
    help.get_by_label("Single keys are on").check()


@pytest.mark.parametrize("width", [1440, 1024, 512])  # 512: 1024 at 200 %
def test_views_are_accessible_and_need_no_sideways_scrolling(served, answered, width):
    answered.set_viewport_size({"width": width, "height": 700})
    for address in (f"#/study/{DICOM}/staging", "#/"):
        answered.goto(f"{served.url}/radclear/{address}")
        answered.locator(
            ".thumbnail img[src] >> nth=0" if "study" in address else "tr[data-id] >> nth=0"
        ).wait_for()
        assert accessibility_faults(answered) == []
        sizes = answered.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert sizes[0] <= sizes[1]


def test_nothing_moves_for_those_who_want_no_motion(chrome, served):
    for wish, moves in (("no-preference", "breathe"), ("reduce", "none")):
        page = chrome.new_page(reduced_motion=wish)
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


def test_a_verdict_is_stored_with_its_reader_and_shown(served, answered):
    """Typed with keys only; what a reader wrote is text, never markup."""
    comment = "<img src=x onerror=alert(1)> & none of them"
    answered.keyboard.press("c")
    assert answered.locator("input[name=class]").first.evaluate("e => e === document.activeElement")
    answered.get_by_role("button", name="Store the verdict").press("Enter")
    answered.get_by_text("Enter your name.").wait_for()
    assert answered.get_by_label("Your name").evaluate("e => e === document.activeElement")
    answered.keyboard.type("R. Reader")
    answered.get_by_label("Comment").fill(comment)
    answered.get_by_role("button", name="Store the verdict").press("Enter")
    answered.locator(".stored", has_text="✓ Stored").wait_for()
    (known,) = served.request("GET", f"/radclear/verdicts?image={DICOM}").json()["verdicts"]
    task = told(served, DICOM)["tasks"][0]
    assert known["verdict"] == "correct" and known["classes"] == [] and known["reader"] == "R. Reader"
    assert known["comment"] == comment and known["task"] == task["task"]
    assert known["weights_sha256"] == task["weights_sha256"]
    first = answered.locator(".earlier li").first
    first.wait_for()
    assert comment in first.inner_text() and "none of the classes" in first.inner_text()
    assert not answered.locator(".earlier img").count()
    assert answered.get_by_label("Your name").input_value() == "R. Reader"
    answered.keyboard.press("a")
    answered.get_by_role("button", name="Store the verdict").click()
    answered.locator(".earlier li").nth(1).wait_for()
    assert "replaced by a later one" in answered.locator(".earlier li").nth(1).inner_text()
    assert (
        "✓ Last verdict: agree, R. Reader" in answered.get_by_role("article", name=task["title"]).inner_text()
    )
    assert accessibility_faults(answered) == []
    answered.get_by_role("link", name="Worklist").click()
    state(answered, DICOM, "verdict given").wait_for()


def test_a_verdict_that_is_not_stored_is_said_and_kept_in_the_form(served, answered):
    answered.keyboard.press("3")
    answered.get_by_role("heading", name="Your verdict: staging").wait_for()
    answered.get_by_role("button", name="Store the verdict").click()
    answered.get_by_text("Choose agree, disagree or correct.").wait_for()
    answered.get_by_label("Correct").check()
    answered.get_by_role("button", name="Store the verdict").click()
    answered.get_by_text("Choose the class that is right.").wait_for()
    answered.get_by_label("Stage III", exact=True).check()
    answered.get_by_label("Your name").fill("R. Reader")
    answered.route("**/radclear/verdicts", lambda route: route.abort())
    answered.get_by_role("button", name="Store the verdict").click()
    answered.get_by_text("The verdict is not stored. The server does not answer.").wait_for()
    assert answered.get_by_label("Stage III", exact=True).is_checked()
    answered.unroute("**/radclear/verdicts")
    answered.get_by_label("Comment").fill("not lost")
    answered.keyboard.press("Escape")  # leaves the field, not the study
    answered.keyboard.press("1")
    answered.keyboard.press("3")
    assert answered.get_by_label("Comment").input_value() == "not lost"
    answered.get_by_label("Correct").check()
    answered.get_by_label("Stage III", exact=True).check()
    answered.get_by_role("button", name="Store the verdict").click()
    answered.locator(".stored", has_text="✓ Stored").wait_for()
    path = f"/radclear/verdicts?image={DICOM}&task=staging"
    assert [v["classes"] for v in served.request("GET", path).json()["verdicts"]] == [["III"]]


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
    end = time.monotonic() + START_S
    while served.request("GET", "/batch/infer").json()["status"] in ("SUBMITTED", "RUNNING"):
        assert time.monotonic() < end
        time.sleep(0.5)
    tab.goto(f"{served.url}/radclear/")
    state(tab, key, "answered").wait_for()
    assert row(tab, key).locator("td", has_text="–").count() == 2
    row(tab, key).locator("a").click()
    tab.locator(".frame img[src^=blob]").wait_for()
    assert "Tumor location, Staging: there is no answer" in tab.inner_text(".banners")
    assert tab.get_by_role("button", name="Ask for answers").is_visible()
