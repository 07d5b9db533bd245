"""A server on a GPU: answers, batch inference, and what happens where others hold the GPU's memory."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from app_server import ROOT, launch, needs_monailabel, until, wait_until_up, write_long_study

from radclear.bundle import StudyAnswers, load_head
from radclear.ct import find_studies, study_key

pytestmark = [
    needs_monailabel,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
]
SLICES = 96
TASKS = ("tumor_location", "lung_disease", "staging")
#: Holds all of the GPU's memory but some MiB until its standard input ends.
_HOLDER = """
import sys, torch

torch.empty(1, device="cuda")
held, size = [], 2**34
while size >= 2**20:
    free, _ = torch.cuda.mem_get_info()
    if free - int(sys.argv[1]) * 2**20 < size:
        size //= 2
        continue
    try:
        held.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
    except torch.OutOfMemoryError:
        size //= 2
print("held", flush=True)
sys.stdin.read()
"""


class Holder:
    """Another process that holds the GPU's memory, all but some MiB, inside a `with`."""

    def __init__(self, leave_mib: int) -> None:
        self.leave_mib = leave_mib

    def __enter__(self) -> Holder:
        command = [sys.executable, "-c", _HOLDER, str(self.leave_mib)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "held\n":
            self.process.kill()
            raise RuntimeError("the process that was to hold the GPU's memory ended")
        return self

    def __exit__(self, *exception) -> None:
        self.process.communicate()


@pytest.fixture
def server(tmp_path):
    (tmp_path / "studies").mkdir()
    for seed, name in enumerate(("a.nii", "b.nii")):
        write_long_study(tmp_path / "studies" / name, n_slices=SLICES, seed=seed)
    write_long_study(tmp_path / "studies" / "few.nii", n_slices=2)
    conf = ("device", "cuda", "batch_size", str(2 * SLICES), "precision", "float32", "rescan", "3600")
    running = wait_until_up(launch(tmp_path, tmp_path / "studies", *conf))
    yield running
    running.stop()


def expected(server, study: str, task: str) -> list[float]:
    """The probabilities that a processor finds."""
    (source,) = find_studies(server.studies / study)
    head = load_head(ROOT / "bundles" / f"{task}_classification")
    found, _ = StudyAnswers(device="cpu", precision="float32").answer(source, head)
    return list(found.answers[0].probabilities)


def ask(server, study: str, task: str = "staging"):
    return server.infer(task, study_key(study), query={"output": "json"})


def scores(answer) -> list[float]:
    assert answer.status_code == 200, answer.text
    return [line["score"] for line in answer.json()["prediction"]]


def test_answers_are_those_of_a_processor(server):
    for task in TASKS:
        answer = ask(server, "a.nii", task)
        assert scores(answer) == pytest.approx(expected(server, "a.nii", task), abs=2e-3)
        assert not answer.json()["notes"]


def test_a_batch_answers_every_study_and_shows_progress(server):
    assert server.request("POST", "/batch/infer/staging", json={"device": "cuda"}).status_code == 200
    path = "/batch/infer"
    until(lambda: server.request("GET", path).json()["status"] not in ("SUBMITTED", "RUNNING"))
    task = server.request("GET", path).json()
    assert task["status"] == "DONE", task
    assert "3 of 3 done" in "\n".join(task["details"]) and "3 stored, 0 failed" in "\n".join(task["details"])
    query = {"label": study_key("b.nii"), "tag": "staging"}
    info = server.request("GET", "/datastore/label/info", params=query).json()
    made = info["params"]["result"]["tasks"][0]
    found = [line["probability"] for line in made["classes"]]
    assert found == pytest.approx(expected(server, "b.nii", "staging"), abs=2e-3)


def test_where_memory_is_short_fewer_slices_go_at_once_and_the_answer_says_so(server):
    assert ask(server, "few.nii").status_code == 200  # CUDA's own libraries are loaded
    with Holder(leave_mib=300):
        answer = ask(server, "a.nii")
    (note,) = answer.json()["notes"]
    assert note.startswith(f"the memory of cuda did not hold {2 * SLICES} slices at once; they were ")
    assert scores(answer) == pytest.approx(expected(server, "a.nii", "staging"), abs=2e-3)


def test_where_nothing_is_left_the_answer_is_a_refusal_and_later_the_server_answers(server):
    with Holder(leave_mib=0):
        refused = ask(server, "a.nii")
        assert refused.status_code == 503 and "Retry-After" in refused.headers, refused.text
        assert "does not fit the memory of cuda" in refused.json()["detail"]
        assert server.request("GET", "/info/").status_code == 200
    assert scores(ask(server, "a.nii")) == pytest.approx(expected(server, "a.nii", "staging"), abs=2e-3)
