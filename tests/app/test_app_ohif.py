"""Stock OHIF in a real Chromium over a real Orthanc: study list, MONAI Label panel, overlay, deep link."""

from __future__ import annotations

import re

import pytest
from app_server import launch, needs_monailabel, wait_until_up
from browser import needs_chromium
from ohif_browser import ask_in_the_panel, keep, viewer_page
from orthanc_server import Orthanc, needs_orthanc
from orthanc_study import write_archive_study

pytestmark = [needs_monailabel, needs_orthanc, needs_chromium]


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
    """One page for all tests here."""
    with viewer_page(archive[0].url) as shown:
        yield shown


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
    listed = ask_in_the_panel(page, server.url, "tumor_location_overlay", picture="ohif-overlay")
    assert "staging_overlay" in listed
    models = page.locator(".monaiLabelPanel select", has_text="staging_overlay").first
    models.select_option("staging_overlay")
