"""Bands against scikit-learn on resamples written out by rows, and against the curves they should cover."""

from dataclasses import replace

import numpy as np
import pytest
from made_tables import CLASSES, made_table, multilabel_table
from scipy.stats import norm
from sklearn import metrics as sk

from radclear.evaluation import compare, evaluate, roc_curve
from radclear.evaluation.bands import GRID, curve_bands
from radclear.evaluation.curves import THRESHOLDS
from radclear.evaluation.figures import draw_png
from radclear.evaluation.plots import plan_figures
from radclear.evaluation.svg import panel_svg


def coarse(table):
    """The same table with many equal scores."""
    return replace(table, probabilities=np.round(table.probabilities, 1))


def sensitivity_at(scores, labels, rate):
    """Of scikit-learn's curve, by hand: straight between points, the upper end of vertical parts."""
    x, y, _ = sk.roc_curve(labels, scores, drop_intermediate=False)
    if (hit := np.isclose(x, rate)).any():
        return y[hit].max()
    after = np.argmax(x > rate)
    share = (rate - x[after - 1]) / (x[after] - x[after - 1])
    return y[after - 1] + share * (y[after] - y[after - 1])


def precision_at(scores, labels, recall):
    """Precision at the highest score from which the recall is reached; at 0 from which any positive is."""
    precision, reached, _ = sk.precision_recall_curve(labels, scores)
    enough = (reached[:-1] > 0) & ((reached[:-1] > recall) | np.isclose(reached[:-1], recall))
    return precision[:-1][enough][-1]


def net_benefit_at(scores, labels, threshold):
    """Study by study: a hit counts one, a false alarm costs the odds of the threshold."""
    benefit = 0.0
    for score, positive in zip(scores, labels, strict=True):
        if score >= threshold:
            benefit += 1 if positive else -threshold / (1 - threshold)
    return benefit / len(scores)


def by_hand(table, c, found, points, measure):
    """(B, P): every resample as rows of studies, repeated as often as they were drawn."""
    rows = []
    for weights in found.resamples.weights():
        for weight in weights:
            scores = np.repeat(table.probabilities[:, c], weight.astype(int))
            labels = np.repeat(table.truth[:, c], weight.astype(int))
            rows.append([measure(scores, labels, point) for point in points])
    return np.array(rows)


@pytest.mark.parametrize("made", [lambda t: t, coarse])
@pytest.mark.parametrize("curve", ["roc", "precision_recall"])
def test_against_scikit_learn_on_written_out_resamples(made, curve):
    table = made(multilabel_table(n_patients=25))
    found = evaluate(table, n_resamples=60, seed=4)
    at = [0, 7, 20, 50, 99, 100]
    measure = {"roc": sensitivity_at, "precision_recall": precision_at}[curve]
    for c, name in enumerate(CLASSES):
        band = getattr(curve_bands(found)[name], curve)
        samples = by_hand(table, c, found, GRID[at], measure)
        np.testing.assert_allclose(band.low[at], np.quantile(samples, 0.025, axis=0))
        np.testing.assert_allclose(band.high[at], np.quantile(samples, 0.975, axis=0))


@pytest.mark.parametrize("made", [lambda t: t, coarse])
def test_net_benefit_study_by_study_on_written_out_resamples(made):
    """Coarse scores lie on thresholds themselves: at or above is called."""
    table = made(multilabel_table(n_patients=25))
    found = evaluate(table, n_resamples=60, seed=4)
    at = [0, 9, 29, 49, 50, 89, 98]
    for c, name in enumerate(CLASSES):
        band = curve_bands(found)[name].decision
        samples = by_hand(table, c, found, THRESHOLDS[at], net_benefit_at)
        np.testing.assert_array_equal(band.x, THRESHOLDS)
        np.testing.assert_allclose(band.low[at], np.quantile(samples, 0.025, axis=0), atol=1e-12)
        np.testing.assert_allclose(band.high[at], np.quantile(samples, 0.975, axis=0), atol=1e-12)


def test_shares_of_bins_on_written_out_resamples():
    table = multilabel_table(n_patients=25)
    found = evaluate(table, n_resamples=60, seed=4)
    band = curve_bands(found)["lung"].reliability
    scores = table.probabilities[:, 2]
    for k in range(10):
        inside = (scores >= k / 10) & ((scores < (k + 1) / 10) | (k == 9))
        if not inside.any():
            continue
        (i,) = np.flatnonzero(np.isclose(band.x, scores[inside].mean()))
        rows = np.concatenate(list(found.resamples.weights()))[:, inside]
        rows = rows[rows.sum(axis=1) > 0]
        shares = (rows * table.truth[inside, 2]).sum(axis=1) / rows.sum(axis=1)
        expected = np.quantile(shares, [0.025, 0.975])
        if expected[0] == expected[1]:
            expected = [np.nan, np.nan]
        np.testing.assert_allclose([band.low[i], band.high[i]], expected)


