"""The store under several processes and under SIGKILL, with real processes and a real SIGKILL."""

import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

from radclear.cohort import EmbeddingStore, instance_coords

SPAWN = multiprocessing.get_context("spawn")
ATTRIBUTES = {
    "encoder": "tiny",
    "weight_sha256": "w",
    "series_hash": "s",
    "precision": "float32",
    "windows": (),
    "image_size": 8,
    "fingerprint": "f",
}
COORDS = instance_coords(np.arange(500.0), 2)
DEADLINE_S = 600  # for a slow machine; nothing here waits for its end


def write(store, key, value=1.0):
    store.write(key, np.full((1000, 64), value, np.float32), COORDS, ATTRIBUTES)


def work_through(folder, keys, log, start):
    """Do every study that nobody has done and nobody is doing; note each that was done here."""
    store = EmbeddingStore(folder)
    start.wait(DEADLINE_S)
    for key in keys:
        with store.claim(key) as claimed:
            if claimed and not store.has(key):
                with open(log, "a") as file:
                    file.write(f"{os.getpid()} {key}\n")
                time.sleep(0.05)  # the embedding
                write(store, key)


def hang_before_rename(folder, key, ready):
    """Hold a study with everything written but not renamed."""
    os.replace = lambda *_: (ready.set(), time.sleep(DEADLINE_S))
    write(EmbeddingStore(folder), key)


def write_for_ever(folder, keys):
    store, value = EmbeddingStore(folder), 0.0
    while True:
        for key in keys:
            write(store, key, value)
            value += 1


@pytest.fixture
def spawn():
    """Start processes that are dead when the test ends."""
    started = []

    def start(target, *arguments):
        process = SPAWN.Process(target=target, args=arguments, daemon=True)
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.join(DEADLINE_S)


def kill(process):
    os.kill(process.pid, signal.SIGKILL)
    process.join(DEADLINE_S)
    assert process.exitcode == -signal.SIGKILL


def test_two_processes_share_the_work_and_do_nothing_twice(tmp_path, spawn):
    keys = [f"study-{i}" for i in range(12)]
    log, start = tmp_path / "log", SPAWN.Barrier(2)
    workers = [spawn(work_through, tmp_path / "store", keys, log, start) for _ in range(2)]
    for worker in workers:
        worker.join(DEADLINE_S)
        assert worker.exitcode == 0
    done = [line.split() for line in log.read_text().splitlines()]
    assert sorted(key for _, key in done) == sorted(keys)
    assert len({process for process, _ in done}) == 2
    store = EmbeddingStore(tmp_path / "store")
    assert store.keys() == sorted(keys)
    assert sorted(path.name for path in store.folder.iterdir()) == sorted(f"{key}.h5" for key in keys)


def test_a_killed_writer_leaves_no_study_and_no_obstacle(tmp_path, spawn):
    store, ready = EmbeddingStore(tmp_path), {key: SPAWN.Event() for key in ("study-a", "study-b")}
    writers = {key: spawn(hang_before_rename, tmp_path, key, event) for key, event in ready.items()}
    for key, event in ready.items():
        assert event.wait(DEADLINE_S)
        with store.claim(key) as claimed:
            assert not claimed
    assert store.clean() == []  # they are alive
    assert store.keys() == []

    kill(writers["study-a"])
    assert len(list(tmp_path.glob(".study-a.*.tmp"))) == len(list(tmp_path.glob(".study-a.lock"))) == 1
    assert not store.has("study-a") and store.keys() == []
    assert store.clean() == ["study-a"]
    assert list(tmp_path.glob("*study-a*")) == list(tmp_path.glob(".study-a*")) == []
    write(store, "study-a", 7.0)
    assert float(store.read("study-a").feats.mean()) == 7.0

    os.kill(writers["study-b"].pid, signal.SIGKILL)
    with store.claim("study-b", wait=True) as claimed:  # whoever waits for the dead one goes on
        assert claimed and list(tmp_path.glob(".*.tmp")) == []
        write(store, "study-b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study-a.h5", "study-b.h5"]


def test_whatever_is_visible_after_a_kill_is_whole(tmp_path, spawn):
    keys = [f"study-{i}" for i in range(3)]
    store = EmbeddingStore(tmp_path)
    writer = spawn(write_for_ever, tmp_path, keys)
    deadline = time.monotonic() + DEADLINE_S
    while store.keys() != keys and time.monotonic() < deadline:
        time.sleep(0.01)
    for _ in range(20):  # whole while it is being replaced
        assert len(store.read(keys[0]).feats.unique()) == 1
    kill(writer)
    assert store.keys() == keys
    for key in keys:
        feats = store.read(key).feats
        assert feats.shape == (1000, 64) and len(feats.unique()) == 1
    store.clean()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{key}.h5" for key in keys]
