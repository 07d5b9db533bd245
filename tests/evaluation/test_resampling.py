"""Resamples hold whole patients, keep strata, and spread as an independent bootstrap does."""

import numpy as np
import pytest

from radclear.evaluation import EvaluationError, PatientResamples
from radclear.evaluation import resampling as module


def all_weights(resamples):
    return np.concatenate(list(resamples.weights()))


def cohort(n_patients=60, seed=0):
    """Patients with 1 to 3 studies in scattered rows, a rare and a common class."""
    rng = np.random.default_rng(seed)
    patients = rng.permutation(
        np.repeat([f"p{i}" for i in range(n_patients)], rng.integers(1, 4, n_patients))
    )
    rare = np.isin(patients, [f"p{i}" for i in range(7)]) & (rng.random(len(patients)) < 0.8)
    return patients, np.column_stack([rng.random(len(patients)) < 0.4, rare])


def test_all_studies_of_a_patient_are_drawn_together():
    patients, labels = cohort()
    weights = all_weights(PatientResamples.stratified(patients, labels, n_resamples=50))
    for patient in set(patients):
        own = weights[:, patients == patient]
        assert (own == own[:, :1]).all()
    assert (weights == weights.round()).all() and weights.min() == 0 and weights.max() > 1


def test_every_resample_has_as_many_patients_as_there_are_in_each_stratum():
    patients, labels = cohort()
    resamples = PatientResamples.stratified(patients, labels, n_resamples=40)
    names = np.unique(patients)
    first_row = [int(np.flatnonzero(patients == name)[0]) for name in names]
    counts = all_weights(resamples)[:, first_row]
    assert sorted(np.concatenate(resamples.strata)) == list(range(len(names)))
    for stratum in resamples.strata:
        assert (counts[:, stratum].sum(axis=1) == len(stratum)).all()
    has_rare = np.array([labels[patients == name, 1].any() for name in names])
    assert (counts[:, has_rare].sum(axis=1) == has_rare.sum()).all()  # the rarest class is a stratum


def test_a_stratum_too_small_to_vary_joins_the_next():
    patients = [f"p{i}" for i in range(40)]
    labels = np.zeros((40, 2), dtype=bool)
    labels[:2, 0], labels[2:20, 1] = True, True
    resamples = PatientResamples.stratified(patients, labels, n_resamples=200)
    assert [len(stratum) for stratum in resamples.strata] == [20, 20]
    assert (all_weights(resamples)[:, 0] == 0).any()
    few = PatientResamples.stratified(patients[:3], labels[:3], n_resamples=5)
    assert [len(stratum) for stratum in few.strata] == [3]


def test_the_seed_decides_and_the_block_size_only_bounds_memory(monkeypatch):
    patients, labels = cohort()
    once = all_weights(PatientResamples.stratified(patients, labels, n_resamples=30, seed=4))
    again = all_weights(PatientResamples.stratified(patients, labels, n_resamples=30, seed=4))
    other = all_weights(PatientResamples.stratified(patients, labels, n_resamples=30, seed=5))
    assert (once == again).all() and (once != other).any()
    monkeypatch.setattr(module, "_CELLS", 4 * len(patients))
    blocks = list(PatientResamples.stratified(patients, labels, n_resamples=30, seed=4).weights())
    assert [len(block) for block in blocks] == [4] * 7 + [2]


def test_spread_of_a_mean_is_that_of_a_bootstrap_over_patients():
    """Closed form: the mean of n drawn with replacement has the variance of the values over n."""
    rng = np.random.default_rng(2)
    values = rng.normal(size=80)
    resamples = PatientResamples.stratified([f"p{i}" for i in range(80)], n_resamples=4000)
    means = all_weights(resamples) @ values / 80
    assert np.std(means) == pytest.approx(np.std(values) / np.sqrt(80), rel=0.05)
    assert np.mean(means) == pytest.approx(values.mean(), abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "0 studies"),
        ((["a"], np.zeros((2, 1))), r"\[2, 1\] for 1 studies"),
    ],
)
def test_wrong_input_is_named(arguments, message):
    with pytest.raises(EvaluationError, match=message):
        PatientResamples.stratified(*arguments)


@pytest.mark.parametrize("option", [{"n_resamples": 0}, {"seed": -1}])
def test_options_out_of_range(option):
    with pytest.raises(EvaluationError, match="expected at least"):
        PatientResamples.stratified(["a", "b"], **option)
