"""Readers' verdicts: what is kept of them, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from app_server import ROOT, needs_monailabel

SHA = "a" * 64
PATHS = (str(ROOT / "monailabel_app"), str(ROOT))
TASKS = {"staging": ("I", "II", "III", "IV"), "lung_disease": ("nodule", "effusion")}
BODY = {
    "image": "study-1",
    "task": "lung_disease",
    "verdict": "correct",
    "classes": ["effusion"],
    "reader": "Dr. Ada",
    "weights_sha256": SHA,
    "backbone_sha256": SHA,
}


def stored(store, reader="Ada", announce=lambda verdict: None, **changes):
    said = {
        "task": "staging",
        "reader": reader,
        "verdict": "correct",
        "classes": ("II",),
        "comment": "",
        "weights_sha256": SHA,
        "backbone_sha256": SHA,
    }
    return store.add("study-1", announce=announce, **{**said, **changes})


def test_every_verdict_is_kept_and_the_newest_of_each_reader_counts(tmp_path):
    from lib.verdicts import VerdictStore

    store = VerdictStore(tmp_path / "verdicts")
    stored(store)
    stored(store, reader="Bob", classes=("III",))
    last = stored(store, classes=("IV",), comment="seen again")
    stored(store, task="lung_disease", classes=())
    again = VerdictStore(tmp_path / "verdicts")
    assert [v.classes for v in again.of_study("study-1", task="staging")] == [("II",), ("III",), ("IV",)]
    assert again.newest("staging") == {"study-1": {"Ada": last, "Bob": again.of_study("study-1")[1]}}
    assert again.of_study("study-2") == [] == again.of_study("../study-1")


def test_many_readers_at_once_lose_nothing(tmp_path):
    from lib.verdicts import VerdictStore

    store = VerdictStore(tmp_path)
    threads = [
        threading.Thread(target=lambda n=n: [stored(store, reader=f"reader {n}") for _ in range(10)])
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({v.id for v in store.of_study("study-1")}) == 80


def test_half_a_file_of_a_killed_writer_is_not_a_verdict_and_a_damaged_one_is_named(tmp_path):
    from lib.verdicts import VerdictError, VerdictStore

    store = VerdictStore(tmp_path)
    verdict = stored(store)
    (tmp_path / "study-1" / ".20260101T000000.000000Z-00000000.json.tmp").write_text('{"id": "st')
    assert store.of_study("study-1") == [verdict]
    (tmp_path / verdict.id).write_text("{")
    with pytest.raises(VerdictError, match="is damaged; restore it"):
        store.of_study("study-1")


def test_a_verdict_that_cannot_be_announced_is_not_stored(tmp_path):
    from lib.audit import Audit, AuditError
    from lib.verdicts import VerdictStore

    store, full = VerdictStore(tmp_path), Audit("/dev/full")
    with pytest.raises(AuditError, match="No space left on device"):
        stored(store, announce=lambda verdict: full.append("verdict", stored=verdict.id))
    assert store.of_study("study-1") == [] and not list((tmp_path / "study-1").iterdir())


KILLED = """
import os, signal, sys
from lib.audit import Audit
from lib.verdicts import VerdictStore
audit = Audit(sys.argv[2])
def announce(verdict):
    if sys.argv[3] == "after the line":
        audit.append("verdict", stored=verdict.id.rpartition("/")[2])
    os.kill(os.getpid(), signal.SIGKILL)
VerdictStore(sys.argv[1]).add(
    "study-1", announce=announce, task="staging", reader="Ada", verdict="correct", classes=("II",),
    comment="", weights_sha256="a", backbone_sha256="a")