def test_the_band_covers_the_true_curve_as_often_as_it_says():
    """Two normal distributions one apart: sensitivity at rate t is Φ(1 + Φ⁻¹(t))."""
    rng, at = np.random.default_rng(8), [10, 30, 60]
    expected, covered, n = norm.cdf(1 + norm.ppf(GRID[at])), np.zeros(3), 150
    for _ in range(n):
        labels = np.arange(160) < 60
        scores = norm.cdf(rng.normal(size=160) + labels)
        table = made_table("multilabel", ("x",), scores[:, None], labels[:, None])
        band = curve_bands(evaluate(table, n_resamples=200))["x"].roc
        covered += (band.low[at] <= expected) & (expected <= band.high[at])
    assert (covered / n > 0.88).all() and (covered / n < 0.995).all()


def test_more_studies_of_the_same_patients_do_not_narrow_the_bands():
    table = multilabel_table(n_patients=80, per_patient=1)
    double = table.take(np.r_[np.arange(80), np.arange(80)])
    double = replace(double, studies=tuple(f"s{i}" for i in range(160)))
    alone = replace(double, patients=tuple(f"q{i}" for i in range(160)))
    once, twice, naive = (curve_bands(evaluate(t, n_resamples=500))["lung"] for t in (table, double, alone))
    for curve in ("roc", "precision_recall", "reliability", "decision"):
        one, two, narrow = (getattr(bands, curve) for bands in (once, twice, naive))
        np.testing.assert_allclose([two.low, two.high], [one.low, one.high])
        assert np.nanmean(narrow.high - narrow.low) < 0.85 * np.nanmean(one.high - one.low)


def test_no_band_where_there_is_no_interval():
    table = multilabel_table(n_patients=30)
    table.truth[:, 0] = False
    table.truth[:, 1] = np.array(table.patients) == "p3"
    table.probabilities[:, 2] = np.where(table.truth[:, 2], 0.9, 0.1)
    bands = curve_bands(evaluate(table, n_resamples=50))
    assert bands["bone"].reason == "no positive study" and bands["bone"].roc is None
    assert "only 1 patient" in bands["liver"].reason and bands["liver"].precision_recall is None
    separated = bands["lung"]
    assert (separated.roc, separated.precision_recall, separated.reliability) == (None, None, None)
    assert bands["bone"].decision is None and bands["liver"].decision is None


def test_figures_have_the_bands_of_both_tables():
    first, second = multilabel_table(seed=1, name="a.csv"), multilabel_table(seed=2, name="b.csv")
    found = evaluate(first, n_resamples=40)
    bands = {"first": curve_bands(found), "second": curve_bands(found, second)}
    for plan in plan_figures(found, compare(found, second)):
        for line in plan.panels[2].lines:
            if line.role in ("reference", "alternative"):
                assert line.band is None
                continue
            expected = getattr(bands[line.role]["lung"], plan.name)
            np.testing.assert_array_equal(line.band.low, expected.low)
            assert ((line.band.low <= line.band.high) | np.isnan(line.band.low)).all()
        assert "band" in plan.legend


def test_the_axis_of_decision_curves_holds_the_band():
    found = evaluate(multilabel_table(n_patients=12), n_resamples=200)
    panel = plan_figures(found)[3].panels[0]
    model = panel.lines[-1]
    assert model.band.high.max() > max(line.y.max() for line in panel.lines)
    assert panel.y_range[1] > model.band.high.max()


def test_decision_curve_of_a_rare_class_that_is_never_called():
    """Nothing has a net benefit above 0 then, and still there is an axis to draw it on."""
    table = made_table("multilabel", ("x",), np.full((300, 1), 0.001), np.arange(300)[:, None] < 2)
    plan = plan_figures(evaluate(table, n_resamples=20))[3]
    low, high = plan.panels[0].y_range
    assert low < 0 < high
    assert "<polyline" in panel_svg(plan.panels[0], plan, panel_id="x") and draw_png(plan)


def test_the_curve_lies_in_its_band_nearly_everywhere():
    table = multilabel_table(n_patients=150)
    found = evaluate(table, n_resamples=400)
    for c, name in enumerate(CLASSES):
        band, curve = curve_bands(found)[name].roc, roc_curve(table.probabilities[:, c], table.truth[:, c])
        y = np.interp(GRID, curve.x, curve.y)
        assert ((band.low <= y + 1e-9) & (y <= band.high + 1e-9)).mean() > 0.97
