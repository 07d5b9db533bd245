"""Values, intervals, their absence with reasons, and the agreement of two kinds of interval."""

from dataclasses import replace

import numpy as np
import pytest
from made_tables import CLASSES, made_table, multilabel_table, ordinal_table
from sklearn.metrics import roc_auc_score

from radclear.evaluation import EvaluationError, evaluate
from radclear.evaluation.estimates import estimate


def test_values_and_counts():
    table = multilabel_table()
    found = evaluate(table, n_resamples=200)
    for c, name in enumerate(CLASSES):
        assert found.estimates[name]["auroc"].value == pytest.approx(
            roc_auc_score(table.truth[:, c], table.probabilities[:, c])
        )
        counts = found.counts[name]
        assert (counts.n_studies, counts.n_patients) == (120, 60)
        assert counts.n_positive == table.truth[:, c].sum() == counts.n_studies - counts.n_negative
        positive = np.array(table.patients)[table.truth[:, c]]
        assert counts.n_positive_patients == len(set(positive))
        assert counts.prevalence == counts.n_positive / 120
    mean = np.mean([found.estimates[name]["auroc"].value for name in CLASSES])
    assert found.estimates["macro"]["auroc"].value == pytest.approx(mean)
    for metrics in found.estimates.values():
        for entry in metrics.values():
            low, high = entry.interval
            assert low < high and entry.n_resamples == 200


def test_bootstrap_and_delong_intervals_agree():
    """Two derivations of the same interval; for 300 patients of one study each they differ little."""
    found = evaluate(multilabel_table(n_patients=300, per_patient=1), n_resamples=2000)
    for name in CLASSES:
        np.testing.assert_allclose(
            found.estimates[name]["auroc"].interval, found.delong_intervals[name], rtol=0, atol=0.012
        )


def test_more_copies_of_the_same_patients_do_not_narrow_intervals():
    """Every study twice in the same patient: the same interval. As patients of their own: a narrower one."""
    table = multilabel_table(n_patients=80, per_patient=1)
    double = table.take(np.r_[np.arange(80), np.arange(80)])
    double = replace(double, studies=tuple(f"s{i}" for i in range(160)))
    alone = replace(double, patients=tuple(f"q{i}" for i in range(160)))
    once, twice, naive = (
        evaluate(t, n_resamples=1000).estimates["lung"]["auroc"] for t in (table, double, alone)
    )
    assert twice.interval == pytest.approx(once.interval, abs=1e-9)
    assert np.diff(naive.interval) < 0.85 * np.diff(once.interval)


def test_few_resamples_are_said():
    assert any(
        "from 1999 bootstrap resamples" in w for w in evaluate(ordinal_table(), n_resamples=1999).warnings
    )
    assert not any("resamples" in w for w in evaluate(ordinal_table(), n_resamples=2000).warnings)


def test_seed_and_resamples():
    table = multilabel_table()
    first, again, other = (evaluate(table, n_resamples=100, seed=s).estimates for s in (1, 1, 2))
    assert first == again and first != other
    assert first["lung"]["auroc"].n_resamples == 100


@pytest.mark.parametrize(
    ("column", "value", "reason"), [(0, False, "no positive study"), (2, True, "no negative study")]
)
def test_a_class_without_positives_or_negatives_has_reasons_in_place_of_values(column, value, reason):
    table = multilabel_table()
    table.truth[:, column] = value
    found = evaluate(table, n_resamples=50)
    name = CLASSES[column]
    for entry in found.estimates[name].values():
        assert (entry.value, entry.interval, entry.reason) == (None, None, reason)
    assert found.undefined == (name,) and found.delong_intervals[name] is None
    assert any(name in warning and reason in warning for warning in found.warnings)
    assert any("mean over classes leaves out" in warning for warning in found.warnings)
    others = [found.estimates[n]["auroc"].value for n in CLASSES if n != name]
    assert found.estimates["macro"]["auroc"].value == pytest.approx(np.mean(others))


def test_no_class_at_all():
    table = multilabel_table()
    table.truth[:] = False
    macro = evaluate(table, n_resamples=20).estimates["macro"]
    assert {(e.value, e.reason) for e in macro.values()} == {
        (None, "no class has both positive and negative studies")
    }


def test_one_positive_patient_has_a_value_and_no_interval():
    table = multilabel_table()
    table.truth[:, 0] = np.array(table.patients) == "p3"
    found = evaluate(table, n_resamples=50)
    entry = found.estimates["bone"]["auroc"]
    assert entry.value is not None and entry.interval is None and "only 1 patient" in entry.reason
    assert found.delong_intervals["bone"] is None
    assert any("Fewer than 10 patients" in warning for warning in found.warnings)


def test_perfect_separation_claims_no_certainty():
    truth = np.eye(2, dtype=bool)[np.arange(40) % 2]
    table = made_table("multilabel", ("a", "b"), truth * 0.8 + 0.1, truth)
    entry = evaluate(table, n_resamples=100).estimates["a"]["auroc"]
    assert (entry.value, entry.interval) == (1.0, None) and "same value" in entry.reason


def test_ordinal_tables_have_a_kappa_and_pooled_folds_are_split():
    table = ordinal_table()
    table = replace(table, folds=tuple(str(i % 3) for i in range(120)))
    found = evaluate(table, n_resamples=200)
    kappa = found.estimates["macro"]["quadratic_kappa"]
    assert kappa.interval[0] < kappa.value < kappa.interval[1]
    assert "quadratic_kappa" not in found.estimates["II"]
    rows = np.arange(120) % 3 == 1
    expected = roc_auc_score(table.truth[rows, 3], table.probabilities[rows, 3])
    assert list(found.by_fold) == ["0", "1", "2"]
    assert found.by_fold["1"]["IV"] == pytest.approx(expected)
    assert any("3 folds" in warning for warning in found.warnings)


def test_kappa_without_variation_has_a_reason():
    truth = np.eye(2, dtype=bool)[np.zeros(10, dtype=int)]
    table = made_table("ordinal", ("I", "II"), np.full((10, 2), 0.5), truth)
    kappa = evaluate(table, n_resamples=20).estimates["macro"]["quadratic_kappa"]
    assert kappa.value is None and "one class" in kappa.reason


def test_a_table_without_labels_is_refused():
    with pytest.raises(EvaluationError, match="no label columns"):
        evaluate(replace(multilabel_table(), truth=None))


def test_percentile_interval_by_hand():
    """Of 0, 1 … 100 the 2.5 % and 97.5 % quantiles are 2.5 and 97.5."""
    samples = np.random.default_rng(0).permutation(np.arange(101.0))
    assert estimate(50.0, samples).interval == pytest.approx((2.5, 97.5))
    assert estimate(50.0, samples, level=0.8).interval == pytest.approx((10.0, 90.0))


def test_resamples_without_a_value_are_counted_and_too_many_leave_no_interval():
    samples = np.r_[np.arange(60.0), np.full(40, np.nan)]
    assert estimate(30.0, samples).n_resamples == 60
    few = estimate(30.0, np.r_[np.arange(40.0), np.full(60, np.nan)])
    assert few.interval is None and "40 of 100" in few.reason
    assert estimate(np.nan, samples).value is None and estimate(np.nan, samples).reason
