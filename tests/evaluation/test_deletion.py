"""The deletion test with answers whose dependence on slices is known."""

import numpy as np
import pytest
import torch

from radclear.evaluation import EvaluationError, deletion_test

LESIONS = {f"s{i}": [3 + i % 4] for i in range(12)}


def bags(n_slices=20, n_windows=1, as_tensor=False):
    """Instances of 2 numbers: 1 in the first where the slice shows the lesion; the slice's index."""
    made = {}
    for study, lesion in LESIONS.items():
        index = np.repeat(np.arange(n_slices), n_windows)
        bag = np.stack([np.isin(index, lesion), index], axis=1).astype(np.float64)
        made[study] = torch.from_numpy(bag) if as_tensor else bag
    return made


def finds_lesion(bag):
    """0.9 with the lesion in the bag, else 0.2."""
    return 0.9 if bag[:, 0].max() > 0 else 0.2


def test_an_answer_that_rests_on_the_lesion():
    found = deletion_test(finds_lesion, bags(), LESIONS, n_resamples=200)
    assert found.lesion.value == pytest.approx(0.7) and found.other.value == 0
    assert found.lesion_lowers and found.other_does_not and found.passed
    assert (len(found.studies), found.n_patients, found.excluded) == (12, 12, ())
    assert all(s.n_removed == 1 and s.n_slices == 20 for s in found.studies)


def test_an_answer_that_counts_slices_does_not_pass():
    """It falls as much without any other slice."""
    found = deletion_test(lambda bag: len(bag) / 40, bags(), LESIONS, n_resamples=200)
    assert found.lesion.value == pytest.approx(found.other.value) == pytest.approx(1 / 40)
    assert found.difference.value == pytest.approx(0) and not found.passed
    assert found.lesion_lowers and not found.other_does_not


def test_an_answer_that_ignores_the_lesion_does_not_pass():
    found = deletion_test(lambda bag: 0.8, bags(), LESIONS, n_resamples=200)
    assert not found.lesion_lowers and found.other_does_not and not found.passed


def test_intervals_are_paired_and_over_patients():
    """Half of the patients fall by 0.7, half by 0.1: the mean is 0.4, and the interval of two patients' means
    reaches from 0.1 to 0.7."""

    def answer(bag):
        fall = 0.7 if bag[0, 1] == 0 else 0.1
        return 0.8 if bag[:, 0].max() > 0 else 0.8 - fall

    made = bags()
    for study in list(made)[6:]:
        made[study] = made[study] + [0, 100]
    patients = {study: "first" if i < 6 else "second" for i, study in enumerate(made)}
    found = deletion_test(answer, made, LESIONS, patients=patients, n_resamples=500)
    assert found.n_patients == 2 and found.lesion.value == pytest.approx(0.4)
    assert found.lesion.interval == pytest.approx((0.1, 0.7))
    assert found.difference.interval == pytest.approx((0.1, 0.7))


def test_all_windows_of_a_slice_go_and_as_many_others():
    """Each bag that is asked about is whole, or lacks one lesion slice or one other, in both windows."""
    asked = []

    def answer(bag):
        asked.append(bag.numpy())
        return finds_lesion(bag)

    deletion_test(answer, bags(n_windows=2, as_tensor=True), LESIONS, n_windows=2, n_draws=3, n_resamples=10)
    assert len(asked) == 12 * (1 + 1 + 1 + 3)
    for bag in asked:
        assert len(bag) in (40, 38)
        slices, windows = np.unique(bag[:, 1], return_counts=True)
        assert len(slices) == len(bag) / 2 and (windows == 2).all()
    lesion_gone = [len(bag) == 38 and bag[:, 0].max() == 0 for bag in asked]
    assert sum(lesion_gone) == 12  # once per study: random draws never take the lesion


def test_margin_belongs_to_the_lesion():
    found = deletion_test(finds_lesion, bags(), LESIONS, margin_slices=2, n_resamples=20)
    assert {s.n_removed for s in found.studies} == {5}
    few = deletion_test(finds_lesion, bags(), {**LESIONS, "s0": range(12), "s1": []}, n_resamples=20)
    assert dict(few.excluded) == {
        "s0": "12 of 20 slices show the lesion; too few others",
        "s1": "no annotated slice",
    }
    assert len(few.studies) == 10


def test_the_same_seed_draws_the_same_slices():
    def answer(bag):
        return float(bag[:, 1].mean() / 30)

    one, two, other = (deletion_test(answer, bags(), LESIONS, seed=s, n_resamples=20) for s in (1, 1, 2))
    assert one == two and one.other != other.other


def test_an_answer_that_is_random_at_evaluation_is_refused():
    """Error 6 of the method's published code: bags sampled anew at test time."""
    rng = np.random.default_rng(0)
    with pytest.raises(EvaluationError, match="two answers for the same bag.*eval mode"):
        deletion_test(lambda bag: rng.random(), bags(), LESIONS)


def test_dropout_left_on_is_refused():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(2, 1), torch.nn.Sigmoid()).double()

    def answer(bag):
        return network(bag).mean()

    made = bags(as_tensor=True)
    with pytest.raises(EvaluationError, match="eval mode"):
        deletion_test(answer, made, LESIONS)
    network.eval()
    assert deletion_test(answer, made, LESIONS, n_resamples=20).studies


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lesion_slices": {"absent": [1]}}, "absent has no bag"),
        ({"lesion_slices": {"s0": [20]}}, "slice 20 of study s0.*0 to 19"),
        ({"lesion_slices": {"s0": []}}, "no annotated slice"),
        ({"lesion_slices": {}}, "none of 0 annotated"),
        ({"n_windows": 3}, "multiple of 3 windows"),
        ({"n_draws": 0}, "1 or more"),
        ({"probability": lambda bag: 1.7}, "is 1.7; expected one probability"),
        ({"probability": lambda bag: float("nan")}, "is nan; expected one probability"),
    ],
)
def test_wrong_input_is_named(change, message):
    arguments = {"probability": finds_lesion, "bags": bags(), "lesion_slices": LESIONS} | change
    with pytest.raises(EvaluationError, match=message):
        deletion_test(**arguments)


def test_one_patient_shows_falls_but_proves_nothing():
    found = deletion_test(finds_lesion, bags(), {"s0": [3]}, n_resamples=20)
    assert found.lesion.value == pytest.approx(0.7) and found.lesion.interval is None
    assert "one patient" in found.lesion.reason and not found.passed
