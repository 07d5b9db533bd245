"""DeLong against hand-computed values, a naive double loop, and what clustering must do to it."""

import math

import numpy as np
import pytest

from radclear.evaluation import EvaluationError, delong, delong_test


def kernel(positive, negative):
    return 1.0 if positive > negative else 0.5 if positive == negative else 0.0


def naive_covariance(scores, labels):
    """Structural components by double loops, then sample covariances: equations 3 to 6 of DeLong 1988."""
    v10, v01 = [], []
    for score in scores:
        x = [s for s, y in zip(score, labels, strict=True) if y]
        y = [s for s, y in zip(score, labels, strict=True) if not y]
        v10.append([sum(kernel(a, b) for b in y) / len(y) for a in x])
        v01.append([sum(kernel(a, b) for a in x) / len(x) for b in y])
    result = np.zeros((len(scores), len(scores)))
    for i in range(len(scores)):
        for j in range(len(scores)):
            for v in (v10, v01):
                mean_i, mean_j = sum(v[i]) / len(v[i]), sum(v[j]) / len(v[j])
                products = [(a - mean_i) * (b - mean_j) for a, b in zip(v[i], v[j], strict=True)]
                result[i, j] += sum(products) / (len(products) - 1) / len(products)
    return [sum(v) / len(v) for v in v10], result


def some_scores(seed, n=70):
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.35
    common = rng.normal(size=n)
    scores = np.stack([labels * 1.2 + common + rng.normal(size=n), labels * 0.5 + common])
    return np.round(scores, 1), labels  # rounding makes ties


def test_by_hand():
    """Positives 2, 4, negatives 1, 3: 3 of 4 pairs in order; V10 = 1/2, 1; V01 = 1, 1/2; each has sample
    variance 1/8, so that var = 1/8/2 + 1/8/2 = 1/8. Against a perfect score, with variance and covariance
    0, z = (3/4 − 1) / √(1/8) = −1/√2 and p = 2Φ(−1/√2) = erfc(1/2) = 0.4795."""
    labels = np.array([0, 1, 0, 1])
    half, perfect = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 4.0])
    result = delong(half, labels)
    assert result.auroc[0] == pytest.approx(0.75) and result.covariance[0, 0] == pytest.approx(0.125)
    test = delong_test(half, perfect, labels)
    assert test.z == pytest.approx(-1 / math.sqrt(2))
    assert test.p_value == pytest.approx(0.4795001222, abs=1e-9)


def test_by_hand_with_opposite_covariances():
    """The second score swaps the positives: V10 = 1, 1/2 gives covariance −1/8, V01 = 1, 1/2 gives 1/8; the
    sum is 0, so that the variance of the difference 0 is 1/8 + 1/8."""
    labels = np.array([0, 1, 0, 1])
    test = delong_test(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 4.0, 3.0, 2.0]), labels)
    assert (test.difference, test.z, test.p_value) == (0.0, 0.0, 1.0)
    assert test.standard_error == pytest.approx(0.5)
    assert test.interval == pytest.approx((-0.9799819923, 0.9799819923))  # ∓ 1.9599639845 / 2


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_naive_double_loop(seed):
    scores, labels = some_scores(seed)
    areas, covariance = naive_covariance(scores.tolist(), labels.tolist())
    result = delong(scores, labels)
    np.testing.assert_allclose(result.auroc, areas, rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.covariance, covariance, rtol=0, atol=1e-14)


def test_studies_given_twice_add_no_certainty_within_patients():
    """Copies of every study in the same patient leave the variance as it is; as patients of their own they
    would make it about half."""
    scores, labels = some_scores(5)
    once = delong(scores, labels, patients=np.arange(len(labels)))
    twice_scores, twice = np.concatenate([scores, scores], axis=1), np.concatenate([labels, labels])
    clustered = delong(twice_scores, twice, patients=np.tile(np.arange(len(labels)), 2))
    np.testing.assert_allclose(clustered.covariance, once.covariance, rtol=1e-12)
    assert clustered.n_patients == len(labels)
    assert delong(twice_scores, twice).covariance[0, 0] < 0.6 * once.covariance[0, 0]


def test_clusters_with_both_labels_agree_with_the_cluster_bootstrap():
    """Patients whose studies share an effect and have both labels: the variance over resampled patients."""
    rng = np.random.default_rng(3)
    patients = np.repeat(np.arange(150), 4)
    labels = np.tile([False, False, True, True], 150)
    scores = labels * 0.8 + rng.normal(size=150)[patients] * 1.5 + rng.normal(size=600) * 0.5
    error = math.sqrt(delong(scores, labels, patients=patients).covariance[0, 0])
    areas = []
    for _ in range(400):
        rows = np.concatenate([np.arange(4) + 4 * p for p in rng.integers(0, 150, 150)])
        areas.append(delong(scores[rows], labels[rows]).auroc[0])
    assert error == pytest.approx(np.std(areas), rel=0.15)
    assert error < 0.8 * math.sqrt(delong(scores, labels).covariance[0, 0])  # patients are their own controls


def test_interval_stays_inside_and_contains_the_auroc():
    scores, labels = some_scores(6)
    low, high = delong(scores, labels).interval(0)
    area = delong(scores, labels).auroc[0]
    assert 0 < low < area < high < 1
    assert math.log(high / (1 - high)) + math.log(low / (1 - low)) == pytest.approx(
        2 * math.log(area / (1 - area))
    )
    wider = delong(scores, labels).interval(0, level=0.99)
    assert wider[0] < low and high < wider[1]
    assert delong(labels.astype(float), labels).interval() is None  # perfect: no width, no interval


def test_alike_rankings_have_no_test():
    scores, labels = some_scores(7)
    test = delong_test(scores[0], scores[0] * 3 + 1, labels)
    assert (test.difference, test.p_value, test.interval) == (0.0, None, None) and "zero" in test.reason


@pytest.mark.parametrize(
    ("scores", "labels", "patients", "message"),
    [
        ([1, 2, 3], [0, 1], None, "shape"),
        ([1, 2, np.nan, 3], [0, 1, 0, 1], None, "finite"),
        ([1, 2, 3, 4], [0, 1, 2, 1], None, "0 and 1"),
        ([1, 2, 3, 4], [0, 1, 0, 0], None, "1 patients with positive"),
        ([1, 2, 3, 4], [0, 1, 0, 1], ["a", "b", "c", "b"], "1 patients with positive"),
        ([1, 2, 3, 4], [0, 1, 0, 1], ["a", "b"], "2 patients for 4 studies"),
    ],
)
def test_wrong_input_is_named(scores, labels, patients, message):
    with pytest.raises(EvaluationError, match=message):
        delong(np.array(scores, dtype=float), np.array(labels), patients=patients)


def test_level_is_a_coverage():
    scores, labels = some_scores(8)
    with pytest.raises(EvaluationError, match="coverage"):
        delong_test(scores[0], scores[1], labels, level=95)
