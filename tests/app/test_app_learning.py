"""Learning from readers on a real server: train, publish, go back, and everything that can be killed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from app_server import launch, needs_monailabel, until, wait_until_up
from lib.audit import verify_audit
from verdict_stream import N_READERS, VerdictStream

pytestmark = needs_monailabel
TASK = "staging"
N_STUDIES = 16


@pytest.fixture(scope="module")
def learner(tmp_path_factory):
    """A server over small studies, with readers' classes by study; two are of one patient who is held out."""
    from lib.patients import hashed
    from lib.training_rows import split_of

    from radclear.ct import study_key
    from radclear.phantom import STAGE_CLASSES, make_phantom, write_nifti

    folder = tmp_path_factory.mktemp("learner")
    studies = folder / "studies"
    studies.mkdir()
    for number in range(N_STUDIES):
        write_nifti(make_phantom(number, n_slices=24, size=64), studies / f"case-{number}.nii.gz")
    held_out = next(name for name in "ABCDEFGHIJKLMNOP" if split_of(hashed(name)) == "test")
    patients = folder / "patients.csv"
    patients.write_text(f"study,patient\ncase-0.nii.gz,{held_out}\ncase-1.nii.gz,{held_out}\n")
    one_patient = [study_key(f"case-{number}.nii.gz") for number in (0, 1)]
    server = wait_until_up(launch(folder, studies, "patients", str(patients)))
    keys = sorted(server.request("GET", "/datastore/?output=all").json()["objects"])
    server.folder = folder
    server.stages = {key: STAGE_CLASSES[n % 4] for n, key in enumerate(keys)}
    server.splits = {key: split_of(hashed(held_out if key in one_patient else key)) for key in keys}
    yield server
    server.stop()


def model(server):
    return server.request("GET", "/info/").json()["models"][TASK]


def judge(server, key, *, reader="Ada", verdict="correct"):
    shown = model(server)
    body = {
        "image": key,
        "task": TASK,
        "verdict": verdict,
        "reader": reader,
        "weights_sha256": shown["weights_sha256"],
        "backbone_sha256": shown["backbone_weights_sha256"],
    }
    classes = {"classes": [server.stages[key]]} if verdict == "correct" else {}
    return server.request("POST", "/radclear/verdicts", json={**body, **classes})


def ended(server):
    """The training's state once it does not run any more, and what it leaves behind is removed."""
    states = []

    def is_over():
        states.append(server.request("GET", "/train/").json())
        return states[-1]["status"] != "RUNNING" and states[-1]["end_ts"] is not None

    until(is_over, every_s=0.5)
    return states[-1]


def child_of(server):
    """Process id of the training."""
    for _ in range(100):
        found = subprocess.run(
            ["pgrep", "-f", f"lib.training_child {server.process.pid} {server.data}"],
            capture_output=True,
            text=True,
            check=False,
        )
        if found.stdout:
            return int(found.stdout.split()[0])
        time.sleep(0.1)
    pytest.fail("no training process")


