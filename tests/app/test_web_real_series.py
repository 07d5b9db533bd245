"""A real chest CT from a real Orthanc on the results page and in stock OHIF, in a real Chromium.

What the page shows is held against the DICOM files themselves, decoded by pydicom.
"""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from app_server import launch, needs_monailabel, wait_until_up
from browser import SLOW_MS, needs_chromium
from ohif_browser import viewer_page
from orthanc_server import Orthanc, needs_orthanc

from radclear.ct import ABDOMEN, LUNG, Window, read_study
from radclear.results.wording import format_score, score_digits, task_title, verdict

pytestmark = [needs_monailabel, needs_orthanc, needs_chromium]
COLLECTION = "lung_pet_ct_dx"
IDENTIFYING = ("patient_id", "study_uid", "series_uid", "sop_uid", "study_date_shifted")
SIDE = 64  # pixels of the pictures that are compared
#: An image of the page as grey values, and its own width and height.
SHOWN = """(image) => {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = SIDE;
  const context = canvas.getContext('2d');
  context.imageSmoothingQuality = 'high';
  context.drawImage(image, 0, 0, SIDE, SIDE);
  const pixels = context.getImageData(0, 0, SIDE, SIDE).data;
  return [image.naturalWidth, image.naturalHeight, Array.from(pixels).filter((_, n) => n % 4 === 0)];
}""".replace("SIDE", str(SIDE))


class RealSeries:
    """The files of the series, as pydicom reads them, from the feet to the head."""

    def __init__(self, folder: Path) -> None:
        from pydicom import dcmread

        self.folder = folder
        self._grey: dict[Window, np.ndarray] = {}
        self.files = sorted(folder.rglob("*.dcm"))
        slices = [dcmread(file) for file in self.files]
        assert {tuple(map(float, one.ImageOrientationPatient)) for one in slices} == {(1, 0, 0, 0, 1, 0)}
        slices.sort(key=lambda one: float(one.ImagePositionPatient[2]))
        self.z_mm = [float(one.ImagePositionPatient[2]) for one in slices]
        self.sops = [one.SOPInstanceUID for one in slices]
        self.places = np.argsort(np.argsort([int(one.InstanceNumber) for one in slices])) + 1
        level, width = (float(slices[0][name].value[0]) for name in ("WindowCenter", "WindowWidth"))
        self.window = Window("own", level, width)  # in which viewers open it
        self.hu = np.stack(
            [one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept) for one in slices]
        ).astype(np.float32)

    def grey(self, window: Window) -> np.ndarray:
        """All slices in a window, 0 to 1, made small: (slice, y, x), the patient's right at the left."""
        if window not in self._grey:
            block = self.hu.shape[1] // SIDE
            grey = np.clip((self.hu - window.level_hu) / window.width_hu + 0.5, 0, 1)
            self._grey[window] = grey.reshape(-1, SIDE, block, SIDE, block).mean(axis=(2, 4))
        return self._grey[window]


@pytest.fixture(scope="module")
def series(shared_data):
    return RealSeries(shared_data / COLLECTION / "dicom")


@pytest.fixture(scope="module")
def served(series, tmp_path_factory):
    """A server over an Orthanc that holds the series."""
    folder = tmp_path_factory.mktemp("real")
    orthanc = Orthanc(folder).start()
    orthanc.store(series.files)
    server = wait_until_up(launch(folder, orthanc.url, environment=orthanc.environment))
    yield server
    server.stop()
    orthanc.kill()


@pytest.fixture(scope="module")
def page(served):
    with viewer_page(served.url) as shown:
        shown.set_viewport_size({"width": 1440, "height": 1000})
        yield shown


def assert_shows(image, series: RealSeries, number: int, window: Window) -> None:
    """The picture has come, and is slice `number` from the feet."""
    width, height, pixels = image.evaluate(SHOWN)
    assert width > 0 and height > 0
    assert which_slice(np.array(pixels, float).reshape(SIDE, SIDE), series, window) == number


def which_slice(shown: np.ndarray, series: RealSeries, window: Window) -> int:
    """Number of the slice that a picture shows, from 1 at the feet; 0: none of them, or a mirrored one."""
    if shown.std() < 10:
        return 0
    grey = series.grey(window)
    alike = [correlation(shown, one) for one in grey]
    best = int(np.argmax(alike))
    return best + 1 if alike[best] > 0.95 > correlation(shown[:, ::-1], grey[best]) else 0


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def assert_pictures(page, series: RealSeries, window: Window) -> None:
    """The chosen slice, all thumbnails and the curve of the answer that the page shows now."""
    count = len(series.z_mm)
    page.locator(f".frame:not(.loading) img[src^=blob][alt*='{window.name} window']").wait_for()
    page.wait_for_function("[...document.querySelectorAll('.thumbnail img')].every((i) => i.naturalWidth)")
    number, of, z_mm = re.search(
        r"Slice (\d+) of (\d+), z ([−\d.]+) mm", page.locator(".caption").inner_text()
    ).groups()
    assert (int(of), float(z_mm.replace("−", "-"))) == (count, series.z_mm[int(number) - 1])
    assert_shows(page.locator(".frame img"), series, int(number), window)
    thumbnails = page.locator(".thumbnail").all()
    numbers = [int(re.search(r"slice (\d+)", one.inner_text())[1]) for one in thumbnails]
    assert numbers[0] == int(number) and len(set(numbers)) == len(numbers)
    for one, shown in zip(numbers, thumbnails, strict=True):
        assert_shows(shown.locator("img"), series, one, window)
    page.locator(".cursor-dot.chosen").wait_for()
    points = page.locator("svg.attention polyline.curve").get_attribute("points").split()
    attention = [float(point.split(",")[0]) for point in points]
    assert len(points) == count and int(np.argmax(attention)) + 1 == int(number)


