"""Every metric against scikit-learn or its definition, with weights against repeated studies."""

import math

import numpy as np
import pytest
from sklearn import metrics as sk

from radclear.evaluation import EvaluationError, MetricSettings, metric_panel
from radclear.evaluation.chance import ece_by_chance
from radclear.evaluation.panel import decide

SETTINGS = MetricSettings(specificities=(0.8, 0.9), n_bins=7)


def made(kind, n=80, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "multilabel":
        truth = rng.random((n, n_classes)) < 0.4
        return np.round(np.clip(truth * 0.25 + rng.random((n, n_classes)) * 0.75, 0, 1), 2), truth
    truth = np.eye(n_classes, dtype=bool)[rng.integers(0, n_classes, n)]
    logits = truth * 1.5 + rng.normal(size=(n, n_classes))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return np.round(probabilities, 2), truth


def panel(probabilities, truth, kind, weights=None, settings=SETTINGS):
    names = [f"c{i}" for i in range(truth.shape[1])]
    decided = decide(probabilities, names, kind=kind, settings=settings)
    weights = np.ones((1, len(truth))) if weights is None else weights
    return metric_panel(probabilities, truth, decided, weights, kind=kind, settings=settings)


def naive_calibration_error(scores, labels, n_bins):
    """Definition: bins [k/K, (k+1)/K), 1 in the last; mean of |confidence − frequency| over studies."""
    total = 0.0
    for k in range(n_bins):
        held = [
            i
            for i, s in enumerate(scores)
            if k / n_bins <= s < (k + 1) / n_bins or (s == 1 and k == n_bins - 1)
        ]
        if held:
            gap = sum(scores[i] for i in held) / len(held) - sum(labels[i] for i in held) / len(held)
            total += abs(gap) * len(held) / len(scores)
    return total


def naive_sensitivity(scores, labels, specificity):
    """The best sensitivity over all thresholds that keep the specificity."""
    best = 0.0
    for threshold in (*scores, math.inf):
        called = scores >= threshold
        if (~called[~labels]).mean() >= specificity - 1e-12:
            best = max(best, called[labels].mean())
    return best


@pytest.mark.parametrize("kind", ["multilabel", "multiclass", "ordinal"])
def test_class_metrics_equal_other_implementations(kind):
    scores, truth = made(kind)
    found = panel(scores, truth, kind)
    decided = scores >= 0.5 if kind == "multilabel" else np.eye(3)[scores.argmax(axis=1)].astype(bool)
    for c in range(3):
        s, y = scores[:, c], truth[:, c]
        expected = {
            "auroc": sk.roc_auc_score(y, s),
            "auprc": sk.average_precision_score(y, s),
            "brier": sk.brier_score_loss(y, s),
            "ece": naive_calibration_error(s.tolist(), y.tolist(), 7),
            "sensitivity": sk.recall_score(y, decided[:, c]),
            "specificity": sk.recall_score(~y, ~decided[:, c]),
            "balanced_accuracy": sk.balanced_accuracy_score(y, decided[:, c]),
            "sensitivity_at_specificity_0.8": naive_sensitivity(s, y, 0.8),
            "sensitivity_at_specificity_0.9": naive_sensitivity(s, y, 0.9),
        }
        for metric, value in expected.items():
            assert found[metric][0, c] == pytest.approx(value, abs=1e-12), metric
    for metric in ("auroc", "auprc", "brier", "ece"):
        assert found[metric][0, 3] == pytest.approx(found[metric][0, :3].mean())


@pytest.mark.parametrize("kind", ["multiclass", "ordinal"])
def test_over_all_classes(kind):
    scores, truth = made(kind, n_classes=4, seed=3)
    found = panel(scores, truth, kind)
    actual, called = truth.argmax(axis=1), scores.argmax(axis=1)
    assert found["balanced_accuracy"][0, -1] == pytest.approx(sk.balanced_accuracy_score(actual, called))
    if kind == "ordinal":
        kappa = sk.cohen_kappa_score(actual, called, weights="quadratic")
        assert found["quadratic_kappa"][0, -1] == pytest.approx(kappa)
    assert ("quadratic_kappa" in found) is (kind == "ordinal")


def test_quadratic_kappa_by_hand():
    """Truth I, I, II, III, called I, II, II, III: observed distances 1. Truth counts 2, 1, 1 and called
    counts 1, 2, 1 expect (2·2·1 + 2·1·4 + 1·1·1 + 1·1·1 + 1·1·4 + 1·2·1) / 4 = 5. Kappa is 1 − 1/5."""
    truth, called = np.eye(3, dtype=bool)[[0, 0, 1, 2]], np.eye(3)[[0, 1, 1, 2]]
    assert panel(called, truth, "ordinal")["quadratic_kappa"][0, -1] == pytest.approx(0.8)


def test_kappa_weighs_far_errors_more():
    truth = np.eye(4, dtype=bool)[np.repeat(np.arange(4), 5)]
    near, far = truth.argmax(axis=1), truth.argmax(axis=1)
    near[0], far[0] = 1, 3
    kappas = [panel(np.eye(4)[c], truth, "ordinal")["quadratic_kappa"][0, -1] for c in (near, far)]
    assert kappas[1] < kappas[0] < 1


@pytest.mark.parametrize("kind", ["multilabel", "ordinal"])
def test_a_weight_is_a_study_given_so_many_times(kind):
    scores, truth = made(kind, seed=2)
    weights = np.random.default_rng(1).integers(0, 4, (5, len(truth))).astype(float)
    found = panel(scores, truth, kind, weights)
    for b, counts in enumerate(weights):
        rows = np.repeat(np.arange(len(truth)), counts.astype(int))
        alone = panel(scores[rows], truth[rows], kind)
        for metric, values in alone.items():
            np.testing.assert_allclose(found[metric][b], values[0], rtol=0, atol=1e-12, err_msg=metric)


def test_classes_without_positives_or_negatives_have_no_value_and_stay_out_of_the_mean():
    scores, truth = made("multilabel")
    truth[:, 0], truth[:, 2] = False, True
    for metric, values in panel(scores, truth, "multilabel").items():
        assert np.isnan(values[0, [0, 2]]).all() and values[0, -1] == values[0, 1], metric


def test_a_weighting_without_positives_has_no_ranking_metric():
    scores, truth = made("multilabel")
    found = panel(scores, truth, "multilabel", weights=(~truth[:, :1]).T.astype(float))
    for metric in ("auroc", "auprc", "sensitivity_at_specificity_0.9", "balanced_accuracy"):
        assert np.isnan(found[metric][0, 0]) and np.isnan(found[metric][0, -1])
    assert np.isfinite(found["brier"][0, 0])


def test_scores_are_ranked_before_any_threshold():
    """Error 1 of the method's published code: all four are below 0.5, yet perfectly ranked."""
    scores, truth = np.array([[0.1], [0.2], [0.3], [0.4]]), np.array([[0], [0], [1], [1]], dtype=bool)
    found = panel(scores, truth, "multilabel")
    assert found["auroc"][0, 0] == 1 and found["balanced_accuracy"][0, 0] == 0.5


def test_thresholds_decide_calls_only():
    scores, truth = made("multilabel")
    moved = MetricSettings(specificities=(0.8, 0.9), n_bins=7, thresholds=(("c1", 0.3),))
    before, after = panel(scores, truth, "multilabel"), panel(scores, truth, "multilabel", settings=moved)
    expected = sk.balanced_accuracy_score(truth[:, 1], scores[:, 1] >= 0.3)
    assert after["balanced_accuracy"][0, 1] == pytest.approx(expected) != before["balanced_accuracy"][0, 1]
    assert after["balanced_accuracy"][0, 0] == before["balanced_accuracy"][0, 0]
    called = scores[:, 1] >= 0.3
    assert after["sensitivity"][0, 1] == called[truth[:, 1]].mean() > before["sensitivity"][0, 1]
    assert after["specificity"][0, 1] == (~called[~truth[:, 1]]).mean() < before["specificity"][0, 1]
    assert after["auroc"].tolist() == before["auroc"].tolist()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"specificities": (1.0,)}, "between 0 and"),
        ({"n_bins": 1}, "at least 2 bins"),
        ({"default_threshold": 2.0}, "from 0 to 1"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(EvaluationError, match=message):
        MetricSettings(**settings)


def test_thresholds_of_unknown_classes_or_for_other_tables():
    settings = MetricSettings(thresholds=(("spleen", 0.2),))
    with pytest.raises(EvaluationError, match="unknown class spleen"):
        panel(*made("multilabel"), "multilabel", settings=settings)
    with pytest.raises(EvaluationError, match="most probable"):
        panel(*made("ordinal"), "ordinal", settings=settings)


def test_calibrated_predictions_have_the_calibration_error_of_chance():
    scores = np.random.default_rng(3).random(150)
    truths = np.random.default_rng(4).random((400, 150)) < scores
    errors = [naive_calibration_error(scores.tolist(), truth.tolist(), 10) for truth in truths]
    found = ece_by_chance(scores, n_bins=10, seed=0)
    assert found == pytest.approx(np.mean(errors), rel=0.03)
    assert ece_by_chance(np.repeat(scores, 16), n_bins=10, seed=0) == pytest.approx(found / 4, rel=0.05)
    assert ece_by_chance(np.array([0.0, 1.0]), n_bins=10, seed=0) == 0
