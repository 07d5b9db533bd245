"""The audit comes first: where it takes nothing nothing is done; kill -9 leaves no deed without a line."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from contextlib import contextmanager

import pytest
from app_server import (
    ROOT,
    START_S,
    held_audit,
    launch,
    needs_monailabel,
    until,
    wait_until_up,
    write_long_study,
)
from lib.audit import verify_audit

from radclear.ct import study_key

requests = pytest.importorskip("requests", reason="requests is not installed (MONAI Label brings it)")

pytestmark = needs_monailabel
DICOM, NIFTI = study_key("DOE^JANE_0"), study_key("ROE_RICHARD.nii.gz")
BROKEN = study_key("DOE^BROKEN")
VERSION = "20260101T000000000Z"
TASK = "staging"


@pytest.fixture(scope="module")
def served(tmp_path_factory, small_studies):
    """A server with a second version of a head that could be published."""
    folder = tmp_path_factory.mktemp("audited")
    shutil.copytree(small_studies, folder / "studies")
    models = folder / "data" / "models" / TASK
    shutil.copytree(ROOT / "bundles" / "staging_classification", models / VERSION)
    (models / "lecl_gated_cnn").symlink_to(ROOT / "bundles" / "lecl_gated_cnn")
    server = wait_until_up(launch(folder, folder / "studies", "tasks", TASK))
    server.folder = folder
    yield server
    server.stop()


def body(server):
    shown = server.request("GET", "/info/").json()["models"][TASK]
    hashes = {"weights_sha256": shown["weights_sha256"], "backbone_sha256": shown["backbone_weights_sha256"]}
    return {"image": NIFTI, "task": TASK, "verdict": "correct", "classes": ["II"], "reader": "Ada", **hashes}


def kept(server):
    """What a deed would change: files of answers, verdicts, versions, uploads; the head that answers."""
    roots = (server.data / name for name in ("labels", "verdicts", "models", "uploads", "trainings"))
    files = {str(f) for root in roots for f in root.rglob("*") if f.is_file()}
    files = {name for name in files if not name.endswith(".failed.json")}
    return files, server.request("GET", "/info/").json()["models"][TASK]["head_version"]


def shown(server, key):
    rows = server.request("GET", "/radclear/worklist").json()["studies"]
    return next(row for row in rows if row["id"] == key)


def ask_and_wait(server, key):
    assert server.request("POST", f"/radclear/study/{key}/ask").status_code == 202
    until(lambda: shown(server, key)["state"] not in ("waiting", "running"))
    return shown(server, key)


FULL, NO_FILE = "No space left on device", "Is a directory"


@contextmanager
def unwritable_audit(server, why):
    """An audit that cannot be written, also not by root: on a full disk, or no file."""
    path = server.data / "audit.jsonl"
    away = path.rename(path.with_suffix(".away"))
    if why == FULL:
        path.symlink_to("/dev/full")
    else:
        path.mkdir()
    try:
        yield
    finally:
        path.unlink() if path.is_symlink() else path.rmdir()
        away.rename(path)


@pytest.mark.parametrize("why", [FULL, NO_FILE])
def test_without_an_audit_nothing_is_done(served, why, tmp_path):
    before = kept(served)
    scan = write_long_study(tmp_path / "x.nii", n_slices=8)
    with unwritable_audit(served, why), open(scan, "rb") as stream:
        upload = served.request("PUT", "/datastore/image?image=new", files={"file": ("x.nii", stream)})
        refused = [
            served.infer(TASK, NIFTI),
            served.infer(f"{TASK}_overlay", NIFTI),
            served.request("POST", "/radclear/verdicts", json=body(served)),
            served.request("POST", f"/radclear/models/{TASK}/{VERSION}"),
            served.request("POST", f"/batch/infer/{TASK}"),
            upload,
        ]
        row = ask_and_wait(served, NIFTI)
    for reply in refused:
        assert reply.status_code == 503 and f"cannot be written ({why})" in reply.json()["detail"]
        assert "prediction" not in reply.text
    assert row["state"] == "failed" and why in row["reason"] and row["answers"] == []
    assert kept(served) == before


def test_with_the_audit_back_everything_is_done(served):
    assert ask_and_wait(served, DICOM)["state"] == "answered"
    assert served.request("POST", "/radclear/verdicts", json=body(served)).status_code == 201
    for version in (VERSION, "bundled"):
        assert served.request("POST", f"/radclear/models/{TASK}/{version}").json()["in_use"] == version
    lines = [json.loads(line) for line in (served.data / "audit.jsonl").read_text().splitlines()]
    events = [line["event"] for line in lines]
    assert events == ["start", "answer", "verdict", "publish", "publish"]


def test_a_failure_is_shown_with_its_reason_and_time(served):
    row = ask_and_wait(served, BROKEN)
    assert row["state"] == "failed" and "CT" in row["reason"] and row["failed"].endswith(" UTC")


def test_a_training_needs_its_line_too(served):
    with unwritable_audit(served, FULL):
        reply = served.request("POST", f"/train/{TASK}")
    assert reply.status_code == 503 and f"cannot be written ({FULL})" in reply.json()["detail"]
    assert served.request("GET", "/train/").status_code == 404


def test_killed_before_the_line_there_is_no_deed(served):
    """The test holds the audit's lock, so that every deed waits for its line; then the server is killed."""
    before, version = kept(served)
    failed = shown(served, BROKEN)
    audit = served.data / "audit.jsonl"
    lines = audit.read_bytes()
    replies = []

    def send(method, path, **options):
        try:
            replies.append(served.request(method, path, timeout=START_S, **options).status_code)
        except requests.ConnectionError:
            replies.append(None)

    said = body(served)
    with held_audit(served):
        threads = [
            threading.Thread(target=send, args=("POST", "/radclear/verdicts"), kwargs={"json": said}),
            threading.Thread(target=send, args=("POST", f"/radclear/models/{TASK}/{VERSION}")),
            threading.Thread(target=send, args=("POST", f"/infer/{TASK}?image={DICOM}")),
        ]
        for thread in threads:
            thread.start()
        assert served.request("POST", f"/radclear/study/{NIFTI}/ask").status_code == 202
        until(lambda: list((served.data / "verdicts" / NIFTI).glob(".*.tmp")) or replies)
        time.sleep(1)  # for the others to come as far as they can
        assert shown(served, NIFTI)["state"] in ("waiting", "running") and replies == []
        served.kill()
    for thread in threads:
        thread.join()
    assert replies == [None] * 3, "nobody was told that something was done"
    assert audit.read_bytes() == lines

    again = wait_until_up(launch(served.folder, served.studies, "tasks", TASK))
    served.process, served.port, served.url, served.output = (
        again.process,
        again.port,
        again.url,
        again.output,
    )
    files, now = kept(served)
    aside = {name for name in files - before if ".unfinished" in name}
    assert files - aside == before and len(aside) == 1 and now == version
    assert os.path.basename(*aside) in served.printed, "what is set aside is named"
    assert verify_audit(audit)[1] == []
    assert shown(served, BROKEN) == failed, "the failure outlives the server"
    row = shown(served, NIFTI)
    assert row["state"] == "failed" and "the server was stopped before" in row["reason"].lower()


def test_a_later_success_ends_a_failure(served):
    broken = served.studies / "DOE^BROKEN"
    for file in (served.studies / "DOE^JANE_0").iterdir():
        shutil.copy(file, broken)
    (broken / "x.dcm").unlink()
    served.request("POST", "/radclear/find", json={"image": "looked for so that the folder is read again"})
    until(lambda: ask_and_wait(served, BROKEN)["state"] == "answered")
    assert shown(served, BROKEN)["reason"] == "" == shown(served, BROKEN)["failed"]
    assert not list((served.data / "labels").rglob(f"{BROKEN}.failed.json"))
