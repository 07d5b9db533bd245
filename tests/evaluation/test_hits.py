"""hit@k by hand, against the older hit rate, and its level of chance against drawing at random."""

import numpy as np
import pytest

from radclear.evaluation import EvaluationError, key_slice_hit_rate, key_slice_hits

RANKED = {"a": [40, 11, 2, 7, 9], "b": [5, 1, 2, 3, 4], "c": [6, 8, 30, 31, 32], "d": [1, 2, 3, 4, 5]}
ANNOTATED = {"a": [10, 11], "b": {5}, "c": [33], "d": []}


def test_by_hand():
    one, three, five = key_slice_hits(RANKED, ANNOTATED, n_resamples=200)
    assert [(h.k, h.n_hit, h.n_studies) for h in (one, three, five)] == [(1, 1, 3), (3, 2, 3), (5, 2, 3)]
    assert one.missed == ("a", "c") and five.missed == ("c",)
    assert three.rate.value == pytest.approx(2 / 3) and three.rate.interval == (0.0, 1.0)
    assert five.chance is None and five.n_patients == 3
    near = key_slice_hits(RANKED, ANNOTATED, tolerance_slices=1, n_resamples=50)
    assert [h.n_hit for h in near] == [1, 2, 3]


def test_agrees_with_the_hit_rate_of_the_first_k():
    rng = np.random.default_rng(0)
    ranked = {f"s{i}": rng.permutation(20).tolist() for i in range(30)}
    annotated = {f"s{i}": rng.integers(0, 20, 2).tolist() for i in range(30)}
    for hits in key_slice_hits(ranked, annotated, ks=(1, 2, 7), n_resamples=20):
        cut = {study: slices[: hits.k] for study, slices in ranked.items()}
        old = key_slice_hit_rate(cut, annotated)
        assert (hits.n_hit, hits.rate.value, hits.missed) == (old.n_hit, pytest.approx(old.rate), old.missed)


def test_chance_is_what_random_key_slices_reach():
    """The formula against 4000 random rankings."""
    rng = np.random.default_rng(1)
    annotated, n_slices = {"a": [3, 4], "b": [0, 9]}, {"a": 12, "b": 10}
    for hits in key_slice_hits(
        {s: list(range(n)) for s, n in n_slices.items()},
        annotated,
        ks=(1, 3),
        tolerance_slices=1,
        n_slices=n_slices,
        n_resamples=20,
    ):
        drawn = []
        for study, n in n_slices.items():
            for _ in range(2000):
                keys = rng.permutation(n)[: hits.k]
                drawn.append(min(abs(k - a) for k in keys for a in annotated[study]) <= 1)
        assert hits.chance == pytest.approx(np.mean(drawn), abs=0.03)


def test_studies_of_a_patient_are_drawn_together():
    """Four studies, two patients, one with all hits: the rate is 1/2 and the interval reaches from 0 to 1; as
    four patients it would not reach either end so often."""
    ranked = {f"s{i}": [i] for i in range(40)}
    annotated = {f"s{i}": [i if i < 20 else 99] for i in range(40)}
    patients = {f"s{i}": "first" if i < 20 else "second" for i in range(40)}
    (clustered,) = key_slice_hits(ranked, annotated, ks=(1,), patients=patients, n_resamples=500)
    (independent,) = key_slice_hits(ranked, annotated, ks=(1,), n_resamples=500)
    assert clustered.rate.value == independent.rate.value == 0.5
    assert clustered.rate.interval == (0.0, 1.0) and clustered.n_patients == 2
    assert 0.2 < independent.rate.interval[0] < independent.rate.interval[1] < 0.8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotated_slices": {"z": [1]}}, "1 annotated studies have no key slices, the first is z"),
        ({"annotated_slices": {"a": []}}, "no study has annotated slices"),
        ({"ks": (1, 6)}, "study a has 5 key slices; hit@6 needs 6"),
        ({"ks": (0,)}, "k from 1"),
        ({"ks": ()}, "k from 1"),
        ({"tolerance_slices": -1}, "tolerance from 0"),
    ],
)
def test_wrong_input_is_named(change, message):
    arguments = {"ranked_slices": RANKED, "annotated_slices": ANNOTATED} | change
    with pytest.raises(EvaluationError, match=message):
        key_slice_hits(**arguments)


def test_short_studies_need_no_more_key_slices_than_slices():
    (hits,) = key_slice_hits({"a": [0, 1]}, {"a": [1]}, ks=(5,), n_slices={"a": 2}, n_resamples=10)
    assert (hits.n_hit, hits.chance) == (1, 1.0)
