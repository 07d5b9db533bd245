"""The disease model over many patients, without pixels."""

from collections import Counter

import pytest

from radclear.phantom import DISEASE_CLASSES, LOCATION_CLASSES, STAGE_CLASSES, draw_patient
from radclear.phantom.disease import NODE_STATION

N = 2000


@pytest.fixture(scope="module")
def patients():
    return [draw_patient(seed) for seed in range(N)]


def test_stages_are_balanced_and_a_sixth_has_no_tumor(patients):
    stages = Counter(p.labels["stage"] for p in patients)
    assert set(stages) == {"", *STAGE_CLASSES}
    assert 0.14 < stages[""] / N < 0.20
    for stage in STAGE_CLASSES:
        assert 0.16 < stages[stage] / N < 0.27


def test_every_class_is_common_enough_to_learn(patients):
    for column in [f"location_{c}" for c in LOCATION_CLASSES] + [f"disease_{c}" for c in DISEASE_CLASSES]:
        assert 0.11 < sum(p.labels[column] for p in patients) / N < 0.40, column
    assert 0.21 < sum(not p.diseases for p in patients) / N < 0.30


def test_location_labels_are_the_sites_of_the_lesions(patients):
    for p in patients:
        sites = {lesion.site for lesion in p.lesions}
        assert {c for c in LOCATION_CLASSES if p.labels[f"location_{c}"]} == sites
        assert (p.labels["stage"] == "") == (not p.lesions)


def test_a_small_lung_tumor_is_a_nodule_and_a_granuloma_is_no_tumor(patients):
    seen = Counter()
    for p in patients:
        small = any(n.site == "lung" and n.diameter_mm <= 30 for n in p.lesions)
        assert ("nodule" in p.diseases) == (small or bool(p.granuloma_diameters_mm))
        mass_only = any(n.site == "lung" for n in p.lesions) and not small
        seen["tumor nodule"] += small
        seen["granuloma without lung tumor"] += (
            bool(p.granuloma_diameters_mm) and not p.labels["location_lung"]
        )
        seen["mass without nodule"] += mass_only and "nodule" not in p.diseases
    assert min(seen.values()) > 20, seen


def test_nodes_lie_in_the_station_of_the_primary(patients):
    for p in patients:
        for lesion in p.lesions:
            if lesion.kind == "node":
                assert lesion.site == NODE_STATION[p.lesions[0].site]


def test_sizes(patients):
    diameters = [lesion.diameter_mm for p in patients for lesion in p.lesions]
    assert 8 <= min(diameters) and max(diameters) <= 70


def test_a_patient_depends_on_the_seed_alone():
    assert draw_patient(7) == draw_patient(7)
    assert draw_patient(7) != draw_patient(8)


@pytest.mark.parametrize("seed", [-1, 1.5, "a"])
def test_bad_seed(seed):
    with pytest.raises(ValueError, match="seed"):
        draw_patient(seed)
