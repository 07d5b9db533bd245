"""Files are grouped into stacks, localizers dropped, and one series chosen for a stated reason."""

from __future__ import annotations

import pytest
from ct_synthetic import codes, finding, make_slices, save, save_all, torso, uid, write_series

from radclear.ct import CTInputError, read_study


def marked(tags_list, **tags):
    for made in tags_list:
        for keyword, value in tags.items():
            setattr(made, keyword, value)
    return tags_list


def series(number: int, n_slices: int = 9, *, seed: int = 0, **tags):
    return marked(make_slices(torso((n_slices, 32, 32), seed=seed), series=number), **tags)


def test_one_series_needs_no_choice(tmp_path):
    study = read_study(write_series(tmp_path))
    assert (study.series.n_candidates, study.series.reason) == (1, "the only usable CT series")
    assert study.series.source_format == "dicom" and study.path == tmp_path


@pytest.mark.parametrize(
    ("loser", "winner", "rule"),
    [
        (series(1, 3), series(2, 9), "at least 8 slices"),
        (
            series(1, 12, ImageType=["DERIVED", "PRIMARY", "AXIAL"]),
            series(2, 9),
            "original rather than derived",
        ),
        (
            series(1, 12, ImageType=["ORIGINAL", "PRIMARY", "AXIAL", "MIP"]),
            series(2, 9, ImageType=["DERIVED", "PRIMARY", "AXIAL"]),
            "original rather than derived or projected",
        ),
        (series(1, 9), series(2, 12), "longest range"),
        (
            series(1, 9),
            make_slices(torso((16, 32, 32)), series=2, z_mm=[-300 + 1.5 * k for k in range(16)]),
            "most slices",
        ),
        (series(3, 9), series(2, 9, seed=1), "lowest SeriesNumber"),
    ],
)
def test_each_rule_decides_and_is_named(tmp_path, loser, winner, rule):
    save_all(loser, tmp_path / "loser")
    save_all(winner, tmp_path / "winner")
    study = read_study(tmp_path)
    assert study.series.series_uid == winner[0].SeriesInstanceUID
    assert rule in study.series.reason and study.series.n_candidates == 2
    assert rule in finding(study, "series_choice").message
    asked = read_study(tmp_path, series=loser[0].SeriesInstanceUID)
    assert asked.series.series_uid == loser[0].SeriesInstanceUID
    assert asked.series.reason.startswith("it was asked for")


def test_axial_wins_over_a_sagittal_volume(tmp_path):
    import numpy as np
    from ct_synthetic import marked_phantom, write_turned_series

    hu, spacing, origin = marked_phantom()
    write_turned_series(tmp_path / "sagittal", hu, spacing, origin, (1, 2, 0), (False,) * 3)
    save_all(series(2, 3), tmp_path / "axial")
    study = read_study(tmp_path)
    assert study.series.series_uid == uid(1, 2) and "axial" in study.series.reason
    np.testing.assert_array_equal(read_study(tmp_path, series=uid(1, 1)).hu, hu)


def test_localizers_other_modalities_and_reports_are_left_aside(tmp_path):
    write_series(tmp_path / "ct", torso((9, 32, 32)))
    save_all(series(2, 2, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), tmp_path / "scout")
    save_all(series(3, 4, Modality="PT"), tmp_path / "pet")
    save_all(series(4, 1, SOPClassUID="1.2.840.10008.5.1.4.1.1.7"), tmp_path / "capture")
    (tmp_path / "notes.txt").write_text("nothing of interest " * 20)
    (tmp_path / ".hidden.dcm").write_bytes(b"\0" * 200)
    study = read_study(tmp_path)
    assert study.series.series_uid == uid(1, 1) and study.hu.shape[0] == 9
    message = finding(study, "ignored_files").message
    for part in ("2 localizer", "4 other modality", "1 not an image", "1 not dicom"):
        assert part in message


