"""Patients with lesions in every organ, alone and as twins."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from radclear.phantom import (
    LESION_KINDS,
    LOCATION_CLASSES,
    draw_crowded_patient,
    draw_patient,
    draw_twins,
    make_phantom,
)
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


def test_twins_share_the_lesions_of_a_crowded_patient():
    n_granulomas = 0
    for seed in range(200):
        crowded, ordinary = draw_crowded_patient(seed), draw_patient(seed)
        pair = draw_twins(seed)
        sizes = [sorted((one.site, one.diameter_mm) for one in twin.lesions) for twin in (crowded, *pair)]
        assert sizes[0] == sorted(sizes[1] + sizes[2])
        for twin in pair:
            counts = Counter((one.site, one.kind == "node") for one in twin.lesions)
            of_both = Counter((one.site, one.kind == "node") for one in crowded.lesions)
            assert all(abs(2 * counts[key] - of_both[key]) <= 1 for key in of_both)
            assert twin.labels["stage"] == "IV"  # exactly one primary, or the rules would refuse
            small = any(one.site == "lung" and one.diameter_mm <= 30 for one in twin.lesions)
            n_granulomas += bool(twin.granuloma_diameters_mm)
            assert ("nodule" in twin.diseases) == (small or bool(twin.granuloma_diameters_mm))
            assert {*twin.diseases, "nodule"} == {*ordinary.diseases, "nodule"}
            body = (twin.scale, twin.fatness, twin.age_years, twin.granuloma_diameters_mm)
            assert body == (
                ordinary.scale,
                ordinary.fatness,
                ordinary.age_years,
                ordinary.granuloma_diameters_mm,
            )
    assert n_granulomas > 20


def test_phantoms_of_twins_differ_near_their_lesions_alone():
    first, second = (make_phantom(6, n_slices=32, size=96, patient=twin) for twin in draw_twins(6))
    np.testing.assert_array_equal(first.affine, second.affine)
    near = np.zeros(first.hu.shape, bool)
    for phantom in (first, second):
        for number in range(len(phantom.lesions)):
            z, y, x = np.nonzero(phantom.masks[f"lesion_{number}"])
            around = [(z, 1), (y, 6), (x, 6)]
            near[tuple(slice(max(0, n.min() - room), n.max() + 1 + room) for n, room in around)] = True
    assert near.mean() < 0.2
    # Noise grows with the tissue of a slice, which a lesion in the lung changes by a little.
    difference = np.abs(first.hu.astype(int) - second.hu)
    assert difference[~near].max() <= 3
    assert difference[near].max() > 100


def test_a_cohort_of_twins_has_two_studies_of_one_patient_in_one_split(tmp_path):
    options = {"seed": 2, "n_slices": 24, "size": 64, "format": "nifti"}
    write_cohort(tmp_path, twins=True, n_studies=6, splits=(0.4, 0.3, 0.3), **options)
    table = pd.read_csv(tmp_path / "labels.csv")
    assert table["patient"].tolist() == [f"PHANTOM-{2_000_000 + n}" for n in (0, 0, 1, 1, 2, 2)]
    assert sorted(table.groupby("patient")["split"].agg(set).map(tuple)) == [("test",), ("train",), ("val",)]
    boxes = pd.read_csv(tmp_path / "boxes.csv")
    assert set(boxes["study"]) == set(table["study"])
    for n_studies, crowded in ((5, False), (6, True)):
        with pytest.raises(ValueError, match=r"even number of studies \(found [56]\), and exclude crowded"):
            write_cohort(tmp_path / "no", twins=True, n_studies=n_studies, crowded=crowded, **options)
