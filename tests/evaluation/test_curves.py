"""Curves against scikit-learn and against definitions."""

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from radclear.evaluation import (
    EvaluationError,
    decision_curve,
    precision_recall_curve,
    reliability_curve,
    roc_curve,
)


def scores_and_labels(n=90, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.3
    return np.round(np.clip(labels * 0.2 + rng.random(n) * 0.8, 0, 1), 2), labels


def test_roc():
    scores, labels = scores_and_labels()
    curve = roc_curve(scores, labels)
    fpr, tpr, _ = sk.roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.x, fpr)
    np.testing.assert_allclose(curve.y, tpr)


def test_precision_recall():
    scores, labels = scores_and_labels()
    curve = precision_recall_curve(scores, labels)
    precision, recall, _ = sk.precision_recall_curve(labels, scores)
    np.testing.assert_allclose(curve.x[1:], recall[:-1][::-1])
    np.testing.assert_allclose(curve.y[1:], precision[:-1][::-1])
    area = np.sum(np.diff(curve.x) * curve.y[1:])
    assert area == pytest.approx(sk.average_precision_score(labels, scores))


def test_reliability():
    scores, labels = scores_and_labels(seed=3)
    scores = scores + 1e-4 * (
        scores < 0.99
    )  # off the edges of bins, which scikit-learn puts in the lower bin
    found = reliability_curve(scores, labels, n_bins=8)
    observed, predicted = calibration_curve(labels, scores, n_bins=8)
    np.testing.assert_allclose(found.observed, observed)
    np.testing.assert_allclose(found.predicted, predicted)
    assert found.n_studies.sum() == 90 and found.n_bins == 8
    assert ((found.low <= found.observed) & (found.observed <= found.high)).all()


def test_wilson_interval_by_hand():
    """8 of 10: (0.8 + z²/20 ± z √(0.16/10 + z²/400)) / (1 + z²/10) with z = 1.96 is 0.4902 to 0.9433."""
    found = reliability_curve(np.full(10, 0.5), np.arange(10) < 8)
    assert (found.low[0], found.high[0]) == pytest.approx((0.4902, 0.9433), abs=5e-5)


def test_decision_curve_by_definition():
    scores, labels = scores_and_labels(seed=1)
    found = decision_curve(scores, labels)
    for t, model, call_all in zip(found.threshold, found.model, found.call_all, strict=True):
        true = sum(1 for s, y in zip(scores, labels, strict=True) if s >= t and y)
        false = sum(1 for s, y in zip(scores, labels, strict=True) if s >= t and not y)
        assert model == pytest.approx((true - false * t / (1 - t)) / 90)
        prevalence = labels.mean()
        assert call_all == pytest.approx(prevalence - (1 - prevalence) * t / (1 - t))


def test_calling_all_breaks_even_at_the_prevalence():
    labels = np.arange(20) < 5
    found = decision_curve(np.full(20, 0.6), labels, thresholds=np.array([0.25]))
    assert found.call_all[0] == pytest.approx(0) and found.model[0] == pytest.approx(0)


@pytest.mark.parametrize("curve", [roc_curve, precision_recall_curve, reliability_curve, decision_curve])
@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.1, 0.2], [0, 0], "0 positive of 2"),
        ([0.1, 0.2], [1, 1], "2 positive of 2"),
        ([0.1, 1.2], [0, 1], "from 0 to 1"),
        ([0.1, np.nan], [0, 1], "from 0 to 1"),
        ([0.1, 0.2, 0.3], [0, 1], "shape"),
        ([0.1, 0.2], [0, 2], "0 and 1"),
    ],
)
def test_wrong_input_is_named(curve, scores, labels, message):
    with pytest.raises(EvaluationError, match=message):
        curve(np.array(scores), np.array(labels))
