"""A server whose memory does not suffice: fewer slices at once, which the answer says, or a clear refusal."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from app_server import ROOT, launch, needs_monailabel, wait_until_up, write_long_study

from radclear.bundle import StudyAnswers, load_head
from radclear.ct import find_studies, study_key

pytestmark = [
    needs_monailabel,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does"),
]
BATCH = 96
STUDY = "a.nii"


@pytest.fixture
def server(tmp_path):
    (tmp_path / "studies").mkdir()
    write_long_study(tmp_path / "studies" / STUDY, n_slices=BATCH)
    conf = ("batch_size", str(BATCH), "precision", "float32", "tasks", "staging", "rescan", "3600")
    server = wait_until_up(launch(tmp_path, tmp_path / "studies", *conf))
    server.request("GET", "/info/")  # threads that requests need are there
    yield server
    server.stop()


def allow(server, more_mib: int) -> None:
    """Let the server's process take so much more memory than it has."""
    import resource

    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more_mib * 2**20
    resource.prlimit(server.process.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def test_fewer_slices_at_once_give_the_same_answer_which_says_so(server):
    allow(server, 200)
    answer = server.infer("staging", study_key(STUDY), query={"output": "json"})
    assert answer.status_code == 200, answer.text
    (note,) = answer.json()["notes"]
    assert note.startswith(f"the memory of cpu did not hold {BATCH} slices at once; they were embedded ")
    (source,) = find_studies(server.studies / STUDY)
    head = load_head(ROOT / "bundles" / "staging_classification")
    expected, _ = StudyAnswers(precision="float32").answer(source, head)
    found = [line["score"] for line in answer.json()["prediction"]]
    assert found == pytest.approx(list(expected.answers[0].probabilities), abs=1e-4)
    kept = server.request("GET", f"/radclear/study/{study_key(STUDY)}").json()
    assert kept["tasks"][0]["notes"] == [note]


def test_where_not_one_slice_fits_the_answer_is_a_refusal_and_the_server_goes_on(server):
    allow(server, 0)
    answer = server.infer("staging", study_key(STUDY), query={"output": "json"})
    assert answer.status_code == 503 and "Retry-After" in answer.headers, answer.text
    assert "does not fit the memory of cpu; free memory on it" in answer.json()["detail"]
    assert server.request("GET", "/info/").status_code == 200
