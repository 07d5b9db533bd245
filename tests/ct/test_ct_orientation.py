"""Whatever way a volume is stored, the canonical array and its affine are the same."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from ct_synthetic import (
    MARKS,
    codes,
    finding,
    marked_phantom,
    torso,
    turned,
    write_nifti,
    write_series,
    write_turned_series,
)

from radclear.ct import CTInputError, read_study

WAYS = list(product(permutations(range(3)), product((False, True), repeat=3)))


def expected_affine(spacing, origin) -> np.ndarray:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return affine


@pytest.mark.parametrize(("stored", "flips"), WAYS)
def test_48_ways_of_storing_give_one_array(tmp_path, stored, flips):
    hu, spacing, origin = marked_phantom()
    folder = write_turned_series(tmp_path / "dicom", hu, spacing, origin, stored, flips)
    nifti = write_nifti(tmp_path / "v.nii", *turned(hu, spacing, origin, stored, flips))
    from_dicom, from_nifti = read_study(folder), read_study(nifti)
    for study in (from_dicom, from_nifti):
        np.testing.assert_array_equal(study.hu, hu)
        np.testing.assert_allclose(study.affine, expected_affine(spacing, origin), atol=1e-5)
        np.testing.assert_allclose(study.z_mm, origin[2] + spacing[2] * np.arange(len(hu)), atol=1e-4)
        assert study.hu.flags.c_contiguous
    assert from_dicom.series_hash == from_nifti.series_hash
    assert ("non_axial" in codes(from_dicom)) == (stored[2] != 2)
    assert len(from_dicom.sop_instance_uids) == (len(hu) if stored[2] == 2 else 0)


def test_marks_lie_where_a_radiologist_expects_them(tmp_path):
    hu, spacing, origin = marked_phantom()
    study = read_study(write_turned_series(tmp_path, hu, spacing, origin, (1, 2, 0), (True, False, True)))

    def centre_mm(value: int) -> np.ndarray:
        z, y, x = np.argwhere(study.hu == value).mean(axis=0)
        return (study.affine @ [x, y, z, 1])[:3]

    assert centre_mm(MARKS["left"])[0] > centre_mm(MARKS["right"])[0]
    assert centre_mm(MARKS["posterior"])[1] > centre_mm(MARKS["anterior"])[1]
    assert centre_mm(MARKS["head"])[2] > centre_mm(MARKS["foot"])[2]
    left = np.argwhere(study.hu == MARKS["left"])[:, 2]
    assert left.min() > study.hu.shape[2] / 2, "the patient's left is on the right of the screen"


def test_a_turned_series_says_so_and_strict_refuses_it(tmp_path):
    hu, spacing, origin = marked_phantom()
    write_turned_series(tmp_path, hu, spacing, origin, (1, 2, 0), (False, True, False))
    assert "40 sagittal slices" in finding(read_study(tmp_path), "non_axial").message
    with pytest.raises(CTInputError, match="non_axial") as caught:
        read_study(tmp_path, policy="strict")
    assert caught.value.code == "refused_by_policy"


@pytest.mark.parametrize(("stored", "plane"), [((1, 2, 0), "sagittal"), ((0, 2, 1), "coronal")])
@pytest.mark.parametrize("count", [1, 12])
def test_few_non_axial_slices_are_refused(tmp_path, stored, plane, count):
    hu, spacing, origin = marked_phantom()
    narrow = hu[:, :, :count] if plane == "sagittal" else hu[:, :count]
    write_turned_series(tmp_path, narrow, spacing, origin, stored, (False,) * 3)
    with pytest.raises(CTInputError, match=f"{count} {plane} slice.*axial series is needed") as caught:
        read_study(tmp_path)
    assert caught.value.code == "not_axial"


def test_a_non_axial_series_with_a_hole_is_refused(tmp_path):
    hu, spacing, origin = marked_phantom()
    write_turned_series(tmp_path, np.dstack([hu, hu]), spacing, origin, (1, 2, 0), (False,) * 3)
    sorted(tmp_path.iterdir())[9].unlink()
    with pytest.raises(CTInputError, match="unevenly spaced sagittal") as caught:
        read_study(tmp_path)
    assert caught.value.code == "not_axial"


def test_a_narrow_volume_file_is_no_axial_study(tmp_path):
    hu, spacing, origin = marked_phantom()
    path = write_nifti(tmp_path / "v.nii", *turned(hu[:, :, :12], spacing, origin, (0, 1, 2), (False,) * 3))
    with pytest.raises(CTInputError, match="12 sagittal") as caught:
        read_study(path)
    assert caught.value.code == "not_axial"


def rotation(degrees: float, axis: int) -> np.ndarray:
    turn = np.radians(degrees)
    a, b = [k for k in range(3) if k != axis]
    matrix = np.eye(3)
    matrix[a, a] = matrix[b, b] = np.cos(turn)
    matrix[a, b], matrix[b, a] = -np.sin(turn), np.sin(turn)
    return matrix


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("degrees", "severity"), [(3.0, "info"), (20.0, "warning")])
def test_oblique_volumes_keep_their_real_affine(tmp_path, axis, degrees, severity):
    hu, turn = torso(), rotation(degrees, axis)
    steps = turn * [4.0, 4.0, 3.0]

    def place(slices):
        for k, tags in enumerate(slices):
            tags.ImageOrientationPatient = [float(f"{v:.12g}") for v in (*turn[:, 0], *turn[:, 1])]
            tags.ImagePositionPatient = [
                float(f"{v:.12g}") for v in np.array([-60, -70, -300]) + k * steps[:, 2]
            ]

    study = read_study(write_series(tmp_path, hu, change=place))
    np.testing.assert_array_equal(study.hu, hu)
    np.testing.assert_allclose(study.affine[:3, :3], steps, atol=1e-6)
    np.testing.assert_allclose(study.affine[:3, 3], [-60, -70, -300], atol=1e-6)
    centre = study.affine @ [15.5, 15.5, 4, 1]
    assert study.z_mm[4] == pytest.approx(centre[2])
    oblique = finding(study, "oblique")
    assert oblique.severity == severity and f"{degrees:.1f} degrees" in oblique.message
