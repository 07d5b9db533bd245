"""From metadata the same series is chosen, for the same reason, as from the files."""

from __future__ import annotations

import pytest
from ct_synthetic import enhanced, make_slices, save, save_all, torso, uid

from radclear.ct import CTInputError, choose_from_metadata, read_study


def series(number: int, n_slices: int = 9, **tags):
    made = make_slices(torso((n_slices, 32, 32), seed=number), series=number)
    for data_set in made:
        for keyword, value in tags.items():
            setattr(data_set, keyword, value)
    return made


def metadata(*made):
    """What an archive would say: DICOM JSON without pixels, by series."""
    found = {}
    for data_set in (one for group in made for one in group):
        told = data_set.to_json_dict(bulk_data_threshold=0, bulk_data_element_handler=lambda element: "there")
        assert "Value" not in told["7FE00010"] and "InlineBinary" not in told["7FE00010"]
        found.setdefault(data_set.SeriesInstanceUID, []).append(told)
    return found


COHORTS = [
    (series(1, 3), series(2, 9)),
    (series(1, 12, ImageType=["DERIVED", "PRIMARY", "AXIAL"]), series(2, 9)),
    (series(1, 9), series(2, 12)),
    (series(3, 9), series(2, 9)),
    (series(1, 9), series(2, 12, PhotometricInterpretation="MONOCHROME1")),
    (series(1, 9), series(7, 1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])),
    (series(1, 12),),
]


@pytest.mark.parametrize("made", COHORTS, ids=range(len(COHORTS)))
def test_metadata_and_files_lead_to_the_same_choice(tmp_path, made):
    for number, group in enumerate(made):
        save_all(group, tmp_path / str(number))
    read = read_study(tmp_path).series
    found = choose_from_metadata(metadata(*made))
    assert found.error is None and found.choice == read
    assert sum(one.n_images for one in found.series) == sum(map(len, made))
    (chosen,) = [one for one in found.series if one.series_uid == read.series_uid]
    assert (chosen.plane, chosen.problem) == ("axial", "")
    assert chosen.n_slices == read_study(tmp_path).hu.shape[0] and chosen.extent_mm > 0


def test_series_that_cannot_be_used_say_why():
    localizer = series(7, 1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    inverted = series(8, 9, PhotometricInterpretation="MONOCHROME1")
    found = choose_from_metadata(metadata(series(1), localizer, inverted))
    problems = {one.series_number: one.problem for one in found.series}
    assert problems[1] == "" and "localizer" in problems[7] and "MONOCHROME1" in problems[8]
    assert found.choice.n_candidates == 1


def test_a_study_without_a_usable_series_has_no_choice():
    found = choose_from_metadata(metadata(series(7, 2, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])))
    assert found.choice is None and isinstance(found.error, CTInputError)
    assert found.error.code == "no_ct_found"


def test_enhanced_ct_has_as_many_slices_as_frames(tmp_path):
    made = enhanced(series(4, 10))
    save(made, tmp_path / "x.dcm")
    found = choose_from_metadata(metadata([made]))
    assert found.choice == read_study(tmp_path).series
    assert [(one.n_images, one.n_slices) for one in found.series] == [(1, 10)]


@pytest.mark.parametrize(
    "broken",
    [{}, {"00280010": 5}, {"00280030": {"vr": "DS", "Value": ["nonsense", {}]}}, {"0020000E": {"vr": "XX"}}],
)
def test_damaged_metadata_is_a_problem_of_its_series_and_not_an_exception(broken):
    good = series(1)
    (told,) = metadata(good[:1]).values()
    found = choose_from_metadata({**metadata(good), uid(9): [{**told[0], **broken} if broken else {}]})
    assert [bool(one.problem) for one in found.series].count(True) == 1
    assert found.choice is not None and found.choice.series_uid == good[0].SeriesInstanceUID
