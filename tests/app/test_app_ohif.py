"""Stock OHIF in a real Chromium over a real Orthanc: study list, MONAI Label panel, overlay, deep link.

`RADCLEAR_PICTURES=FOLDER` keeps what the browser showed, for the documentation.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from app_server import launch, needs_monailabel, wait_until_up
from browser import chromium, needs_chromium
from orthanc_server import Orthanc, needs_orthanc
from orthanc_study import write_archive_study

pytestmark = [needs_monailabel, needs_orthanc, needs_chromium]
ENTRY = "tumor_location_overlay"
SLOW_MS = 240_000  # three views drawn by the processor, beside other tests
#: WebGL without a graphics card; and nothing that asks Chromium's maker.
FLAGS = (
    "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist", "--disable-quic", "--no-first-run", "--no-proxy-server",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Orthanc with one study, and a server over it: (server, study)."""
    folder = tmp_path_factory.mktemp("ohif")
    orthanc = Orthanc(folder).start()
    study = write_archive_study(folder / "study", n_slices=24, size=128)
    orthanc.store(study.files["long"])
    server = wait_until_up(launch(folder, orthanc.url, environment=orthanc.environment))
    yield server, study
    server.stop()
    orthanc.kill()


@pytest.fixture(scope="module")
def page(archive):
    """One page for all tests here; what it asked of other servers did not leave the browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        shown = browser.new_page(viewport={"width": 1280, "height": 720}, locale="en-GB")
        shown.set_default_timeout(SLOW_MS)
        trouble, left = [], []
        shown.on("pageerror", lambda error: trouble.append(str(error)))
        shown.on(
            "response",
            lambda r: None if r.url.startswith((archive[0].url, "blob:", "data:")) else left.append(r.url),
        )
        yield shown
        browser.close()
        assert not trouble and not left


def keep(page, name: str) -> bytes:
    picture = page.screenshot(timeout=SLOW_MS)
    if folder := os.environ.get("RADCLEAR_PICTURES"):
        (Path(folder) / f"{name}.png").write_bytes(picture)
    return picture


def pixels(page, element) -> np.ndarray:
    """What a part of the page shows: (y, x, 3)."""
    import io

    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(element.screenshot(timeout=SLOW_MS))).convert("RGB")).astype(int)


def test_the_study_list_comes_from_the_archive(archive, page):
    page.goto(f"{archive[0].url}/ohif/")
    page.get_by_text("Confirm and Hide").click()
    page.get_by_text("PHANTOM-0011").first.wait_for()
    keep(page, "ohif-studies")


def test_a_deep_link_opens_at_its_slice(archive, page):
    server, study = archive
    for z in (17, 5):  # InstanceNumber runs from the head: 24 slices
        page.goto(
            f"{server.url}/ohif/viewer?StudyInstanceUIDs={study.uid}"
            f"&initialSeriesInstanceUID={study.series['long']}&initialSOPInstanceUID={study.sops[z]}"
        )
        page.get_by_text(re.compile(rf"{24 - z}/24")).wait_for()
    keep(page, "ohif-slice")


def test_the_panel_finds_its_server_and_shows_the_overlay(archive, page):
    server, study = archive
    page.goto(f"{server.url}/ohif/monai-label?StudyInstanceUIDs={study.uid}")
    panel = page.locator(".monaiLabelPanel")
    panel.wait_for()
    assert page.input_value("#monailabelServerURL") == f"{server.url}/"
    with page.expect_response(lambda answer: answer.url == f"{server.url}/info/") as told:
        panel.locator("button").first.click()
    assert told.value.status == 200
    models = panel.locator("select", has_text=ENTRY).first
    assert "staging_overlay" in models.inner_text()
    models.select_option(ENTRY)
    views = page.locator("canvas")
    views.nth(2).wait_for()
    page.wait_for_timeout(4000)  # the volume is drawn as it comes
    before = [pixels(page, views.nth(n)) for n in range(3)]
    with page.expect_response(lambda answer: f"/infer/{ENTRY}" in answer.url) as asked:
        panel.locator("button", has_text="Run").first.click()
    assert asked.value.status == 200
    page.get_by_text("Running Segmentation - Successful").wait_for()
    for _ in range(40):
        changed = [_changed(one, pixels(page, views.nth(n))) for n, one in enumerate(before)]
        if all(changed):
            break
        page.wait_for_timeout(500)
    keep(page, "ohif-overlay")
    assert all(changed), changed
    panel.locator("select", has_text="staging_overlay").first.select_option("staging_overlay")


def _changed(one: np.ndarray, other: np.ndarray) -> int:
    return int((np.abs(one - other).max(axis=2) > 60).sum())
