"""What changes while it is looked at: each look is of one moment, and nothing is seen of a moment between."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from app_server import needs_monailabel
from lib.failures import Failures
from lib.labels import LabelFiles
from lib.studies import UnknownStudyError

from radclear.ct import StudySource

pytestmark = needs_monailabel
KEY, TASK = "study-1", "staging"


class Questions:
    """What is asked now."""

    now = ""

    def state(self, key: str) -> str:
        return self.now


@pytest.fixture
def page(tmp_path):
    """The page's data over one study, with `questions`, `failures`, and `answers` that a test replaces."""
    from lib.page_data import PageData

    labels = LabelFiles(tmp_path / "labels")
    failures = Failures(labels.folder, str)
    source = StudySource(KEY, tmp_path / KEY, KEY, "")
    studies = SimpleNamespace(sources=lambda: {KEY: source})
    store = SimpleNamespace(labels=labels, failures=failures, studies=studies)
    options = SimpleNamespace(tasks=(TASK,), identifiers=False)
    verdicts = SimpleNamespace(of_study=lambda key: [])
    app = SimpleNamespace(datastore=lambda: store, options=options, verdicts=verdicts, heads=dict)
    made = PageData(app, Questions())
    made.questions, made.failures, made.source = made._questions, failures, source
    return made


class Answers:
    """None at the first look, at which the answer comes and the question is over."""

    def __init__(self, questions: Questions) -> None:
        self.questions, self.found = questions, None

    def brief(self, key: str, task: str):
        from lib.stored_answers import Brief

        before, self.found = self.found, Brief(task, "Staging", "II", False, "")
        self.questions.now = ""
        return before

    def answer(self, key: str, task: str) -> None:
        self.brief(key, task)


def test_an_answer_that_comes_while_the_page_looks_is_running_still_and_then_answered(page):
    page.questions.now, page.answers = "running", Answers(page.questions)
    states = [page.worklist()["studies"][0]["state"] for _ in range(2)]
    assert states == ["running", "answered"]
    page.questions.now, page.answers = "running", Answers(page.questions)
    shown = page.study(page.source)
    assert (shown["state"], shown["tasks"]) == ("running", []), "a page that asks no more would show nothing"


def test_a_question_that_is_asked_while_the_page_looks_is_no_failure(page, monkeypatch):
    read = page.failures.of_study

    def asked_meanwhile(key, tasks):
        page.questions.now = "waiting"
        page.failures.record(key, TASK, "the server was stopped before it had answered")
        return read(key, tasks)

    monkeypatch.setattr(page.failures, "of_study", asked_meanwhile)
    (row,) = page.worklist()["studies"]
    assert row["state"] == "waiting" and row["reason"] == ""


def test_two_answers_within_one_tick_of_the_clock_are_two(tmp_path):
    labels, file = LabelFiles(tmp_path / "labels"), tmp_path / "a.json"
    file.write_text("{}")
    versions = set()
    for _ in range(2):
        labels.save(KEY, file, TASK, {})
        os.utime(labels.folder / TASK / f"{KEY}.info.json", ns=(10**18, 10**18))
        versions.add(labels.version(KEY, TASK))
    assert len(versions) == 2


def test_the_bundled_head_that_is_published_while_one_looks_is_the_one(tmp_path, monkeypatch):
    from lib.versions import BUNDLED, HeadVersions

    versions = HeadVersions(tmp_path, device="cpu")
    monkeypatch.setattr(Path, "is_file", lambda self: True)  # as a look said that came a moment too early
    assert versions.current(TASK) == BUNDLED and versions.load_current(TASK) is None


