"""The queue answers in order, refuses what is too much, and forgets those who left."""

from __future__ import annotations

import threading

import pytest
from lib.work_queue import QueueClosedError, QueueFullError, WorkQueue


@pytest.fixture
def busy():
    """A queue whose one worker waits until `release` is set; three more may wait."""
    queue, release, started = WorkQueue(waiting=3), threading.Event(), threading.Event()

    def work():
        started.set()
        assert release.wait(60)
        return "first"

    first = queue.submit(work)
    assert started.wait(60)
    yield queue, release, first
    release.set()
    queue.close()


def test_jobs_are_done_in_order(busy):
    queue, release, first = busy
    order = []
    waiting = [queue.submit(lambda n=n: order.append(n)) for n in range(3)]
    release.set()
    assert first.result(60) == "first"
    for future in waiting:
        future.result(60)
    assert order == [0, 1, 2]


def test_beyond_the_bound_is_refused_until_there_is_room(busy):
    queue, release, first = busy
    waiting = [queue.submit(lambda: None) for _ in range(3)]
    assert queue.waiting == 3
    with pytest.raises(QueueFullError, match="3 wait"):
        queue.submit(lambda: None)
    release.set()
    waiting[-1].result(60)
    queue.submit(lambda: None).result(60)


def test_who_leaves_the_line_makes_room_and_is_not_served(busy):
    queue, release, _ = busy
    served = []
    waiting = [queue.submit(lambda n=n: served.append(n)) for n in range(3)]
    assert waiting[1].cancel() and queue.waiting == 2
    last = queue.submit(lambda: served.append("new"))
    release.set()
    last.result(60)
    assert served == [0, 2, "new"]


def test_no_waiting_means_one_at_a_time():
    queue, release, started = WorkQueue(waiting=0), threading.Event(), threading.Event()
    first = queue.submit(lambda: (started.set(), release.wait(60)))
    assert started.wait(60)
    with pytest.raises(QueueFullError):
        queue.submit(lambda: None)
    release.set()
    first.result(60)


def test_who_has_an_answer_finds_its_place_free():
    """Asked from within the answer's coming, when the worker has done nothing else yet."""
    queue, later = WorkQueue(waiting=0), []
    for job in (lambda: "fine", lambda: 1 / 0):
        started, asked = threading.Event(), threading.Event()

        def again(future, asked=asked):
            try:
                later.append(queue.submit(lambda: "again").result)
            finally:
                asked.set()

        first = queue.submit(lambda job=job, started=started: (started.wait(60), job()))
        first.add_done_callback(again)
        started.set()
        assert asked.wait(60) and [result(60) for result in later][-1] == "again"
    assert len(later) == 2


def test_a_job_that_fails_gives_its_error_and_the_next_is_done():
    queue = WorkQueue(waiting=2)

    def fails():
        raise ValueError("made for a test")

    with pytest.raises(ValueError, match="made for a test"):
        queue.submit(fails).result(60)
    assert queue.submit(lambda: 7).result(60) == 7


def test_a_closed_queue_takes_nothing_and_drops_who_waits(busy):
    queue, release, first = busy
    waiting = queue.submit(lambda: None)
    queue.close()
    assert waiting.cancelled()
    with pytest.raises(QueueClosedError):
        queue.submit(lambda: None)
    release.set()
    assert first.result(60) == "first"
