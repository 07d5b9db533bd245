"""The real series of the data pack: decoded, oriented, grouped, and without false alarms."""

from __future__ import annotations

import csv

import numpy as np
import pydicom
import pytest
from ct_synthetic import codes

from radclear.ct import CTInputError, find_studies, read_study


def manifest(folder) -> dict[str, dict]:
    """Rows by SOPInstanceUID."""
    with open(folder / "manifest.csv", newline="") as stream:
        return {row["sop_uid"]: row for row in csv.DictReader(stream)}


@pytest.mark.parametrize(
    ("name", "below", "shape", "spacing", "findings"),
    [
        ("lung_pet_ct_dx", "dicom", (64, 512, 512), (0.841796875, 0.841796875, 5.0), set()),
        (
            "midrc_ricord_1a",
            "dicom/MIDRC-RICORD-1A-419639-001012",
            (248, 512, 512),
            (0.703125, 0.703125, 1.25),
            set(),
        ),
        (
            "lung_fused_ct_pathology",
            "dicom",
            (32, 512, 512),
            (0.759765625, 0.759765625, 1.0),
            {"short_coverage"},  # 32 mm of a lung
        ),
    ],
)
def test_whole_axial_series(shared_data, name, below, shape, spacing, findings):
    study = read_study(shared_data / name / below, policy="warn" if findings else "strict")
    assert study.hu.shape == shape and study.spacing_mm == pytest.approx(spacing)
    assert codes(study) - {"reversed"} == findings, "no false alarm on sound chest series"
    assert (np.diff(study.z_mm) > 0).all() and study.hu.min() == -1024
    rows = manifest(shared_data / name)
    for k in range(shape[0]):
        row = rows[study.sop_instance_uids[k]]
        assert study.z_mm[k] == pytest.approx(float(row["z_mm"]), abs=1e-3)
        assert study.hu[k].max() == float(row["hu_max"])
        assert study.hu[k].min() == max(-1024, float(row["hu_min"]))
        if float(row["hu_min"]) >= -1024:
            assert study.hu[k].mean() == pytest.approx(float(row["hu_mean"]), abs=0.06)
        else:  # padding of -3024 was counted there: the mean can only have been lower
            assert study.hu[k].mean() > float(row["hu_mean"])


@pytest.mark.parametrize("name", ["lung_pet_ct_dx", "lung_fused_ct_pathology"])
def test_uncompressed_pixels_are_those_of_pydicom(shared_data, name):
    study = read_study(shared_data / name)
    index = {uid: k for k, uid in enumerate(study.sop_instance_uids)}
    for path in sorted((shared_data / name).rglob("*.dcm"))[::5]:
        tags = pydicom.dcmread(path)
        hu = tags.pixel_array * float(tags.RescaleSlope) + float(tags.RescaleIntercept)
        k = index[tags.SOPInstanceUID]
        np.testing.assert_array_equal(study.hu[k], hu.clip(-1024, 32767))
        corner = study.affine @ [0, 0, 0, 1]
        np.testing.assert_allclose(tags.ImagePositionPatient[:2], corner[:2], atol=1e-6)


def test_compressed_pixels_are_those_of_another_decoder(shared_data):
    """libjpeg-turbo decodes in the library, liblj92 here."""
    imagecodecs = pytest.importorskip("imagecodecs")
    folder = shared_data / "midrc_ricord_1a" / "dicom" / "MIDRC-RICORD-1A-419639-001012"
    study = read_study(folder)
    for path in sorted(folder.rglob("*.dcm"))[::25]:
        tags = pydicom.dcmread(path)
        start = tags.PixelData.index(b"\xff\xd8")
        stored = imagecodecs.ljpeg_decode(tags.PixelData[start:]).view(np.int16)
        hu = stored * float(tags.RescaleSlope) + float(tags.RescaleIntercept)
        k = study.sop_instance_uids.index(tags.SOPInstanceUID)
        np.testing.assert_array_equal(study.hu[k], hu.clip(-1024, 32767))


def test_the_tumour_lies_on_the_side_the_annotation_says(shared_data):
    """Patient left is image right: the annotated box and the study's x must agree."""
    study = read_study(shared_data / "lung_pet_ct_dx")
    rows = [row for row in manifest(shared_data / "lung_pet_ct_dx").values() if row["has_box"] == "1"]
    assert len(rows) == 11 and {row["patient_tumour_laterality"] for row in rows} == {"left"}
    for row in rows:
        k = study.sop_instance_uids.index(row["sop_uid"])
        x = (float(row["box_xmin"]) + float(row["box_xmax"])) / 2
        y = (float(row["box_ymin"]) + float(row["box_ymax"])) / 2
        body = np.argwhere(study.hu[k] > -300)[:, 1]
        centre_mm = study.affine @ [np.median(body), y, k, 1]
        assert (study.affine @ [x, y, k, 1])[0] > centre_mm[0] + 20


def test_every_single_slice_is_read_or_refused_for_its_plane(shared_data):
    folder = shared_data / "covid_ny_sbu"
    planes = []
    for row in manifest(folder).values():
        path = folder / row["path"]
        planes.append(row["plane"])
        if row["plane"] == "axial":
            study = read_study(path)
            assert study.hu.shape == (1, int(row["height"]), int(row["width"])) and codes(study) == {
                "few_slices"
            }
            assert study.hu.max() == float(row["hu_max"]) and study.hu.min() == -1024
            assert study.z_mm[0] == pytest.approx(float(row["z_mm"]), abs=1e-3)
        else:
            with pytest.raises(
                CTInputError, match=f"1 {row['plane']} slice, .*An axial series is needed"
            ) as caught:
                read_study(path)
            assert caught.value.code == "not_axial"
    assert set(planes) == {"axial", "coronal", "sagittal"}


def test_a_sagittal_reformat_is_refused(shared_data):
    with pytest.raises(CTInputError, match="12 sagittal slices") as caught:
        read_study(shared_data / "midrc_ricord_1a" / "dicom" / "MIDRC-RICORD-1A-419639-000906")
    assert caught.value.code == "not_axial"


def test_mixed_folders_are_grouped(shared_data):
    studies = find_studies(shared_data / "covid_ny_sbu" / "dicom")
    assert [study.name for study in studies] == sorted(
        p.name for p in (shared_data / "covid_ny_sbu/dicom").iterdir()
    )
    for found in studies:
        study = read_study(found.path)
        assert study.hu.shape[0] == 1 and study.series.n_candidates == 2
        assert {"several_studies", "series_choice"} <= codes(study)
    two = find_studies(shared_data / "midrc_ricord_1a" / "dicom")
    assert [study.name[-6:] for study in two] == ["000906", "001012"]
