"""Phantoms as volumes: anatomy, masks, boxes and labels agree."""

import dataclasses
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from radclear.phantom import DISEASE_CLASSES, LESION_KINDS, LOCATION_CLASSES, draw_patient, make_phantom
from radclear.phantom.disease import stream
from radclear.phantom.placement import SITE_ORGANS
from radclear.phantom.staging import PlannedLesion
from radclear.phantom.texture import add_scanner_noise, smooth_field

ROOT = Path(__file__).resolve().parents[2]


def patient_with(seed, *lesions, diseases=(), granulomas=()):
    return dataclasses.replace(
        draw_patient(seed), lesions=lesions, diseases=diseases, granuloma_diameters_mm=granulomas
    )


@pytest.fixture(scope="module")
def phantoms():
    """Three patients that together have every site, a node, a satellite and every lung disease."""
    first = patient_with(
        11,
        PlannedLesion("liver", "primary", 42.0),
        PlannedLesion("liver", "satellite", 18.0),
        PlannedLesion("abdomen", "node", 22.0),
        PlannedLesion("lung", "metastasis", 24.0),
        PlannedLesion("bone", "metastasis", 26.0),
        diseases=("nodule", "effusion", "consolidation"),
    )
    second = patient_with(
        12,
        PlannedLesion("kidney", "primary", 60.0),
        PlannedLesion("soft_tissue", "metastasis", 30.0),
        PlannedLesion("pelvis", "metastasis", 34.0),
        PlannedLesion("mediastinum", "metastasis", 28.0),
        diseases=("ground_glass", "emphysema", "nodule"),
        granulomas=(9.0, 12.0),
    )
    third = patient_with(13)
    return [make_phantom(p.seed, n_slices=48, size=160, patient=p) for p in (first, second, third)]


def organ_hu(phantom, name):
    """Median HU of an organ without lesions and signs."""
    mask = phantom.masks[f"organ_{name}"].copy()
    for other, m in phantom.masks.items():
        if other.startswith(("lesion_", "sign_")):
            mask &= ~m
    return float(np.median(phantom.hu[mask]))


@pytest.mark.parametrize(
    ("organ", "low", "high"),
    [
        ("subcutaneous_fat", -125, -80),
        ("muscle", 35, 75),
        ("liver", 75, 135),
        ("spleen", 100, 140),
        ("kidney_right", 110, 215),
        ("kidney_left", 110, 215),
        ("aorta", 130, 240),
        ("heart", 90, 190),
        ("spine", 80, 400),
        ("femur", 120, 600),
        ("lung_right", -970, -780),
        ("lung_left", -970, -780),
        ("bladder", -15, 30),
    ],
)
def test_hounsfield_units_are_plausible(phantoms, organ, low, high):
    for phantom in phantoms:
        assert low < organ_hu(phantom, organ) < high


def test_every_organ_is_there(phantoms):
    for phantom in phantoms:
        optional = {"gallbladder"}
        for name, mask in phantom.masks.items():
            if name.startswith("organ_") and name.removeprefix("organ_") not in optional:
                assert mask.any(), name


def test_orientation_is_canonical(phantoms):
    def center(phantom, name):
        return np.argwhere(phantom.masks[f"organ_{name}"]).mean(axis=0)

    for phantom in phantoms:
        assert phantom.hu.dtype == np.int16 and phantom.hu.min() >= -1024
        assert center(phantom, "liver")[2] < center(phantom, "spleen")[2]  # x grows to the patient's left
        assert center(phantom, "lung_right")[2] < center(phantom, "lung_left")[2]
        assert center(phantom, "sternum")[1] < center(phantom, "spine")[1]  # y to posterior
        assert center(phantom, "bladder")[0] < center(phantom, "liver")[0] < center(phantom, "lung_right")[0]
        assert np.all(np.diag(phantom.affine) > 0)


def test_lesions_follow_the_plan(phantoms):
    for phantom in phantoms:
        planned = [(lesion.site, lesion.kind, lesion.diameter_mm) for lesion in phantom.patient.lesions]
        drawn = [(n.site, n.kind, n.diameter_mm) for n in phantom.lesions if n.kind != "granuloma"]
        assert drawn == planned
        assert len(phantom.lesions) - len(drawn) == len(phantom.patient.granuloma_diameters_mm)


def test_a_lesion_lies_in_its_organ_and_has_its_size(phantoms):
    sx = phantoms[0].spacing_mm[0]
    for phantom in phantoms:
        for lesion in phantom.lesions:
            assert lesion.organ in SITE_ORGANS[lesion.site]
            mask = lesion.mask(phantom.hu.shape)
            assert mask[lesion.center]
            assert phantom.masks[f"organ_{lesion.organ}"][lesion.center]
            # The longest in-plane distance of two mask voxels, by brute force on the largest cross section.
            points = np.argwhere(mask[lesion.key_slice]) * phantom.spacing_mm[0]
            widest = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1)).max() + sx
            assert widest == pytest.approx(lesion.diameter_mm, rel=0.2, abs=2 * sx)


def test_lesions_do_not_overlap_much(phantoms):
    for phantom in phantoms:
        total = sum(lesion.mask(phantom.hu.shape).astype(int) for lesion in phantom.lesions)
        if phantom.lesions:
            assert (total > 1).sum() < 0.02 * (total > 0).sum()


