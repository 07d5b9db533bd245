"""Questions from the results page in the app's queue: asked once, bounded, failures with their reason."""

from __future__ import annotations

import threading
import time

import pytest
from lib.questions import FAILED, RUNNING, WAITING, Questions
from lib.work_queue import QueueFullError, WorkQueue

from radclear.ct import CTInputError


class Slow:
    """Answers when it is told to, and fails for studies that are called so."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked: list[tuple[str, str]] = []

    def __call__(self, key: str, user: str) -> None:
        self.asked.append((key, user))
        self.go.wait(60)
        if key == "broken":
            raise CTInputError("unreadable", "nothing of Jane Doe can be read")
        if key == "bug":
            raise ZeroDivisionError


@pytest.fixture
def slow():
    answers = Slow()
    yield answers
    answers.go.set()


def until(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_study_is_asked_about_once_and_the_line_is_bounded(slow):
    questions = Questions(WorkQueue(waiting=1), slow, str)
    assert questions.progress("a") is None
    questions.ask("a", "reader")
    until(lambda: questions.progress("a").state == RUNNING)
    assert questions.ask("b", "reader").state == WAITING
    assert questions.ask("a", "other").state == RUNNING and questions.ask("b", "other").state == WAITING
    with pytest.raises(QueueFullError):
        questions.ask("c", "reader")
    assert questions.progress("c") is None
    slow.go.set()
    until(lambda: questions.progress("b") is None)
    assert slow.asked == [("a", "reader"), ("b", "reader")]


def test_a_failure_keeps_its_reason_without_names_until_it_is_asked_again(slow):
    slow.go.set()
    questions = Questions(WorkQueue(waiting=4), slow, lambda text: text.replace("Jane Doe", "[name]"))
    for key in ("broken", "bug"):
        questions.ask(key, "reader")
        until(lambda key=key: questions.progress(key).state == FAILED)
    assert "nothing of [name] can be read" in questions.progress("broken").reason
    assert "ZeroDivisionError" in questions.progress("bug").reason
    slow.go.clear()
    assert questions.ask("broken", "reader").state in (WAITING, RUNNING)
