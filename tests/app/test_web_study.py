"""One study on the results page in a real Chromium: answers in words, slices, pictures, keys."""

from __future__ import annotations

import pytest
from app_server import needs_monailabel
from browser import accessibility_faults, needs_chromium
from web_server import DICOM, told

from radclear.ct import ABDOMEN, LUNG, read_study
from radclear.results.png import encode_png
from radclear.results.thumbnails import slice_pictures

pytestmark = [needs_monailabel, needs_chromium]


def test_three_panels_say_what_the_server_says(web_server, answered):
    known = told(web_server, DICOM)
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


def test_slices_are_chosen_by_keys_slider_curve_and_thumbnail(web_server, answered):
    task = told(web_server, DICOM)["tasks"][0]
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


def test_pictures_are_the_slices_right_at_the_left(web_server, answered):
    study = read_study(web_server.studies / "DOE^JANE_0")
    number = told(web_server, DICOM)["tasks"][0]["key_slices"][0]["number"]
    for window, size in ((ABDOMEN, 768), (LUNG, 192)):
        path = f"/radclear/study/{DICOM}/slice/{number}?window={window.name}&size={size}"
        (picture,) = slice_pictures(study, number - 1, [window], size=size)
        assert web_server.request("GET", path).content == encode_png(picture.grey)
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
def test_what_a_study_does_not_have_is_refused(web_server, path, status):
    answer = web_server.request("GET", f"/radclear/study/{DICOM}/{path}")
    assert answer.status_code == status and answer.json()["detail"]


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


def test_while_the_next_study_loads_keys_leave_the_one_before_alone(web_server, answered):
    answered.keyboard.press("Escape")
    answered.locator(f"tr[data-id={DICOM}] a:focus").wait_for()
    keys = [row.get_attribute("data-id") for row in answered.locator("tr[data-id]").all()]
    place = keys.index(DICOM)
    there, back, other = ("n", "p", keys[place + 1]) if place + 1 < len(keys) else ("p", "n", keys[place - 1])
    answered.keyboard.press("Enter")
    answered.locator(".cursor-dot.chosen").wait_for()
    held = []
    answered.route(f"**/radclear/study/{other}", lambda route: held.append(route))
    with answered.expect_request(f"**/radclear/study/{other}"):
        answered.keyboard.press(there)
    for key in "2aw":
        answered.keyboard.press(key)
    assert answered.url.endswith(f"#/study/{other}")
    assert not answered.locator("input[name=verdict][value=agree]").is_checked()
    assert not answered.locator("input[name=window][value=lung]").is_checked()
    held.pop().continue_()
    answered.get_by_role("heading", name=other, level=1).wait_for()
    answered.keyboard.press(back)
    answered.get_by_role("heading", name=DICOM, level=1).wait_for()
    with answered.expect_request(f"**/radclear/study/{other}"):
        answered.keyboard.press(there)
    answered.keyboard.press("Escape")  # the reader does not wait for it
    answered.get_by_role("heading", name="Worklist").wait_for()
    with answered.expect_response(f"**/radclear/study/{other}"):
        held.pop().continue_()
    answered.evaluate("new Promise((resolve) => setTimeout(resolve, 300))")
    assert answered.get_by_role("heading", name="Worklist").is_visible()


@pytest.mark.parametrize("width", [1440, 1024, 512])  # 512: 1024 at 200 %
def test_views_are_accessible_and_need_no_sideways_scrolling(web_server, answered, width):
    answered.set_viewport_size({"width": width, "height": 700})
    for address in (f"#/study/{DICOM}/staging", "#/"):
        answered.goto(f"{web_server.url}/radclear/{address}")
        answered.locator(
            ".thumbnail img[src] >> nth=0" if "study" in address else "tr[data-id] >> nth=0"
        ).wait_for()
        assert accessibility_faults(answered) == []
        sizes = answered.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert sizes[0] <= sizes[1]
