"""Two tables on the same studies."""

from dataclasses import replace

import numpy as np
import pytest
from made_tables import CLASSES, multilabel_table, ordinal_table

from radclear.evaluation import EvaluationError, compare, delong_test, evaluate, holm, metric_panel
from radclear.evaluation.panel import decide


def pair(n_resamples=300, **options):
    first = multilabel_table(seed=1, strength=2.0, name="first.csv", **options)
    second = multilabel_table(seed=2, strength=0.7, name="second.csv", **options)
    return evaluate(first, n_resamples=n_resamples), second


def test_differences_and_tests():
    evaluation, second = pair()
    found = compare(evaluation, second)
    other = evaluate(second, n_resamples=20)
    p_values = []
    for c, name in enumerate(CLASSES):
        for metric, entry in found.differences[name].items():
            one, two = (e.estimates[name][metric].value for e in (evaluation, other))
            assert entry.value == pytest.approx(one - two, abs=1e-12)
        expected = delong_test(
            evaluation.table.probabilities[:, c],
            second.probabilities[:, c],
            second.truth[:, c],
            patients=second.patients,
        )
        assert found.tests[name] == expected
        assert found.tests[name].difference == pytest.approx(found.differences[name]["auroc"].value)
        p_values.append(expected.p_value)
    assert list(found.p_holm.values()) == pytest.approx(holm(p_values))


def test_both_tables_are_resampled_alike():
    """By hand from the resamples' weights; unpaired resamples would give a wider interval."""
    evaluation, second = pair()
    weights = np.concatenate(list(evaluation.resamples.weights()))
    samples = []
    for table in (evaluation.table, second):
        decided = decide(table.probabilities, CLASSES, kind="multilabel", settings=evaluation.settings)
        panel = metric_panel(
            table.probabilities,
            table.truth,
            decided,
            weights,
            kind="multilabel",
            settings=evaluation.settings,
        )
        samples.append(panel["auprc"][:, 2])
    entry = compare(evaluation, second).differences["lung"]["auprc"]
    assert entry.interval == pytest.approx(tuple(np.quantile(samples[0] - samples[1], [0.025, 0.975])))


def test_p_value_and_interval_of_the_bootstrap_agree():
    found = compare(*pair(n_resamples=1000))
    for name, metrics in found.differences.items():
        for metric, entry in metrics.items():
            p = found.p_bootstrap[name][metric]
            if not 0.04 < p < 0.06:
                assert (p < 0.05) == (not entry.interval[0] <= 0 <= entry.interval[1]), (name, metric)
            assert 0 < p <= 1


def test_rows_and_classes_in_another_order_change_nothing():
    evaluation, second = pair()
    shuffled = second.take(np.random.default_rng(0).permutation(second.n_studies))
    shuffled = replace(
        shuffled,
        classes=CLASSES[::-1],
        probabilities=shuffled.probabilities[:, ::-1],
        truth=shuffled.truth[:, ::-1],
    )
    one, two = compare(evaluation, second), compare(evaluation, shuffled)
    assert one.differences == two.differences and one.tests == two.tests
    assert compare(evaluation, replace(shuffled, truth=None)).tests == one.tests


def test_a_table_with_itself_has_no_difference_and_no_test():
    evaluation, _ = pair()
    found = compare(evaluation, evaluation.table)
    assert found.differences["lung"]["auroc"].value == 0
    assert found.p_holm == dict.fromkeys(CLASSES) and "zero" in found.reasons["lung"]


def test_undefined_classes_stay_out_of_holm():
    evaluation, second = pair()
    evaluation.table.truth[:, 0] = False
    second.truth[:, 0] = False
    evaluation = evaluate(evaluation.table, n_resamples=50)
    found = compare(evaluation, second)
    assert found.tests["bone"] is None and found.reasons["bone"] == "no positive study"
    assert found.differences["bone"]["brier"].value is None
    rest = [found.tests[name].p_value for name in ("liver", "lung")]
    assert [found.p_holm[name] for name in ("liver", "lung")] == pytest.approx(holm(rest))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.take(np.arange(t.n_studies - 2)), "lacks 2 studies"),
        (lambda t: replace(t, classes=("bone", "liver", "spleen")), "only predictions of the same"),
        (lambda t: replace(t, patients=("stranger", *t.patients[1:])), "another patient for 1 studies"),
        (lambda t: replace(t, truth=~t.truth), "other labels for 120 studies"),
        (lambda t: ordinal_table(), "is ordinal"),
    ],
)
def test_tables_about_something_else_are_refused(change, message):
    evaluation, second = pair(n_resamples=10)
    with pytest.raises(EvaluationError, match=message):
        compare(evaluation, change(second))
