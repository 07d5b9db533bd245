"""AUROC against counting pairs, and the key-slice hit rate."""

import math

import numpy as np
import pytest

from radclear.evaluation import EvaluationError, auroc, key_slice_hit_rate

CLASSES = ("bone", "liver", "lung")


def pairs_auroc(scores, labels):
    """The share of (positive, negative) pairs in the right order; ties count half."""
    wins = [
        1.0 if p > n else 0.5 if p == n else 0.0 for p in scores[labels == 1] for n in scores[labels == 0]
    ]
    return sum(wins) / len(wins)


def scores_and_labels(n=60):
    rng = np.random.default_rng(0)
    labels = (rng.random((n, 3)) < 0.4).astype(float)
    return np.round(labels * 0.3 + rng.random((n, 3)), 1), labels


def test_multilabel_auroc_counts_ordered_pairs():
    scores, labels = scores_and_labels()
    report = auroc(scores, labels, kind="multilabel", classes=CLASSES)
    expected = [pairs_auroc(scores[:, c], labels[:, c]) for c in range(3)]
    assert [c.auroc for c in report.classes] == pytest.approx(expected)
    assert report.macro == pytest.approx(np.mean(expected))
    assert [(c.n_positive, c.n_negative) for c in report.classes] == [
        (int(n), 60 - int(n)) for n in labels.sum(axis=0)
    ]
    assert report.undefined == () and not report.thresholded


def test_multiclass_auroc_is_one_against_the_rest():
    scores, _ = scores_and_labels()
    labels = np.random.default_rng(1).integers(0, 3, 60)
    report = auroc(scores, labels, kind="multiclass", classes=CLASSES)
    expected = [pairs_auroc(scores[:, c], (labels == c).astype(int)) for c in range(3)]
    assert [c.auroc for c in report.classes] == pytest.approx(expected)
    assert auroc(scores, np.eye(3)[labels], kind="multiclass", classes=CLASSES) == report


def test_scores_are_ranked_not_thresholded():
    """Decisions lose what scores know, so they must not be what is computed on."""
    scores = np.array([[0.1], [0.2], [0.3], [0.4]])
    labels = np.array([[0], [0], [1], [1]])
    assert auroc(scores, labels, kind="multilabel", classes=("a",)).macro == 1.0
    decisions = auroc(scores > 0.5, labels, kind="multilabel", classes=("a",))
    assert decisions.macro == 0.5 and decisions.thresholded


def test_classes_without_positives_or_negatives_are_named_and_left_out():
    scores, labels = scores_and_labels()
    labels[:, 0], labels[:, 2] = 0, 1
    report = auroc(scores, labels, kind="multilabel", classes=CLASSES)
    assert report.undefined == ("bone", "lung")
    assert report.macro == report.classes[1].auroc
    assert math.isnan(report.classes[0].auroc) and report.classes[0].n_positive == 0
    labels[:, 1] = 0
    assert math.isnan(auroc(scores, labels, kind="multilabel", classes=CLASSES).macro)


@pytest.mark.parametrize(
    ("scores", "labels", "kind", "message"),
    [
        (np.zeros((4, 2)), np.zeros((4, 3)), "multilabel", r"\[4, 2\].*\(studies, 3\)"),
        (np.zeros((0, 3)), np.zeros((0, 3)), "multilabel", r"\[0, 3\]"),
        (np.full((2, 3), np.nan), np.zeros((2, 3)), "multilabel", "2 studies have scores"),
        (np.zeros((2, 3)), np.full((2, 3), 0.5), "multilabel", "other values than 0 and 1"),
        (np.zeros((2, 3)), np.array([0, 3]), "multiclass", "expected 0 to 2"),
    ],
)
def test_wrong_input_is_named(scores, labels, kind, message):
    with pytest.raises(EvaluationError, match=message):
        auroc(scores, labels, kind=kind, classes=CLASSES)


def test_key_slices_hit_annotated_slices():
    annotated = {"a": [10, 11], "b": [5], "c": [], "d": {30}}
    answer = {"a": [40, 11, 2], "b": [6, 7], "c": [1], "d": [], "e": [3]}
    rate = key_slice_hit_rate(answer, annotated)
    assert (rate.n_hit, rate.n_studies, rate.missed) == (1, 3, ("b", "d"))
    assert rate.rate == pytest.approx(1 / 3)
    assert key_slice_hit_rate(answer, annotated, tolerance_slices=1).missed == ("d",)
    assert math.isnan(key_slice_hit_rate({}, {"c": []}).rate)


def test_annotated_studies_without_an_answer_are_an_error():
    with pytest.raises(EvaluationError, match="1 annotated studies have no key slices, the first is b"):
        key_slice_hit_rate({"a": [1]}, {"a": [1], "b": [2]})
