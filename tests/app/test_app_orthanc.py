"""The server over a real Orthanc: series within a study, images for viewers, an archive that is killed."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from app_server import START_S, TRACES, launch, needs_monailabel, wait_until_up
from lib.audit import verify_audit
from orthanc_server import Orthanc, needs_orthanc
from orthanc_study import write_archive_study

from radclear.ct import read_study, study_key

pytestmark = [needs_monailabel, needs_orthanc]
REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory):
    running = Orthanc(tmp_path_factory.mktemp("orthanc")).start()
    yield running
    running.kill()


@pytest.fixture(scope="module")
def study(orthanc, tmp_path_factory):
    """In the archive before the server starts."""
    written = write_archive_study(tmp_path_factory.mktemp("study"))
    orthanc.store(written.all_files)
    return written


@pytest.fixture(scope="module")
def served(orthanc, study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    server = wait_until_up(launch(folder, orthanc.url, environment=orthanc.environment))
    yield server
    server.stop()


def listed(server, study: str):
    return server.request("GET", "/datastore/series", params={"study": study})


def result(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


def test_a_study_shows_its_series_and_which_one_would_be_read_and_why(served, study, tmp_path):
    for number, file in enumerate(study.all_files):
        (tmp_path / f"{number}.dcm").write_bytes(file.read_bytes())
    read = read_study(tmp_path)  # the same files as a folder
    answer = listed(served, study.uid)
    told = answer.json()
    assert told["chosen"] == study_key(study.series["long"]) == study_key(read.series.series_uid)
    assert told["reason"] == read.series.reason and "of 2 usable series" in told["reason"]
    by_id = {one["id"]: one for one in told["series"]}
    long, short, coronal = (by_id[study_key(study.series[name])] for name in ("long", "short", "coronal"))
    assert (long["chosen"], long["n_slices"], long["plane"], long["problem"]) == (True, 24, "axial", "")
    assert (short["chosen"], short["n_slices"], short["problem"]) == (False, 10, "")
    assert (coronal["n_images"], coronal["n_slices"]) == (3, 0) and "coronal" in coronal["problem"]
    assert not [trace for trace in (*TRACES, study.uid) if trace in answer.text]
    assert listed(served, study_key(study.uid)).json() == told
    assert listed(served, "1.2.3").status_code == 404


def test_a_named_study_is_answered_from_the_chosen_series_or_from_another(served, study):
    by_series = {
        name: result(served.infer("staging", uid)) for name, uid in study.series.items() if name != "coronal"
    }
    by_study = result(served.infer("staging", study.uid))["study"]
    assert by_study["series_hash"] == by_series["long"]["study"]["series_hash"]
    assert by_study["series_choice"] == listed(served, study.uid).json()["reason"]
    assert by_study["n_candidate_series"] == 2
    params = json.dumps({"series": study.series["short"]})
    other = result(served.infer("staging", study.uid, params=params))["study"]
    assert other["series_hash"] == by_series["short"]["study"]["series_hash"]
    assert other["series_hash"] != by_study["series_hash"] and "asked for" in other["series_choice"]
    rows = {row["id"]: row for row in served.request("GET", "/radclear/worklist").json()["studies"]}
    for name, answer in by_series.items():
        (shown,) = rows[study_key(study.series[name])]["answers"]
        assert shown["series_hash"] == answer["study"]["series_hash"], "each series has its own"
    foreign = served.infer("staging", study.uid, params=json.dumps({"series": "1.2.3"}))
    assert foreign.status_code == 422 and "2" not in foreign.json()["detail"].split("series")[0]
    refused = served.infer("staging", study.series["coronal"])
    assert refused.status_code == 422 and "coronal" in refused.json()["detail"]


def test_a_verdict_on_a_named_study_goes_with_the_series_that_was_answered(served, study):
    """The question is one that no other test asks about this study."""
    model = served.request("GET", "/info/").json()["models"]["lung_disease"]

    def give(image, **said):
        body = {"image": image, "task": "lung_disease", "verdict": "agree", "reader": "Ada", **said}
        body |= {"weights_sha256": model["weights_sha256"]}
        body |= {"backbone_sha256": model["backbone_weights_sha256"]}
        return served.request("POST", "/radclear/verdicts", json=body)

    def stored(answer):
        assert answer.status_code == 201, answer.text
        return answer.json()["image"], answer.json()["series_hash"]

    def refused(answer, words):
        return answer.status_code == 409 and words in answer.json()["detail"]

    ids = {name: study_key(uid) for name, uid in study.series.items()}
    for said in ({}, {"verdict": "disagree"}, {"verdict": "correct", "classes": []}):
        assert refused(give(study.uid, **said), "has 3 CT series")
    params = json.dumps({"series": study.series["short"]})  # not the one that the server would choose
    short = result(served.infer("lung_disease", study.uid, params=params))["study"]["series_hash"]
    for image in (study.uid, study_key(study.uid), study.series["short"]):
        assert stored(give(image)) == (ids["short"], short)
    long = result(served.infer("lung_disease", study.uid))["study"]["series_hash"]
    assert long != short and refused(give(study.uid), "knows 2 answers")
    assert stored(give(study.uid, series_hash=short)) == (ids["short"], short)
    assert stored(give(study.uid, series_hash=long)) == (ids["long"], long)
    assert stored(give(study.series["long"])) == (ids["long"], long)
    assert refused(give(study.series["long"], series_hash=short), "knows no answer")
    assert refused(give(study.uid, series_hash="0" * 64), "knows no answer")
    given = {
        name: served.request("GET", "/radclear/verdicts", params={"image": image}).json()["verdicts"]
        for name, image in (("study", study.uid), ("short", ids["short"]), ("long", ids["long"]))
    }
    assert len(given["short"]) == 4 and len(given["long"]) == 2
    assert given["study"] == sorted(given["short"] + given["long"], key=lambda verdict: verdict["stored"])


def test_images_reach_a_viewer_as_the_archive_has_them(served, orthanc, study):
    place = f"/studies/{study.uid}/series/{study.series['long']}"
    instance = f"{place}/instances/{study.sops[3]}"
    assert len(served.request("GET", f"/dicom-web{place}/metadata").json()) == 24
    for path in (f"{instance}/frames/1", f"{instance}/metadata"):
        mine = served.request("GET", f"/dicom-web{path}")
        theirs = orthanc.request("GET", f"/dicom-web{path}")
        assert mine.status_code == 200 and len(mine.content) > 1000
        assert _without_boundary(mine) == _without_boundary(theirs)
    found = served.request("GET", "/dicom-web/studies?PatientName=PHANTOM*")
    assert found.status_code == 200 and len(found.json()) == 1
    assert served.request("GET", "/dicom-web/studies", params={"PatientName": "DOE"}).json() == []
    assert "PHANTOM" not in served.printed and "PatientName" not in served.printed
    assert "PHANTOM" not in served.app_log.read_text()


def _without_boundary(answer) -> bytes:
    boundary = answer.headers["content-type"].partition("boundary=")[2].encode()
    return answer.content.replace(boundary, b"") if boundary else answer.content


@pytest.mark.parametrize(
    "path",
    [
        "/dicom-web/../system",
        "/dicom-web/%2e%2e/system",
        "/dicom-web/studies/%2e%2e/%2e%2e/system",
        "/dicom-web/studies/..%2f..%2fsystem",
        "/dicom-web/system",
        "/dicom-web/servers",
        "/dicom-web/studies/1.2/../../../instances",
        "/dicom-web//studies",
        "/dicom-web/studies/1.2%0a",
        "/dicom-web/studies?PatientName=a%0d%0aX:%20y",
        "/dicom-web/studies?" + "&".join(["limit=1"] * 40),
    ],
)
def test_nothing_else_of_the_archive_is_reached(served, path):
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)  # sends the path as it is
    connection.request("GET", path)
    answer = connection.getresponse()
    text = answer.read().decode()
    assert answer.status in (400, 404) and "Orthanc" not in text and "DicomAet" not in text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_is_written_to_the_archive(served, study, orthanc, method):
    count = orthanc.request("GET", "/statistics").json()["CountInstances"]
    path = "/dicom-web/studies" if method == "POST" else f"/dicom-web/studies/{study.uid}"
    assert served.request(method, path, data=b"x").status_code == 405
    assert orthanc.request("GET", "/statistics").json()["CountInstances"] == count


def test_an_archive_that_is_killed_and_comes_back_under_requests(served, orthanc, study):
    """Sentences instead of answers while it is away; the server is not started again, and nothing is lost."""
    frame = f"/dicom-web/studies/{study.uid}/series/{study.series['long']}/instances/{study.sops[0]}/frames/1"
    known = result(served.infer("staging", study.series["long"]))["tasks"]
    late = write_archive_study(orthanc.folder / "late", seed=12)
    orthanc.store(late.all_files)
    _wait(lambda: listed(served, late.uid).status_code == 200)  # found, not yet fetched
    seen, away, over = [], threading.Event(), threading.Event()

    def ask(n: int) -> None:
        while not over.is_set():
            if n % 3 == 2:
                answer = served.infer("staging", late.series["long"], timeout=300)
            else:
                answer = served.request("GET", frame if n % 3 else "/dicom-web/studies")
            seen.append((away.is_set(), answer.status_code, answer.text if answer.status_code >= 400 else ""))
            time.sleep(0.05)

    orthanc.kill()
    away.set()
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(ask, n) for n in range(6)]
        try:
            _wait(lambda: len(seen) >= 20)
            start = time.monotonic()
            assert served.request("GET", "/info/").status_code == 200
            assert result(served.infer("staging", study.series["long"]))["tasks"] == known  # fetched before
            lasted = time.monotonic() - start
            while_away = list(seen)
            orthanc.start()
            away.clear()
            _wait(lambda: sum(status == 200 for _, status, _ in seen) >= 20)
        finally:
            over.set()
        for job in asked:
            job.result()
    assert {status for _, status, _ in while_away} == {503}, (while_away[:3], lasted)
    details = {json.loads(text)["detail"] for _, _, text in while_away}
    assert all("archive" in detail and ("again" in detail) for detail in details)
    assert not [trace for trace in (*TRACES, study.uid, str(orthanc.port)) if trace in str(details)]
    assert {status for _, status, _ in seen} <= {200, 503, 429}
    assert result(served.infer("staging", late.uid))["study"]["n_candidate_series"] == 2
    assert verify_audit(served.data / "audit.jsonl")[1] == []
    assert not [folder for folder in (served.data / "series").iterdir() if folder.name.startswith(".")]


def test_an_archive_killed_while_it_sends_a_series_leaves_no_half_of_it(served, orthanc, tmp_path):
    written = write_archive_study(tmp_path, seed=13, n_slices=48, size=128)
    orthanc.store(written.files["long"])
    _wait(lambda: listed(served, written.uid).status_code == 200)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(served.infer, "staging", written.series["long"], timeout=300)
        _wait(lambda: any(f.name.startswith(".") for f in (served.data / "series").iterdir()) or asked.done())
        orthanc.kill()
        first = asked.result()
    orthanc.start()
    assert first.status_code in (200, 503)
    again = result(served.infer("staging", written.series["long"], timeout=300))
    assert again["study"]["series_hash"] == read_study(tmp_path / "long").series_hash


def _wait(condition) -> None:
    end = time.monotonic() + START_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real series (../shared/data) are not here")
def test_a_real_series_is_answered_and_sagittal_slices_are_refused(served, orthanc):
    axial = sorted((REAL / "lung_pet_ct_dx").rglob("*.dcm"))
    sagittal = sorted((REAL / "midrc_ricord_1a" / "dicom").glob("*000906/**/*.dcm"))
    orthanc.store([*axial, *sagittal])
    from pydicom import dcmread

    series = [dcmread(files[0], stop_before_pixels=True).SeriesInstanceUID for files in (axial, sagittal)]
    about = {"params": {"image": series[0]}}
    _wait(lambda: served.request("GET", "/datastore/image/info", **about).status_code == 200)
    answers = [result(served.infer(task, series[0], timeout=300)) for task in ("staging", "lung_disease")]
    assert answers[0]["geometry"]["n_slices"] == len(axial) == 64
    assert len({answer["study"]["series_hash"] for answer in answers}) == 1
    refused = served.infer("staging", series[1])
    assert refused.status_code == 422 and "sagittal" in refused.json()["detail"]
