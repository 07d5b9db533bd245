"""Sessions of the stock Slicer module are uploads: the same limits, no second copy, no way to a file."""

from __future__ import annotations

import io
import json
from unittest.mock import MagicMock

import pytest
from app_server import needs_monailabel

pytestmark = needs_monailabel


@pytest.fixture(scope="module")
def volume(tmp_path_factory) -> bytes:
    from radclear.phantom import make_phantom, write_nifti

    path = tmp_path_factory.mktemp("volume") / "DOE_JANE.nii.gz"
    return write_nifti(make_phantom(7, n_slices=24, size=64), path).read_bytes()


def begin(server, content: bytes, name: str = "tmpabc.nii.gz"):
    return server.request(
        "PUT", "/session/", files={"files": (name, content)}, data={"client_id": "user-xyz"}
    )


def test_a_session_is_an_upload_and_the_same_volume_is_the_same_study(server, volume):
    first, again = begin(server, volume), begin(server, volume, name="DOE_JANE.nii.gz")
    assert first.status_code == 200, first.text
    key = first.json()["session_id"]
    assert again.json() == first.json() == server.request("GET", f"/session/{key}").json()
    uploads = [line for line in (server.data / "audit.jsonl").read_text().splitlines() if key in line]
    assert [json.loads(line)["event"] for line in uploads] == ["upload"]
    asked = server.infer("staging", "the name in Slicer", query={"session_id": key}).json()
    assert asked["result"]["study"]["study_key"] == key
    assert asked["prediction"] == server.infer("staging", key).json()["prediction"]


def test_a_volume_that_another_client_sent_meanwhile_is_the_same_study(volume, tmp_path):
    """The list of studies does not have it yet, the folder has."""
    from fastapi import Depends, UploadFile
    from lib.session_routes import session_router
    from lib.studies import StudyIndex
    from lib.uploads import UploadLimits

    limits = UploadLimits(largest_bytes=2**24, all_bytes=2**26, memory_cap_bytes=2**28)
    store = MagicMock(studies=StudyIndex(None, tmp_path / "uploads", limits=limits))
    store.list_images.return_value = []
    app, nobody = MagicMock(), Depends(lambda: None)
    app.datastore.return_value = store
    router = session_router(app, reader=nobody, annotator=nobody, who=str)
    put = next(route.endpoint for route in router.routes if route.path == "/session/")
    first, again = (put(UploadFile(io.BytesIO(volume), filename="x.nii.gz"), user=None) for _ in range(2))
    assert first == again
    assert len(list((tmp_path / "uploads").iterdir())) == app.audit.append.call_count == 1


@pytest.mark.parametrize(
    ("content", "name", "status", "reason"),
    [
        (b"nothing", "x.nii.gz", 422, "no study that can be read"),
        (b"nothing", "x.exe", 415, "are not taken"),
        (b"\0" * 5 * 2**20, "x.nii", 413, "larger than"),
    ],
)
def test_what_is_no_volume_is_refused_and_not_kept(server, content, name, status, reason):
    before = sorted((server.data / "uploads").iterdir())
    refused = begin(server, content, name)
    assert refused.status_code == status and reason in refused.json()["detail"]
    assert sorted((server.data / "uploads").iterdir()) == before


@pytest.mark.parametrize("way", ["../../etc/passwd", "/etc/passwd", "study-0000000000000000", "%2e%2e%2fapp"])
def test_a_session_leads_to_no_file(server, way):
    assert server.infer("staging", "x", query={"session_id": way}).status_code == 404
    assert server.request("GET", f"/session/{way.replace('/', '%2F')}").status_code == 404


def test_a_submitted_label_is_refused_with_what_to_do(server):
    sent = server.request("PUT", "/datastore/label?image=x", files={"label": ("a.nii.gz", b"x")})
    assert sent.status_code == 405 and "Give a verdict" in sent.json()["detail"]