def test_of_two_heads_that_are_published_at_once_the_file_names_the_one_that_answers(monkeypatch):
    from lib.publishing import publish

    done, second = [], []

    def head(name):
        backbone = SimpleNamespace(weights_sha256="b")
        return SimpleNamespace(classes=("I",), backbone=backbone, weights_sha256=name, task=TASK)

    def choose(task, version, sha256):
        done.append(("file", version))
        if version == "first":
            second.append(threading.Thread(target=publish, args=(app, TASK, "second"), kwargs={"user": ""}))
            second[0].start()
            second[0].join(1)  # time enough to come in between, where it may

    entry = SimpleNamespace(head=head(""), use=lambda head, version: done.append(("answers", version)))
    versions = SimpleNamespace(load=lambda task, version: head(version), choose=choose)
    audit = SimpleNamespace(append=lambda event, **line: None)
    app = SimpleNamespace(
        bundled={TASK: head("")}, versions=versions, audit=audit, models=lambda: {"": entry}
    )
    publish(app, TASK, "first", user="")
    second[0].join()
    assert done == [(what, version) for version in ("first", "second") for what in ("file", "answers")]


def test_a_training_that_ends_while_another_is_asked_for_is_running_still(tmp_path):
    from lib.request_check import RequestError
    from lib.trainings import Trainings

    class Ending:
        task, looks = TASK, 0

        @property
        def status(self) -> str:
            self.looks += 1
            return "RUNNING" if self.looks == 1 else "DONE"

    trainings = Trainings(tmp_path, None, made=print, publish=print)
    trainings.last = Ending()
    with pytest.raises(RequestError, match=f"a training of {TASK} is running"):
        trainings.start(TASK, {}, publish=False, announce=print)


def test_an_answer_is_written_as_the_head_that_gave_it_has_it_though_another_is_in_use(monkeypatch):
    from lib import infers

    first, other = (SimpleNamespace(name=n, version=n, demonstration=True, intended_use="") for n in "ab")
    written = []

    class Task(infers.HeadTask):
        def _to_audit(self, request, prediction, head) -> None:
            self.use(other, "published meanwhile")

        def write(self, prediction, head):
            written.append(head)
            return None, {}

    answers = SimpleNamespace(answer=lambda *args, **options: (None, ()))
    monkeypatch.setattr(infers, "answer_json", lambda prediction, notes: {})
    kind = infers.InferType.SEGMENTATION
    task = Task(first, answers, None, entry=TASK, type=kind, identifiers=False)
    _, answer = task({"source": None})
    assert written == [first] and answer["head_version"] == "bundled" and task.head is other


def test_a_study_that_goes_while_it_is_chosen_is_not_the_next_one():
    from lib.strategies import next_study

    there = ["study-1", "study-2"]

    class Store:
        def get_image_info(self, key):
            if key == "study-1":
                there.remove(key)
                raise UnknownStudyError("gone")
            return {"name": key}

    def first(request, store):
        return {"id": there[0]} if there else None

    assert next_study(first, {}, Store()) == {"id": "study-2", "name": "study-2"}
    there[:] = ["study-1"]
    assert next_study(first, {}, Store()) == {}


def test_scores_that_are_being_sent_do_not_change(monkeypatch):
    from fastapi import Depends
    from lib import learning_routes

    monkeypatch.setattr(learning_routes, "score", lambda app, head: {})
    app = SimpleNamespace(heads=lambda: dict.fromkeys(("staging", "lung_disease")))
    nobody = Depends(lambda: None)
    router = learning_routes.learning_router(app, reader=nobody, annotator=nobody, admin=nobody, who=str)
    ways = {(route.path, *route.methods): route.endpoint for route in router.routes}
    ways["/scoring/{task}", "POST"]("staging", user=None)
    told = ways["/scoring/", "GET"](user=None)
    ways["/scoring/{task}", "POST"]("lung_disease", user=None)
    assert told == {"staging": {}} and len(ways["/scoring/", "GET"](user=None)) == 2


def test_a_batch_that_ends_while_one_looks_runs_no_more(monkeypatch):
    from lib.batch import running_batch
    from monailabel.utils.async_tasks import utils

    class Ending(dict):
        def __len__(self) -> int:
            return 1  # a moment ago

    tasks = [{"id": "1", "status": "DONE"}]
    monkeypatch.setitem(utils.background_processes, "batch_infer", Ending())
    monkeypatch.setitem(utils.background_tasks, "batch_infer", tasks)
    assert running_batch() is None
    tasks.append({"id": "2", "status": "RUNNING"})
    assert running_batch()["id"] == "2"
