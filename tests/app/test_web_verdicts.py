"""Verdicts on the results page in a real Chromium: given with keys, shown, and never lost silently."""

from __future__ import annotations

from app_server import needs_monailabel
from browser import accessibility_faults, needs_chromium
from web_server import DICOM, told

pytestmark = [needs_monailabel, needs_chromium]


def test_a_verdict_is_stored_with_its_reader_and_shown(web_server, answered):
    """Typed with keys only; what a reader wrote is text, never markup."""
    shown = told(web_server, DICOM)["tasks"][0]
    assert shown["kind"] == "multilabel"
    called = [c["label"] for c in shown["classes"] if c["probability"] >= c["operating_point"]]
    answered.get_by_text(f"Agreeing says: {', '.join(called) or 'none of the classes'}.").wait_for()
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
    (known,) = web_server.request("GET", f"/radclear/verdicts?image={DICOM}").json()["verdicts"]
    task = told(web_server, DICOM)["tasks"][0]
    assert known["verdict"] == "correct" and known["classes"] == [] and known["reader"] == "R. Reader"
    assert known["comment"] == comment and known["task"] == task["task"]
    assert known["weights_sha256"] == task["weights_sha256"]
    first = answered.locator(".earlier li").first
    first.wait_for()
    assert comment in first.inner_text() and "corrected: none of the classes" in first.inner_text()
    panel = answered.get_by_role("article", name=task["title"])
    assert "\nLast verdict: corrected, R. Reader" in panel.inner_text(), "not as if the answer were correct"
    assert not answered.locator(".earlier img").count()
    assert answered.get_by_label("Your name").input_value() == "R. Reader"
    answered.keyboard.press("a")
    answered.get_by_role("button", name="Store the verdict").click()
    answered.locator(".earlier li").nth(1).wait_for()
    assert "replaced by a later one" in answered.locator(".earlier li").nth(1).inner_text()
    assert "✓ Last verdict: agree, R. Reader" in panel.inner_text()
    assert accessibility_faults(answered) == []
    answered.get_by_role("link", name="Worklist").click()
    judged = answered.locator(f"tr[data-id={DICOM}] [data-state='partly judged']")
    judged.wait_for()
    assert "1 of 3 verdicts" in judged.inner_text(), "two verdicts on one of three questions"


def test_a_verdict_that_is_not_stored_is_said_and_kept_in_the_form(web_server, answered):
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
    assert [v["classes"] for v in web_server.request("GET", path).json()["verdicts"]] == [["III"]]
    answered.get_by_role("link", name="Worklist").click()
    cell = answered.locator(f"tr[data-id={DICOM}] td[data-label=Staging]")
    cell.locator(".tag:not(.good)", has_text="corrected").wait_for()
    assert "✓" not in cell.inner_text()
