"""Heads that are asked one after another share one embedding pass, also when asked at once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from bundle_fixtures import HEADS

from radclear.backbones import DeviceMemoryError
from radclear.bundle import StudyAnswers, answering, load_heads, predict_study
from radclear.bundle.sharing import KeyedLocks, RecentValues
from radclear.ct import find_studies
from radclear.results import validate_result


@pytest.fixture(scope="module")
def heads(bundles):
    return load_heads([bundles / name for name in HEADS])


@pytest.fixture(scope="module")
def sources(studies):
    return [source for source in find_studies(studies) if source.name.startswith("DOE")]


@pytest.fixture
def passes(monkeypatch):
    """How many instances each embedding pass had."""
    counted = []
    original = answering.embed_slices

    def counting(backbone, slices, **options):
        counted.append(slices.shape[0] * slices.shape[1])
        time.sleep(0.05)
        return original(backbone, slices, **options)

    monkeypatch.setattr(answering, "embed_slices", counting)
    return counted


def answer_values(prediction):
    return [(a.task, a.probabilities, tuple(a.attention)) for a in prediction.answers]


def test_answers_are_those_of_predict_study(heads, sources):
    answers = StudyAnswers()
    expected = predict_study(sources[0], heads)
    for head, answer in zip(heads, expected.answers, strict=True):
        prediction, notes = answers.answer(sources[0], head)
        validate_result(prediction.result)
        assert answer_values(prediction)[0][1:] == (answer.probabilities, tuple(answer.attention))
        assert prediction.result["study"] == expected.result["study"]
        assert prediction.result["geometry"] == expected.result["geometry"]
        assert notes == ()


def test_three_heads_are_one_pass_and_another_study_another(heads, sources, passes):
    answers = StudyAnswers()
    for head in heads:
        answers.answer(sources[0], head)
    assert len(passes) == 1
    answers.answer(sources[1], heads[0])
    assert len(passes) == 2


def test_concurrent_calls_share_one_pass_and_do_not_mix_answers(heads, sources, passes):
    answers = StudyAnswers()
    alone = {(s.key, h.task): answer_values(StudyAnswers().answer(s, h)[0]) for s in sources for h in heads}
    passes.clear()
    calls = [(s, h) for s in sources for h in heads] * 4
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda call: answer_values(answers.answer(*call)[0]), calls))
    assert found == [alone[s.key, h.task] for s, h in calls]
    assert len(passes) == len(sources)


def test_the_same_series_at_another_place_is_not_embedded_again(heads, sources, passes, tmp_path):
    import shutil

    answers = StudyAnswers()
    first, _ = answers.answer(sources[0], heads[0])
    shutil.copytree(sources[0].path, tmp_path / "copy")
    (copied,) = find_studies(tmp_path / "copy")
    second, _ = answers.answer(copied, heads[0])
    assert len(passes) == 1 and second.study.path == copied.path
    assert second.result["study"]["series_hash"] == first.result["study"]["series_hash"]


def test_a_study_that_changed_is_read_again(heads, sources, passes):
    answers = StudyAnswers()
    answers.answer(sources[0], heads[0])
    changed = replace(sources[0], path=sources[1].path, fingerprint="changed")
    prediction, _ = answers.answer(changed, heads[0])
    other, _ = StudyAnswers().answer(sources[1], heads[0])
    assert answer_values(prediction) == answer_values(other)


def test_memory_stays_below_its_bound(heads, sources, passes):
    one = StudyAnswers()
    one.answer(sources[0], heads[0])
    answers = StudyAnswers(cache_bytes=one.kept_bytes)
    for source in (*sources, *sources):
        answers.answer(source, heads[0])
        assert 0 < answers.kept_bytes <= one.kept_bytes
    assert len(passes) == 5  # the first, then each time the other was dropped
    none = StudyAnswers(cache_bytes=0)
    none.answer(sources[0], heads[0])
    assert none.kept_bytes == 0


def test_short_memory_makes_smaller_batches_and_says_so(heads, sources, monkeypatch):
    backbone = heads[0].backbone.backbone
    original, sizes = backbone.embed, []

    def short(x):
        sizes.append(len(x))
        if len(x) > 2:
            raise torch.OutOfMemoryError("made for a test")
        return original(x)

    expected, _ = StudyAnswers().answer(sources[0], heads[0])
    monkeypatch.setattr(backbone, "embed", short)
    answers = StudyAnswers(batch_size=8)
    for _ in range(2):  # the answer from memory says so, too
        prediction, (note,) = answers.answer(sources[0], heads[0])
        assert "8 slices" in note and "2 at a time" in note
        assert prediction.answers[0].probabilities == pytest.approx(
            expected.answers[0].probabilities, abs=1e-5
        )
    assert sizes[:3] == [8, 4, 2] and set(sizes[3:]) == {2}


def test_short_memory_elsewhere_is_told_too(heads, bundles, sources, monkeypatch):
    def short(*args, **options):
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

    with monkeypatch.context() as patch:
        patch.setattr(heads[0].aggregator, "forward", short)
        with pytest.raises(DeviceMemoryError, match=r"^a bag of \d+ embeddings does not fit"):
            StudyAnswers().answer(sources[0], heads[0])
    monkeypatch.setattr(torch.nn.Module, "to", short)
    with pytest.raises(DeviceMemoryError, match="^lecl_gated_cnn, with its weights, does not fit"):
        load_heads([bundles / HEADS[0]])


def test_kept_studies_hold_no_pixels(heads, sources):
    prediction, _ = StudyAnswers().answer(sources[0], heads[0])
    assert prediction.study.hu.strides == (0, 0, 0) and prediction.study.hu.shape[0] > 1


def test_the_longest_unused_is_dropped():
    recent = RecentValues(3, size=len)
    for key in ("a", "b", "c"):
        recent.put(key, key)
    recent.get("a")
    recent.put("d", "dd")
    assert [recent.get(key) for key in "abcd"] == ["a", None, None, "dd"]
    recent.put("e", "eeee")  # larger than all: not kept, and drops nothing
    assert recent.get("e") is None and recent.total == 3
    recent.put("a", "aa")
    assert recent.total <= 3


def test_a_key_is_held_by_one_thread_and_forgotten_afterwards():
    locks, inside, most = KeyedLocks(), [], []

    def work(key):
        with locks.held(key):
            inside.append(key)
            most.append(inside.count(key))
            time.sleep(0.01)
            inside.remove(key)

    threads = [threading.Thread(target=work, args=(key,)) for key in "aabbab"]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert max(most) == 1 and not locks._locks
