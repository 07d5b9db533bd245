"""Missing, doubled, reversed, unevenly spaced and tilted slices are found, named, and refused by 'strict'."""

from __future__ import annotations

import numpy as np
import pytest
from ct_synthetic import codes, finding, make_slices, save_all, torso, uid, write_series

from radclear.ct import CTInputError, read_study


def refused(folder, code: str) -> None:
    with pytest.raises(CTInputError) as caught:
        read_study(folder, policy="strict")
    assert caught.value.code == "refused_by_policy"
    assert code in {f.code for f in caught.value.findings}
    assert code in str(caught.value)


def test_a_sound_series_has_no_findings(tmp_path):
    hu = torso((28, 128, 128))
    study = read_study(write_series(tmp_path, hu), policy="strict")
    np.testing.assert_array_equal(study.hu, hu)
    np.testing.assert_allclose(study.z_mm, -300 + 3.0 * np.arange(28))
    assert study.spacing_mm == (4, 4, 3) and study.findings == ()
    assert study.sop_instance_uids == tuple(uid(1, 1, k + 1) for k in range(28))
    assert study.series.series_uid == uid(1, 1) and study.series.study_uid == uid(1)


def test_missing_slices_are_named(tmp_path):
    hu = torso((12, 32, 32))
    write_series(tmp_path, hu, change=lambda slices: slices.__delitem__(slice(4, 6)))
    study = read_study(tmp_path)
    gap = finding(study, "gap")
    assert gap.slices == (3, 4) and "2 slices missing" in gap.message and "9.00 mm" in gap.message
    np.testing.assert_allclose(np.diff(study.z_mm), [3, 3, 3, 9, 3, 3, 3, 3, 3])
    assert study.spacing_mm[2] == pytest.approx(3)
    np.testing.assert_array_equal(study.hu, np.delete(hu, [4, 5], axis=0))
    refused(tmp_path, "gap")


def test_gaps_are_named_in_canonical_order_for_slices_stacked_backwards(tmp_path):
    """Row and column directions that make the normal point to the feet must not turn the indices around."""

    def flip_rows(slices):
        del slices[2]
        for tags in slices:
            tags.ImageOrientationPatient = [1, 0, 0, 0, -1, 0]
            tags.ImagePositionPatient = [-64, 60, tags.ImagePositionPatient[2]]

    hu = torso((12, 32, 32))
    study = read_study(write_series(tmp_path, hu, change=flip_rows))
    assert finding(study, "gap").slices == (1, 2)
    np.testing.assert_array_equal(study.hu, np.delete(hu, 2, axis=0)[:, ::-1])
    np.testing.assert_allclose(study.affine[:3, 3], [-64, -64, -300])


def test_one_of_several_slices_at_a_position_is_kept(tmp_path):
    hu = torso((12, 32, 32))

    def double(slices):
        for k in (2, 7):
            copy = make_slices(hu)[k]
            copy.SOPInstanceUID = uid(1, 1, 100 + k)
            copy.InstanceNumber = 100 + k
            slices.insert(0, copy)

    write_series(tmp_path, hu, change=double)
    study = read_study(tmp_path)
    np.testing.assert_array_equal(study.hu, hu)
    duplicate = finding(study, "duplicate")
    assert duplicate.slices == (2, 7) and "InstanceNumber" in duplicate.message
    assert "duplicate_differs" not in codes(study)
    assert study.sop_instance_uids[2] == uid(1, 1, 3)
    refused(tmp_path, "duplicate")


def test_different_pixels_at_one_position_are_named_too(tmp_path):
    hu = torso((12, 32, 32))

    def double(slices):
        other = make_slices(torso((12, 32, 32), seed=9))[5]
        other.SOPInstanceUID, other.InstanceNumber = uid(1, 1, 0, 1), 99
        slices.append(other)

    study = read_study(write_series(tmp_path, hu, change=double))
    np.testing.assert_array_equal(study.hu, hu)
    assert {"duplicate", "duplicate_differs"} <= codes(study)