"""


@pytest.mark.parametrize("moment", ["before the line", "after the line"])
def test_a_process_killed_at_the_audit_leaves_a_verdict_where_there_is_a_line(tmp_path, moment):
    """The line decides: with it the verdict is stored at the next start, without it the file is set aside."""
    from lib.audit import Audit, announced_verdicts
    from lib.verdicts import VerdictStore

    audit = Audit(tmp_path / "audit.jsonl")
    audit.append("start")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "verdicts"), str(audit.path), moment]
    process = subprocess.run(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(PATHS)}, check=False)
    assert process.returncode == -signal.SIGKILL
    store = VerdictStore(tmp_path / "verdicts")
    assert store.of_study("study-1") == []
    stored_now, aside = store.recover(lambda names: announced_verdicts(audit.path, names))
    found = [verdict.id for verdict in store.of_study("study-1")]
    assert found == stored_now and len(stored_now) == (moment == "after the line") != len(aside)
    assert [file.name for file in (tmp_path / "verdicts").glob(".unfinished/*")] == aside
    assert store.recover(lambda names: names) == ([], []) and store.studies() == ["study-1"]


def test_a_verdict_that_was_taken_back_is_not_stored_later(tmp_path):
    from lib.audit import Audit, announced_verdicts

    audit = Audit(tmp_path / "audit.jsonl")
    for event, name in (("verdict", "a"), ("verdict", "b"), ("verdict not stored", "a")):
        audit.append(event, stored=name)
    with open(audit.path, "a") as file:
        file.write('{"event": "verdict", "stored": "c"')
    assert announced_verdicts(audit.path, {"a", "b", "c"}) == {"b"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "colour"}, "task has to be one of staging, lung_disease"),
        ({"verdict": "maybe"}, "agree, disagree, correct"),
        ({"classes": None}, "classes has to be a list of some of nodule, effusion"),
        ({"classes": ["stage"]}, "some of nodule, effusion"),
        ({"classes": ["nodule", "nodule"]}, "names one twice"),
        ({"task": "staging", "classes": []}, "exactly one of I, II, III, IV"),
        ({"verdict": "agree"}, "classes go with the verdict `correct` only"),
        ({"reader": ""}, "reader is missing"),
        ({"reader": "a\x1bb"}, "control characters"),
        ({"reader": "x" * 65}, "at most 64"),
        ({"comment": "x" * 2001}, "at most 2000"),
        ({"comment": ["x"]}, "comment has to be text"),
        ({"comment": "\ud800"}, "control characters"),
        ({"reader": "a\u202eb"}, "control characters"),
        ({"reader": "a\u0085b"}, "control characters"),
        ({"weights_sha256": "a"}, "weights_sha256 is no sha256"),
        ({"series_hash": None}, "series_hash is no sha256"),
        ({"path": "/etc/passwd"}, "unknown field 'path'"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[:20],
)
def test_what_is_no_verdict_is_refused_by_name(changes, message):
    from lib.request_check import RequestError
    from lib.verdict_check import checked_verdict

    with pytest.raises(RequestError) as refusal:
        checked_verdict({**BODY, **changes}, tasks=TASKS, user=None)
    assert message in str(refusal.value)


def test_the_reader_is_the_tokens_user():
    from lib.request_check import RequestError
    from lib.verdict_check import checked_verdict

    said = {key: value for key, value in BODY.items() if key != "reader"}
    assert checked_verdict(said, tasks=TASKS, user="ada").reader == "ada"
    with pytest.raises(RequestError, match="another than the token's user"):
        checked_verdict(BODY, tasks=TASKS, user="ada")


@needs_monailabel
def test_called_classes():
    from lib.verdict_routes import called_classes

    found = {"a": 0.4, "b": 0.6, "c": 0.5}
    assert called_classes(found, kind="multilabel", operating_points=None) == ("b", "c")
    assert called_classes(found, kind="multilabel", operating_points={"a": 0.4, "b": 0.7}) == ("a", "c")
    assert called_classes(found, kind="ordinal", operating_points={"a": 0.1}) == ("b",)


@needs_monailabel
@pytest.mark.parametrize("kind, classes", [("multilabel", None), ("multiclass", ("b",)), ("ordinal", ("b",))])
def test_agreeing_with_weights_that_answer_no_more_wants_no_operating_points(kind, classes):
    from lib.request_check import RequestError
    from lib.verdict_routes import _right_classes

    said = SimpleNamespace(verdict="agree", weights_sha256="older")
    head = SimpleNamespace(kind=kind, weights_sha256="newer", operating_points={"a": 0.1, "b": 0.9})
    answer = {"answer": {"a": 0.4, "b": 0.6}}
    if classes:
        assert _right_classes(said, head, answer) == classes
    else:
        with pytest.raises(RequestError, match="of weights that answer no more") as caught:
            _right_classes(said, head, answer)
        assert caught.value.status == 409


@needs_monailabel
def test_a_verdict_goes_in_and_comes_out_with_the_answer_it_is_about(server):
    """Agreeing needs an answer; the answer is in the verdict, and the audit has a line without the reader."""
    studies = server.request("GET", "/datastore/?output=all").json()["objects"]
    image = next(key for key in studies if studies[key]["image"]["info"]["name"].endswith(".nii.gz"))
    info = server.request("GET", "/info/").json()["models"]["staging"]
    body = {
        "image": image,
        "task": "staging",
        "verdict": "agree",
        "reader": "Dr. Ada",
        "weights_sha256": info["weights_sha256"],
        "backbone_sha256": info["backbone_weights_sha256"],
    }
    unknown = server.request("POST", "/radclear/verdicts", json={**body, "weights_sha256": SHA})
    assert unknown.status_code == 409 and "ask for it again" in unknown.json()["detail"]
    answer = server.infer("staging", image, query={"output": "json"}).json()
    other_model = server.request("POST", "/radclear/verdicts", json={**body, "backbone_sha256": "0" * 64})
    assert other_model.status_code == 400 and "backbone_sha256 is not" in other_model.json()["detail"]
    reply = server.request("POST", "/radclear/verdicts", json=body)
    assert reply.status_code == 201, reply.text
    scores = {entry["label"]: entry["score"] for entry in answer["prediction"]}
    assert reply.json()["classes"] == [max(scores, key=scores.get)]
    assert reply.json()["answer"] == pytest.approx(scores, abs=1e-5)
    other = server.request(
        "POST", "/radclear/verdicts", json={**body, "verdict": "correct", "classes": ["IV"]}
    )
    found = server.request("GET", "/radclear/verdicts", params={"image": image, "task": "staging"}).json()
    assert [v["id"] for v in found["verdicts"]][-2:] == [reply.json()["id"], other.json()["id"]]
    line = json.loads((server.data / "audit.jsonl").read_text().splitlines()[-1])
    assert line["event"] == "verdict" and "Ada" not in json.dumps(line)
    gone = server.request("POST", "/radclear/verdicts", json={**body, "image": "../../etc/passwd"})
    assert gone.status_code == 404