def test_lesions_can_be_seen(phantoms):
    """The core of a lesion differs from the ring around it."""
    from scipy import ndimage

    for phantom in phantoms:
        for lesion in phantom.lesions:
            k = lesion.key_slice
            mask = lesion.mask(phantom.hu.shape)[k]
            ring = ndimage.binary_dilation(mask, iterations=4) & ~ndimage.binary_dilation(mask)
            ring &= phantom.masks[f"organ_{lesion.organ}"][k]
            if ring.sum() < 5:
                continue
            contrast = abs(np.median(phantom.hu[k][mask]) - np.median(phantom.hu[k][ring]))
            assert contrast > 15, (lesion.site, lesion.organ, contrast)


def test_boxes_enclose_the_masks_slice_by_slice(phantoms):
    for phantom in phantoms:
        boxes = [box for box in phantom.boxes if box.kind in LESION_KINDS]
        tumors = [lesion for lesion in phantom.lesions if lesion.kind != "granuloma"]
        assert len(boxes) == sum(int(n.crop.any(axis=(1, 2)).sum()) for n in tumors)
        for lesion in tumors:
            mask = lesion.mask(phantom.hu.shape)
            for k in np.flatnonzero(mask.any(axis=(1, 2))):
                ys, xs = np.nonzero(mask[k])
                tight = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
                assert any(
                    b.slice == k
                    and (b.x1, b.y1, b.x2, b.y2) == tight
                    and (b.site, b.kind) == (lesion.site, lesion.kind)
                    for b in boxes
                )


def test_boxes_agree_with_the_labels(phantoms):
    for phantom in phantoms:
        tumor_sites = {box.site for box in phantom.boxes if box.kind in LESION_KINDS}
        signs = {box.kind for box in phantom.boxes if box.kind in DISEASE_CLASSES}
        assert tumor_sites == {c for c in LOCATION_CLASSES if phantom.labels[f"location_{c}"]}
        assert signs == {c for c in DISEASE_CLASSES if phantom.labels[f"disease_{c}"]} == set(phantom.signs)
        n_z, n_y, n_x = phantom.hu.shape
        for b in phantom.boxes:
            assert 0 <= b.slice < n_z and 0 <= b.x1 < b.x2 <= n_x and 0 <= b.y1 < b.y2 <= n_y


@pytest.mark.parametrize(
    ("sign", "low", "high"),
    [
        ("consolidation", -150, 90),
        ("ground_glass", -700, -250),
        ("emphysema", -1000, -930),
        ("effusion", -20, 40),
    ],
)
def test_signs_have_their_density(phantoms, sign, low, high):
    found = [p for p in phantoms if sign in p.signs]
    assert found
    for phantom in found:
        mask = phantom.signs[sign]
        assert mask.sum() > 200
        assert low < np.median(phantom.hu[mask]) < high
        lung = phantom.masks["organ_lung_right"] | phantom.masks["organ_lung_left"]
        assert (mask & lung).sum() > 0.95 * mask.sum()


def test_the_same_seed_gives_the_same_bytes_in_another_process():
    def digest(hu):
        return hashlib.sha256(np.ascontiguousarray(hu, "<i2").tobytes()).hexdigest()

    here = digest(make_phantom(3, n_slices=32, size=96).hu)
    code = (
        "import hashlib, numpy as np; from radclear.phantom import make_phantom; "
        "hu = make_phantom(3, n_slices=32, size=96).hu; "
        "print(hashlib.sha256(np.ascontiguousarray(hu, '<i2').tobytes()).hexdigest())"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    assert there.stdout.strip() == here
    assert digest(make_phantom(4, n_slices=32, size=96).hu) != here


def test_labels_do_not_depend_on_the_grid():
    assert make_phantom(5, n_slices=24, size=64).labels == draw_patient(5).labels


def test_noise_is_as_asked():
    quiet = make_phantom(6, n_slices=32, size=128, noise_hu=0)
    loud = make_phantom(6, n_slices=32, size=128, noise_hu=20)
    difference = (loud.hu.astype(int) - quiet.hu)[quiet.hu > -900]
    assert 16 < difference.std() < 26


@pytest.mark.parametrize(
    "options", [{"n_slices": 3}, {"size": 10}, {"size": 5000}, {"noise_hu": -1}, {"n_slices": 23}]
)
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        make_phantom(1, **options)


def test_smooth_field_has_unit_variance_and_is_smooth():
    field = smooth_field(stream(0, "test"), (20, 100, 101), (5, 10, 10))
    assert field.shape == (20, 100, 101) and field.dtype == np.float32
    assert 0.8 < field.std() < 1.2
    assert np.abs(np.diff(field, axis=2)).max() < 0.6


def test_scanner_noise_has_the_stated_width_and_correlation():
    hu = np.zeros((8, 96, 96), np.float32)
    add_scanner_noise(hu, stream(0, "test"), sigma_hu=12, correlation_px=0.8, slice_gain=np.ones(8))
    assert hu.std() == pytest.approx(12, rel=0.05)
    neighbours = np.corrcoef(hu[:, :, 1:].ravel(), hu[:, :, :-1].ravel())[0, 1]
    # Two Gaussians of width s convolved: exp(-d² / 4s²) at a distance of d pixels.
    assert neighbours == pytest.approx(np.exp(-1 / (4 * 0.8**2)), abs=0.06)