def test_a_real_series_is_asked_read_and_judged_with_keys(served, series, page):
    page.goto(f"{served.url}/radclear/")
    row = page.locator("tr[data-id]")
    row.locator("[data-state='not asked']").wait_for()
    page.keyboard.press("j")
    page.keyboard.press("q")
    row.locator("[data-state=answered]").wait_for()
    page.keyboard.press("Enter")
    page.locator("article.answer .verdict").nth(2).wait_for()
    answers = audit(served, "answer")
    assert set(answers) == {"tumor_location", "lung_disease", "staging"}
    assert {line["series_hash"] for line in answers.values()} == {read_study(series.folder).series_hash}
    for task, line in answers.items():
        panel = page.get_by_role("article", name=task_title(task))
        (entry,) = served.infer(task, line["study"]).json()["result"]["tasks"]
        numbers = sorted(cell.inner_text() for cell in panel.locator("td.number").all())
        assert numbers == sorted(format_score(p, score_digits(entry)) for p in line["answer"].values())
        assert panel.locator(".verdict").inner_text() == verdict(entry)
    assert "64 axial slices of 512 × 512 pixels · 0.84 × 0.84 × 5.00 mm" in page.inner_text("main")
    banners = page.inner_text(".banners")
    assert "Demonstration weights" in banners and "All tasks: the images look unlike those" in banners
    assert page.locator(".banner.input p").count() == 1, "nothing else is odd about the images"
    for key, window in (("1", ABDOMEN), ("2", LUNG)):
        page.keyboard.press(key)
        assert_pictures(page, series, window)
    page.keyboard.press("a")
    page.get_by_label("Your name").fill("R. Reader")
    page.keyboard.press("Enter")
    page.locator(".stored", has_text="✓ Stored").wait_for()
    page.keyboard.press("Escape")  # leaves the field
    page.keyboard.press("Escape")  # leaves the study
    row.locator("[data-state='partly judged']").wait_for()
    assert "1 of 3 verdicts" in row.inner_text()
    assert "✓ agree" in row.locator("td[data-label='Lung disease']").inner_text()
    judged = answers["lung_disease"]
    told = served.request("GET", "/radclear/verdicts", params={"image": judged["study"]}).json()
    (stored,) = told["verdicts"]
    assert (stored["task"], stored["verdict"], stored["reader"]) == ("lung_disease", "agree", "R. Reader")
    assert all(stored[name] == judged[name] for name in ("series_hash", "weights_sha256", "answer"))
    assert set(audit(served, "verdict")) == {"lung_disease"}


def audit(served, event: str) -> dict[str, dict]:
    """Entry or task → the last line of an event."""
    lines = map(json.loads, (served.data / "audit.jsonl").read_text().splitlines())
    return {line.get("entry") or line["task"]: line for line in lines if line["event"] == event}


def test_ohif_opens_at_the_slice_that_was_chosen(served, series, page):
    """The series is answered now. A slice in the lungs; OHIF counts in the order of InstanceNumber."""
    study, number = audit(served, "answer")["staging"]["study"], 30
    page.goto(f"{served.url}/radclear/#/study/{study}")
    page.get_by_role("slider", name="Slice").fill(str(number))
    with page.context.expect_page() as opened:
        page.keyboard.press("o")
    viewer = opened.value
    viewer.set_default_timeout(SLOW_MS)
    viewer.get_by_text("Confirm and Hide").click()
    place = f"{series.places[number - 1]}/{len(series.z_mm)}"
    viewer.get_by_text(re.compile(rf"\b{place}\b")).wait_for()
    assert f"initialSOPInstanceUID={series.sops[number - 1]}" in viewer.url
    canvas = viewer.locator("canvas").first
    for _ in range(40):  # it is drawn as it comes
        seen = which_slice(in_ohif(canvas), series, series.window)
        if seen == number:
            break
        viewer.wait_for_timeout(500)
    assert seen == number
    viewer.close()


def in_ohif(canvas) -> np.ndarray:
    """What OHIF's view shows, as small as the pictures that are compared; it leaves a margin of a tenth."""
    from PIL import Image

    shown = Image.open(io.BytesIO(canvas.screenshot(timeout=SLOW_MS))).convert("L")
    side = round(shown.height / 1.1)
    left, top = (shown.width - side) // 2, (shown.height - side) // 2
    square = shown.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BOX), float)


def test_nobody_is_named(served, shared_data, page):
    """The last here: neither page, answers and lists nor log and audit hold what tells whose series it is."""
    with open(shared_data / COLLECTION / "manifest.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    secrets = {row[column] for row in rows for column in IDENTIFYING} - {""}
    assert len(secrets) > len(rows)
    page.goto(f"{served.url}/radclear/")
    page.locator("tr[data-id]").wait_for()
    texts = [page.content(), served.printed, served.app_log.read_text()]
    texts += [(served.data / "audit.jsonl").read_text()]
    study = audit(served, "answer")["staging"]["study"]
    paths = ("/radclear/worklist", f"/radclear/study/{study}", "/datastore/?output=all")
    texts += [served.infer("staging", study).text, *(served.request("GET", path).text for path in paths)]
    assert not [secret for secret in secrets for text in texts if secret in text]
