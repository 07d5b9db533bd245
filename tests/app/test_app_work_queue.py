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
        assert release.wait(10)
        return "first"

    first = queue.submit(work)
    assert started.wait(10)
    yield queue, release, first
    release.set()
    queue.close()


def test_jobs_are_done_in_order(busy):
    queue, release, first = busy
    order = []
    waiting = [queue.submit(lambda n=n: order.append(n)) for n in range(3)]
    release.set()
    assert first.result(10) == "first"
    for future in waiting:
        future.result(10)
    assert order == [0, 1, 2]


def test_beyond_the_bound_is_refused_until_there_is_room(busy):
    queue, release, first = busy
    waiting = [queue.submit(lambda: None) for _ in range(3)]
    assert queue.waiting == 3
    with pytest.raises(QueueFullError, match="3 wait"):
        queue.submit(lambda: None)
    release.set()
    waiting[-1].result(10)
    queue.submit(lambda: None).result(10)


def test_who_leaves_the_line_makes_room_and_is_not_served(busy):
    queue, release, _ = busy
    served = []
    waiting = [queue.submit(lambda n=n: served.append(n)) for n in range(3)]
    assert waiting[1].cancel() and queue.waiting == 2
    last = queue.submit(lambda: served.append("new"))
    release.set()
    last.result(10)
    assert served == [0, 2, "new"]


def test_no_waiting_means_one_at_a_time():
    queue, release, started = WorkQueue(waiting=0), threading.Event(), threading.Event()
    first = queue.submit(lambda: (started.set(), release.wait(10)))
    assert started.wait(10)
    with pytest.raises(QueueFullError):
        queue.submit(lambda: None)
    release.set()
    first.result(10)


def test_a_job_that_fails_gives_its_error_and_the_next_is_done():
    queue = WorkQueue(waiting=2)

    def fails():
        raise ValueError("made for a test")

    with pytest.raises(ValueError, match="made for a test"):
        queue.submit(fails).result(10)
    assert queue.submit(lambda: 7).result(10) == 7


def test_a_closed_queue_takes_nothing_and_drops_who_waits(busy):
    queue, release, first = busy
    waiting = queue.submit(lambda: None)
    queue.close()
    assert waiting.cancelled()
    with pytest.raises(QueueClosedError):
        queue.submit(lambda: None)
    release.set()
    assert first.result(10) == "first"
