"""Enhanced multi-frame CT gives the same study as one file per slice."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
from ct_synthetic import ENHANCED, LEGACY, codes, enhanced, item, make_slices, save, torso, write_series
from pydicom.encaps import encapsulate

from radclear.ct import CTInputError, read_study


@pytest.mark.parametrize("sop_class", [ENHANCED, LEGACY])
def test_frames_in_any_order_equal_single_files(tmp_path, sop_class):
    hu = torso((9, 32, 36))
    reference = read_study(write_series(tmp_path / "single", hu))
    slices = make_slices(hu)
    slices = [slices[k] for k in (4, 0, 8, 2, 6, 1, 7, 3, 5)]
    study = read_study(save(enhanced(slices, sop_class=sop_class), tmp_path / "enhanced.dcm"))
    assert study.series_hash == reference.series_hash
    np.testing.assert_array_equal(study.z_mm, reference.z_mm)
    assert len(set(study.sop_instance_uids)) == 1 and len(study.sop_instance_uids) == 9


def test_compressed_frames(tmp_path):
    hu = torso((9, 32, 36))
    whole = enhanced(make_slices(hu))
    frames = [imagecodecs.jpegls_encode((part.astype(np.int32) + 1024).astype(np.uint16)) for part in hu]
    whole.PixelData, whole.PixelRepresentation = encapsulate(frames), 0
    whole["PixelData"].is_undefined_length = True
    study = read_study(save(whole, tmp_path / "e.dcm", syntax="1.2.840.10008.1.2.4.80"))
    np.testing.assert_array_equal(study.hu, hu)


def test_frames_of_several_fragments_are_told_apart_by_the_offset_table(tmp_path):
    hu = torso((9, 32, 36))
    whole = enhanced(make_slices(hu))
    frames = [imagecodecs.jpegls_encode((part.astype(np.int32) + 1024).astype(np.uint16)) for part in hu]
    whole.PixelData = encapsulate(frames, fragments_per_frame=3, has_bot=True)
    whole.PixelRepresentation = 0
    whole["PixelData"].is_undefined_length = True
    path = save(whole, tmp_path / "e.dcm", syntax="1.2.840.10008.1.2.4.80")
    np.testing.assert_array_equal(read_study(path).hu, hu)
    whole.PixelData = encapsulate(frames, fragments_per_frame=3, has_bot=False)
    whole["PixelData"].is_undefined_length = True
    path = save(whole, tmp_path / "e.dcm", syntax="1.2.840.10008.1.2.4.80")
    with pytest.raises(CTInputError, match="27 fragments cannot be assigned to 9 frames"):
        read_study(path)


def test_localizer_frames_are_dropped(tmp_path):
    whole = enhanced(make_slices(torso((9, 32, 32))))
    scout = whole.PerFrameFunctionalGroupsSequence[0]
    scout.CTImageFrameTypeSequence = [item(FrameType=["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"])]
    assert len(read_study(save(whole, tmp_path / "e.dcm")).hu) == 8


def test_gaps_between_frames_are_found(tmp_path):
    slices = make_slices(torso((9, 32, 32)))
    del slices[3]
    assert "gap" in codes(read_study(save(enhanced(slices), tmp_path / "e.dcm")))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda d: setattr(d, "NumberOfFrames", 8), "NumberOfFrames"),
        (lambda d: delattr(d, "PerFrameFunctionalGroupsSequence"), "PerFrameFunctionalGroupsSequence"),
        (lambda d: delattr(d, "SharedFunctionalGroupsSequence"), "PixelSpacing"),
        (lambda d: setattr(d, "NumberOfFrames", 10**9), "NumberOfFrames"),
        (
            lambda d: delattr(d.PerFrameFunctionalGroupsSequence[2], "PlanePositionSequence"),
            "ImagePositionPatient",
        ),
    ],
)
def test_broken_functional_groups_are_named(tmp_path, change, match):
    whole = enhanced(make_slices(torso((9, 32, 32))))
    change(whole)
    with pytest.raises(CTInputError, match=match):
        read_study(save(whole, tmp_path / "e.dcm"))
