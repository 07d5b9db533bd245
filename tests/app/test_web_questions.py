"""Questions from the results page in the app's queue: asked once, bounded, failures kept and told."""

from __future__ import annotations

import threading
import time

import pytest
from lib.failures import Failures
from lib.questions import RUNNING, STOPPED, WAITING, Questions
from lib.work_queue import QueueFullError, WorkQueue

from radclear.ct import CTInputError

TASKS = ("staging", "lung_disease")


class Slow:
    """Answers when it is told to, and fails for studies that are called so."""

    def __init__(self, failures: Failures) -> None:
        self.go = threading.Event()
        self.failures = failures
        self.asked: list[tuple[str, str, str]] = []

    def __call__(self, key: str, task: str, user: str) -> None:
        self.asked.append((key, task, user))
        self.go.wait(60)
        if key == "broken" and task == "lung_disease":
            raise CTInputError("unreadable", "nothing of Jane Doe can be read")
        if key == "bug":
            raise ZeroDivisionError("Jane Doe")
        self.failures.clear(key, task)  # as the app does


@pytest.fixture
def failures(tmp_path):
    return Failures(tmp_path, lambda text: text.replace("Jane Doe", "[name]"))


@pytest.fixture
def slow(failures):
    answers = Slow(failures)
    yield answers
    answers.go.set()


def until(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def reasons(failures, key):
    return {failure.task: failure.reason for failure in failures.of_study(key, TASKS)}


def test_a_study_is_asked_about_once_and_the_line_is_bounded(slow, failures):
    questions = Questions(WorkQueue(waiting=1), slow, TASKS, failures)
    assert questions.state("a") == ""
    questions.ask("a", "reader")
    until(lambda: questions.state("a") == RUNNING)
    assert questions.ask("b", "reader") == WAITING
    assert questions.ask("a", "other") == RUNNING and questions.ask("b", "other") == WAITING
    with pytest.raises(QueueFullError):
        questions.ask("c", "reader")
    assert questions.state("c") == "" and reasons(failures, "c") == {}
    slow.go.set()
    until(lambda: questions.state("b") == "")
    assert slow.asked == [(key, task, "reader") for key in "ab" for task in TASKS]


def test_a_failure_outlives_the_server_without_names_until_a_success(slow, failures, tmp_path):
    slow.go.set()
    questions = Questions(WorkQueue(waiting=4), slow, TASKS, failures)
    for key in ("broken", "bug"):
        questions.ask(key, "reader")
        until(lambda key=key: questions.state(key) == "")
    again = Failures(tmp_path, str)
    (failed,) = again.of_study("broken", TASKS)
    assert failed.task == "lung_disease" and "nothing of [name] can be read" in failed.reason
    assert failed.time.endswith("+00:00")
    assert all("ZeroDivisionError" in reason for reason in reasons(again, "bug").values())
    assert len(reasons(again, "bug")) == 2, "the second question was not answered either"
    assert not [file for file in tmp_path.rglob("*.json") if "Jane" in file.read_text()]
    again.clear("broken", "lung_disease")
    assert reasons(failures, "broken") == {}


def test_what_a_server_had_not_answered_when_it_was_killed_is_said_after_it(slow, failures, tmp_path):
    questions = Questions(WorkQueue(waiting=1), slow, TASKS, failures)
    questions.ask("a", "reader")
    questions.ask("b", "reader")
    after_a_kill = Failures(tmp_path, str)
    for key in ("a", "b"):
        assert reasons(after_a_kill, key) == dict.fromkeys(TASKS, STOPPED)
    slow.go.set()
    until(lambda: questions.state("b") == "")
    assert reasons(after_a_kill, "a") == reasons(after_a_kill, "b") == {}


def test_a_failure_that_cannot_be_written_is_remembered_and_a_damaged_one_is_said(tmp_path):
    (tmp_path / "staging").touch()  # where a folder should be
    failures = Failures(tmp_path, str)
    failures.record("a", "staging", "of no consequence")
    assert reasons(failures, "a") == {"staging": "of no consequence"}
    (tmp_path / "staging").unlink()
    failures.clear("a", "staging")
    assert reasons(failures, "a") == {}
    failures.record("a", "staging", "of no consequence")
    (tmp_path / "staging" / "a.failed.json").write_text("{")
    assert "cannot be read any more" in reasons(failures, "a")["staging"]