def test_instance_numbers_against_the_positions(tmp_path):
    def renumber(numbers):
        def change(slices):
            for tags, number in zip(slices, numbers, strict=True):
                tags.InstanceNumber = number

        return change

    hu = torso((28, 128, 128))
    backwards = read_study(
        write_series(tmp_path / "a", hu, change=renumber(range(28, 0, -1))), policy="strict"
    )
    assert finding(backwards, "reversed").severity == "info"
    np.testing.assert_array_equal(backwards.hu, hu)
    swapped = read_study(write_series(tmp_path / "b", hu, change=renumber([1, 2, 3, 5, 4, *range(6, 29)])))
    assert finding(swapped, "instance_order").slices == (4,)
    np.testing.assert_array_equal(swapped.hu, hu)
    refused(tmp_path / "b", "instance_order")


@pytest.mark.parametrize(("shift", "found"), [(0.02, False), (0.05, True), (1.0, True)])
def test_spacing_is_held_to_one_percent(tmp_path, shift, found):
    z = -300 + 3.0 * np.arange(12)
    z[6] += shift
    study = read_study(write_series(tmp_path, torso((12, 32, 32)), z_mm=z))
    np.testing.assert_allclose(study.z_mm, z)
    assert ("uneven_spacing" in codes(study)) == found
    if found:
        assert finding(study, "uneven_spacing").slices == (5, 6, 7)
        refused(tmp_path, "uneven_spacing")


@pytest.mark.parametrize("degrees", [-12.5, 20.0])
def test_gantry_tilt_is_measured_and_kept_in_the_affine(tmp_path, degrees):
    turn, hu = np.radians(degrees), torso((12, 32, 32))

    def tilt(slices):
        for tags in slices:
            tags.ImageOrientationPatient = [
                1,
                0,
                0,
                0,
                float(f"{np.cos(turn):.9f}"),
                float(f"{np.sin(turn):.9f}"),
            ]
            tags.GantryDetectorTilt = degrees

    write_series(tmp_path, hu, change=tilt)
    study = read_study(tmp_path)
    np.testing.assert_array_equal(study.hu, hu)
    assert f"{abs(degrees):.1f} degrees" in finding(study, "gantry_tilt").message
    np.testing.assert_allclose(study.affine[:3, 2], [0, 0, 3], atol=1e-5)
    np.testing.assert_allclose(study.affine[:3, 1], [0, 4 * np.cos(turn), 4 * np.sin(turn)], atol=1e-6)
    np.testing.assert_allclose(study.affine @ [0, 0, 5, 1], [-64, -64, -285, 1], atol=1e-4)
    refused(tmp_path, "gantry_tilt")


def test_a_tilt_that_only_the_scanner_knows_of_is_reported(tmp_path):
    def tilt(slices):
        for tags in slices:
            tags.GantryDetectorTilt = 15

    study = read_study(write_series(tmp_path, torso((12, 32, 32)), change=tilt))
    assert "15.0 degrees" in finding(study, "gantry_tilt").message


@pytest.mark.parametrize("which", [0, 5, 11])
def test_slices_shifted_sideways_are_never_made_into_a_volume(tmp_path, which):
    def shift(slices):
        slices[which].ImagePositionPatient = [-34, -64, slices[which].ImagePositionPatient[2]]

    write_series(tmp_path, torso((12, 32, 32)), change=shift)
    with pytest.raises(CTInputError, match="1 of 12 slices are shifted sideways, by up to 30.0 mm") as caught:
        read_study(tmp_path)
    assert caught.value.code == "misaligned"


def test_order_of_files_and_numbers_changes_nothing(tmp_path):
    hu = torso((12, 32, 32))
    rng = np.random.default_rng(3)
    reference = read_study(write_series(tmp_path / "a", hu))

    def shuffle(slices):
        rng.shuffle(slices)
        for tags, number in zip(slices, rng.permutation(12), strict=True):
            tags.InstanceNumber = int(number)

    shuffled = read_study(write_series(tmp_path / "b", hu, change=shuffle))
    assert shuffled.series_hash == reference.series_hash
    assert shuffled.sop_instance_uids == reference.sop_instance_uids


def test_one_slice_takes_its_depth_from_slice_thickness(tmp_path):
    write_series(tmp_path, torso((1, 32, 32)))
    study = read_study(tmp_path)
    assert study.spacing_mm[2] == 3 and codes(study) >= {"few_slices"}
    slices = make_slices(torso((1, 32, 32)))
    del slices[0].SliceThickness
    assert "unknown_thickness" in codes(read_study(save_all(slices, tmp_path / "b")))