def test_a_dicomdir_is_never_followed(tmp_path):
    write_series(tmp_path)
    (tags,) = make_slices(torso((1, 32, 32)))
    tags.SOPClassUID = "1.2.840.10008.1.3.10"
    save(tags, tmp_path / "DICOMDIR")
    assert len(read_study(tmp_path).hu) == 6


def test_parts_of_a_series_that_do_not_fit_are_reported(tmp_path):
    slices = series(1, 12)
    for tags in slices[9:]:
        tags.PixelSpacing = [2.0, 2.0]
    study = read_study(save_all(slices, tmp_path))
    assert len(study.hu) == 9
    assert "3 slices of the same series" in finding(study, "split_series").message


def test_acquisitions_that_continue_each_other_stay_together(tmp_path):
    slices = series(1, 12)
    for k, tags in enumerate(slices):
        tags.AcquisitionNumber, tags.InstanceNumber = k // 2 + 1, k % 2 + 1
    study = read_study(save_all(slices, tmp_path))
    assert len(study.hu) == 12 and not codes(study) & {"split_series", "duplicate", "instance_order"}


def test_acquisitions_at_the_same_place_part(tmp_path):
    first, second = series(1, 9), series(1, 9, seed=5, AcquisitionNumber=2)
    for k, tags in enumerate(second):
        tags.SOPInstanceUID, tags.InstanceNumber = uid(1, 1, 50 + k), 50 + k
    study = read_study(save_all(first + second, tmp_path))
    assert len(study.hu) == 9 and study.sop_instance_uids[0] == uid(1, 1, 1)
    assert "lowest AcquisitionNumber" in study.series.reason and "split_series" in codes(study)
    assert "duplicate" not in codes(study)


def test_two_studies_in_one_folder_are_reported(tmp_path):
    write_series(tmp_path / "a")
    write_series(tmp_path / "b", study=2)
    assert "2 studies" in finding(read_study(tmp_path), "several_studies").message


def test_an_unknown_series_is_refused_with_the_known_ones(tmp_path):
    write_series(tmp_path)
    with pytest.raises(CTInputError, match=f"leave it out .* name one of 1: {uid(1, 1)}") as caught:
        read_study(tmp_path, series="1.2.3")
    assert caught.value.code == "series_not_found"


def test_one_bad_slice_spoils_its_series_but_not_the_others(tmp_path):
    slices = series(1, 12)
    del slices[4].RescaleSlope
    save_all(slices, tmp_path / "a")
    with pytest.raises(
        CTInputError, match="1 of the files of the series cannot be used.*RescaleSlope"
    ) as caught:
        read_study(tmp_path)
    assert caught.value.code == "missing_tag"
    save_all(series(2, 9), tmp_path / "b")
    study = read_study(tmp_path)
    assert study.series.series_uid == uid(1, 2) and "no unreadable files" in study.series.reason
    assert "RescaleSlope" in finding(study, "unreadable_file").message


@pytest.mark.parametrize(
    ("tags", "code", "match"),
    [
        ({"Modality": "MR"}, "not_ct", "9 of MR"),
        ({"SeriesInstanceUID": "../../etc/passwd"}, "bad_tag", "SeriesInstanceUID"),
    ],
)
def test_nothing_usable_is_explained(tmp_path, tags, code, match):
    slices = series(1)
    for made in slices:
        for keyword, value in tags.items():
            made.add_new(keyword, "CS" if keyword == "Modality" else "LO", value)
    with pytest.raises(CTInputError, match=match) as caught:
        read_study(save_all(slices, tmp_path))
    assert caught.value.code == code


def test_empty_and_missing_paths(tmp_path):
    for path, code in ((tmp_path / "nowhere", "path_not_found"), (tmp_path, "no_ct_found")):
        with pytest.raises(CTInputError) as caught:
            read_study(path)
        assert caught.value.code == code
    with pytest.raises(ValueError, match="policy is 'lenient'"):
        read_study(tmp_path, policy="lenient")
