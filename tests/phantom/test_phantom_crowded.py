"""Patients with lesions in every organ."""

from collections import Counter

import pytest

from radclear.phantom import LESION_KINDS, LOCATION_CLASSES, draw_crowded_patient, draw_patient, make_phantom
from radclear.phantom.cohort import write_cohort


def test_every_site_has_lesions_and_the_rest_is_the_patient_of_the_seed():
    sizes = []
    for seed in range(200):
        crowded, ordinary = draw_crowded_patient(seed), draw_patient(seed)
        tumors = Counter(lesion.site for lesion in crowded.lesions if lesion.kind != "node")
        assert set(tumors) == set(LOCATION_CLASSES)
        assert all(2 <= count <= 6 for count in tumors.values())
        assert crowded.labels["stage"] == "IV"
        assert (crowded.scale, crowded.fatness) == (ordinary.scale, ordinary.fatness)
        assert set(ordinary.diseases) <= set(crowded.diseases)
        sizes += [lesion.diameter_mm for lesion in crowded.lesions]
    assert min(sizes) < 15 and max(sizes) > 60
    assert draw_crowded_patient(3) == draw_crowded_patient(3) != draw_crowded_patient(4)


def test_most_slices_show_a_lesion():
    shown = {}
    for name, patient in (("crowded", draw_crowded_patient(5)), ("ordinary", draw_patient(5))):
        boxes = make_phantom(5, n_slices=64, size=96, patient=patient).boxes
        shown[name] = len({box.slice for box in boxes if box.kind in LESION_KINDS})
    assert shown["crowded"] >= 40 > 20 > shown["ordinary"]


def test_a_cohort_is_not_finished_by_the_other_model(tmp_path):
    options = {"n_studies": 1, "seed": 2, "n_slices": 24, "size": 64, "format": "nifti"}
    write_cohort(tmp_path, crowded=True, **options)
    assert len((tmp_path / "boxes.csv").read_text().splitlines()) > 40
    write_cohort(tmp_path, crowded=True, **options)
    with pytest.raises(ValueError, match=r"made with \{'crowded': True\}.*asks for \{'crowded': None\}"):
        write_cohort(tmp_path, **options)