def _is_alive(process):
    """Whether it runs; a zombie that nobody has buried yet does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_nothing_is_scored_or_trained_unasked(learner):
    """MONAI Label would start a process for every scoring method when the server starts."""
    found = subprocess.run(
        ["pgrep", "-P", str(learner.process.pid), "-a"], capture_output=True, text=True, check=False
    )
    assert "scoring" not in found.stdout and "train" not in found.stdout
    assert learner.request("GET", "/scoring/").status_code == 404


def test_what_cannot_be_trained_or_chosen_is_said_in_a_sentence(learner):
    nothing = learner.request("POST", f"/train/{TASK}")
    assert nothing.status_code == 409 and "there are no verdicts on this question" in nothing.json()["detail"]
    first = next(iter(learner.stages))
    assert judge(learner, first).status_code == 201
    one = learner.request("POST", f"/train/{TASK}")
    assert one.status_code == 200, one.text
    state = ended(learner)
    assert state["status"] == "ERROR" and "give more verdicts" in state["details"][-1]
    entropy = learner.request("POST", "/activelearning/entropy", json={"task": TASK})
    assert entropy.status_code == 409 and "was answered by the weights in use" in entropy.json()["detail"]
    folds = learner.request("POST", "/activelearning/agreement", json={"task": TASK})
    assert folds.status_code == 409 and "is one model" in folds.json()["detail"]
    assert learner.request("POST", f"/train/{TASK}", json={"epochs": 9}).status_code == 400
    assert learner.request("POST", f"/radclear/models/{TASK}/..%2F..").status_code == 404


def test_a_head_learns_is_published_and_the_old_one_stays_selectable(learner):
    before = model(learner)
    assert before["head_version"] == "bundled"
    for key in learner.stages:
        assert judge(learner, key).status_code == 201
    key = next(iter(learner.stages))
    started = learner.request("POST", f"/train/{TASK}", json={"publish": True})
    assert started.status_code == 200, started.text
    second = learner.request("POST", f"/train/{TASK}")
    assert second.status_code == 429 and "is running" in second.json()["detail"]
    assert learner.request("GET", "/info/").status_code == 200
    assert learner.request("GET", "/train/").json()["status"] == "RUNNING", "the server answers meanwhile"
    state = ended(learner)
    assert state["status"] == "DONE", state["details"]
    version = started.json()["id"]
    after = model(learner)
    assert after["head_version"] == version and after["weights_sha256"] != before["weights_sha256"]
    answer = learner.infer(TASK, key, query={"output": "json"}).json()
    assert answer["head_version"] == version
    assert answer["result"]["tasks"][0]["model"]["weights_sha256"] == after["weights_sha256"]

    listed = learner.request("GET", f"/radclear/models/{TASK}").json()
    assert [entry["version"] for entry in listed["versions"]] == ["bundled", version]
    report = listed["versions"][1]["report"]
    assert report["n_judged"] == N_STUDIES == sum(report["n_studies"].values())
    held = report["held_out"]
    assert held["n_studies"] == report["n_studies"]["test"] == held["n_patients"] + 1
    assert set(held["auroc"]) == {"new", "current", "difference"}
    check_absent_classes(learner, report, state["details"])

    back = learner.request("POST", f"/radclear/models/{TASK}/bundled").json()
    assert back["weights_sha256"] == before["weights_sha256"] == model(learner)["weights_sha256"]
    again = learner.request("POST", f"/radclear/models/{TASK}/{version}").json()
    assert again["weights_sha256"] == after["weights_sha256"]


def check_absent_classes(server, report, printed):
    """A stage that no study of a split has is named in a warning; one that some study has is in none."""
    split_warnings = {"train": [], "val": [], "test": report["held_out"]["warnings"]}
    for warning in report["warnings"]:
        split_warnings["train" if "trained on" in warning else "val"].append(warning)
        assert f"warning: {warning}" in printed
    n_absent = 0
    for split, warnings in split_warnings.items():
        there = {stage for key, stage in server.stages.items() if server.splits[key] == split}
        about = " ".join(w for w in warnings if "shows" in w or "no positive study" in w)
        for stage in set(server.stages.values()):
            named = re.search(rf"\b{stage}\b", about) is not None
            assert named == (stage not in there), (split, stage, warnings)
            n_absent += stage not in there
    assert n_absent, "the studies of this test do show every stage in every split; choose others"


def test_a_class_that_no_training_study_shows_is_named():
    from lib.training_rows import absent_classes

    from radclear.cohort.labels import LabelledStudy, LabelTable

    rows = (("train", (1.0, 0.0, 0.0)), ("train", (1.0, 1.0, 0.0)), ("val", (1.0, 1.0, 1.0)))
    studies = tuple(LabelledStudy(f"{n}", f"{n}", f"{n}", *row) for n, row in enumerate(rows))
    (warning,) = absent_classes(LabelTable("multilabel", ("lung", "bone", "pelvis"), studies))
    assert warning.startswith("No study that was trained on shows pelvis: ")


def test_scores_and_the_least_certain_study(learner):
    keys = list(learner.stages)
    answers = {}
    for key in keys[:8]:
        (entry,) = learner.infer(TASK, key).json()["result"]["tasks"]
        answers[key] = {row["name"]: row["probability"] for row in entry["classes"]}
        if len(answers) == 3:
            few = learner.request("POST", f"/scoring/{TASK}", json={}).json()
            assert few["prevalence"]["IV"] == 0 and "IV has no figures: no positive study." in few["warnings"]
    scored = learner.request("POST", f"/scoring/{TASK}", json={}).json()
    assert scored["n_studies"] == 8 and sum(scored["excluded"].values()) == N_STUDIES - 8
    for name, figures in scored["metrics"].items():
        if name == "macro":
            continue
        is_it = {key: learner.stages[key] == name for key in answers}
        assert scored["prevalence"][name] == pytest.approx(sum(is_it.values()) / 8)
        brier = sum((answers[key][name] - is_it[key]) ** 2 for key in answers) / 8
        assert figures["brier"]["value"] == pytest.approx(brier, abs=1e-3)
        low, high = figures["brier"]["interval"]
        assert low <= figures["brier"]["value"] <= high and low < high
    assert learner.request("GET", "/scoring/").json()[TASK] == scored
    none_left = learner.request("POST", "/activelearning/entropy", json={"task": TASK})
    assert none_left.json() == {}
    other = learner.request("POST", "/activelearning/random", json={"task": "lung_disease"}).json()
    assert other["id"] in keys and other["n_unread"] == N_STUDIES


def test_a_killed_training_leaves_the_head_that_answers(learner):
    before = model(learner)
    learner.request("POST", f"/train/{TASK}", json={"publish": True})
    os.kill(child_of(learner), signal.SIGKILL)
    assert ended(learner)["status"] == "ERROR"
    learner.request("POST", f"/train/{TASK}", json={"publish": True})
    child_of(learner)
    assert learner.request("DELETE", "/train/").json()["status"] == "STOPPED"
    assert ended(learner)["status"] == "STOPPED"
    assert model(learner) == before
    assert not list((learner.data / "models").glob("*/*.partial"))


def test_a_killed_server_loses_no_verdict_and_no_head(learner):
    """Killed where verdicts are half stored and a training runs: what was acknowledged is there."""
    before = model(learner)
    learner.request("POST", f"/train/{TASK}", json={"publish": True})
    child = child_of(learner)
    said = {"task": TASK, "verdict": "correct", "weights_sha256": before["weights_sha256"]}
    said["backbone_sha256"] = before["backbone_weights_sha256"]
    stages = learner.stages.items()
    stream = VerdictStream(learner, [{**said, "image": key, "classes": [stage]} for key, stage in stages])
    half = stream.kill_in_the_middle(at_least=60)
    assert stream.unanswered == N_READERS and stream.refused == []
    until(lambda: not _is_alive(child))  # it does not outlive its server

    again = wait_until_up(launch(learner.folder, learner.studies))
    try:
        found = set()
        for key in learner.stages:
            reply = again.request("GET", "/radclear/verdicts", params={"image": key}).json()
            found |= {verdict["id"] for verdict in reply["verdicts"]}
        assert set(stream.acknowledged) <= found
        audit = again.data / "audit.jsonl"
        assert {name.rpartition("/")[2] for name in found} == audited(audit)
        assert len(verify_audit(audit)[1]) <= 1
        assert not list((again.data / "verdicts").glob("*/.*.tmp"))
        aside = [path.name for path in (again.data / "verdicts" / ".unfinished").glob("*")]
        stored = [name for name in found if f".{name.rpartition('/')[2]}.tmp" in half]
        assert len(aside) + len(stored) == len(half)
        assert all(name in again.printed for name in (*aside, *stored)), "each is named"
        assert model(again) == before
        assert not list((again.data / "models").glob("*/*.partial"))
        assert not list((again.data / "trainings").iterdir())
    finally:
        again.stop()


def audited(path):
    """Files of the verdicts that the audit has a line for."""
    found = set()
    for line in path.read_text().splitlines():
        with contextlib.suppress(ValueError):  # half a line
            record = json.loads(line)
            found |= {record["stored"]} if record["event"] == "verdict" else set()
    return found
