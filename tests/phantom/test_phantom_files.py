"""Phantoms as DICOM and NIfTI files, and as cohorts."""

import csv
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest

from radclear.ct import find_studies
from radclear.phantom import make_phantom, write_cohort, write_dicom, write_nifti
from radclear.phantom.cohort_tables import BOX_COLUMNS, LABEL_COLUMNS
from radclear.phantom.dicom import phantom_uid

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(21, n_slices=26, size=80)


@pytest.fixture(scope="module")
def series(phantom, tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    paths = write_dicom(phantom, folder, instance_order="shuffled")
    return [pydicom.dcmread(path) for path in paths]


def test_dicom_pixels_are_the_hounsfield_units(phantom, series):
    for k, ds in enumerate(series):
        hu = ds.pixel_array.astype(int) * int(ds.RescaleSlope) + int(ds.RescaleIntercept)
        assert np.array_equal(hu, phantom.hu[k])


def test_dicom_geometry_is_the_affine(phantom, series):
    """Every pixel by the equation of PS3.3 C.7.6.2.1.1, against the affine."""
    for k, ds in enumerate(series):
        x_axis, y_axis = np.array(ds.ImageOrientationPatient, float).reshape(2, 3)
        row_mm, column_mm = (float(v) for v in ds.PixelSpacing)
        for i, j in ((0, 0), (5, 70), (79, 3)):
            point = np.array(ds.ImagePositionPatient, float) + x_axis * column_mm * i + y_axis * row_mm * j
            assert point == pytest.approx((phantom.affine @ [i, j, k, 1])[:3], abs=1e-3)
        assert float(ds.SliceThickness) == pytest.approx(phantom.spacing_mm[2], abs=1e-5)


def test_dicom_tags(series):
    first = series[0]
    assert first.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert first.PatientName == "PHANTOM^0021" and first.Modality == "CT"
    assert len({ds.SOPInstanceUID for ds in series}) == len(series)
    assert sorted(int(ds.InstanceNumber) for ds in series) == list(range(1, len(series) + 1))
    for tag in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert len({ds[tag].value for ds in series}) == 1
        assert first[tag].value.startswith("2.25.") and len(first[tag].value) <= 64
        assert pydicom.uid.UID(first[tag].value).is_valid
    for ds in series:
        assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
        for element in ds:
            if element.VR == "DS":
                values = element.value if element.VM > 1 else [element.value]
                assert all(len(str(v)) <= 16 for v in values)


def test_instance_orders(phantom, tmp_path):
    def numbers(order):
        paths = write_dicom(phantom, tmp_path / order, instance_order=order)
        return [int(pydicom.dcmread(p, stop_before_pixels=True).InstanceNumber) for p in paths]

    up = list(range(1, 27))
    assert numbers("feet_first") == up
    assert numbers("head_first") == up[::-1]
    assert numbers("shuffled") not in (up, up[::-1])
    with pytest.raises(ValueError, match="instance_order"):
        write_dicom(phantom, tmp_path, instance_order="random")


def test_dicom_bytes_depend_on_the_phantom_alone(phantom, tmp_path):
    one, two = (write_dicom(phantom, tmp_path / name) for name in ("one", "two"))
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in two]
    assert phantom_uid("a") == phantom_uid("a") != phantom_uid("b")


@pytest.mark.parametrize("name", ["study.nii", "study.nii.gz"])
def test_nifti_against_an_independent_reader(phantom, tmp_path, name):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.load(write_nifti(phantom, tmp_path / name))
    assert image.get_data_dtype() == np.int16
    assert np.array_equal(np.asarray(image.dataobj), phantom.hu.transpose(2, 1, 0))
    ras = np.diag([-1, -1, 1, 1]) @ phantom.affine
    assert image.get_sform() == pytest.approx(ras, abs=1e-3)
    assert image.get_qform() == pytest.approx(ras, abs=1e-3)
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
    assert image.header.get_xyzt_units()[0] == "mm"


def test_nifti_header_is_well_formed(phantom, tmp_path):
    raw = write_nifti(phantom, tmp_path / "a.nii").read_bytes()
    assert struct.unpack_from("<i", raw, 0)[0] == 348 and raw[344:348] == b"n+1\0"
    assert len(raw) == 352 + phantom.hu.nbytes
    with pytest.raises(ValueError, match="nii"):
        write_nifti(phantom, tmp_path / "a.img")


@pytest.mark.parametrize("form", ["head_first", "shuffled", "nifti"])
def test_the_reader_gives_the_same_study_back(phantom, tmp_path, form):
    from radclear.ct import read_study

    if form == "nifti":
        study = read_study(write_nifti(phantom, tmp_path / "s.nii.gz"))
    else:
        write_dicom(phantom, tmp_path / "s", instance_order=form)
        study = read_study(tmp_path / "s")
        assert len(study.sop_instance_uids) == 26
    assert np.array_equal(study.hu, phantom.hu)
    assert study.affine == pytest.approx(phantom.affine, abs=1e-3)
    warnings = {finding.code for finding in study.findings if finding.severity == "warning"}
    assert warnings == ({"instance_order"} if form == "shuffled" else set())


def read_csv(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_cohort_tables_and_resuming(tmp_path):
    options = dict(n_studies=5, seed=3, n_slices=(24, 27), size=(64, 72), splits=(0.6, 0.2, 0.2))
    calls = []
    write_cohort(tmp_path / "a", **options, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (5, 5) and len(calls) == 5
    labels = read_csv(tmp_path / "a/labels.csv")
    boxes = read_csv(tmp_path / "a/boxes.csv")
    assert tuple(labels[0]) == LABEL_COLUMNS and tuple(boxes[0]) == BOX_COLUMNS
    assert [row["study"] for row in labels] == [f"phantom-{n:04d}" for n in range(5)]
    assert sorted(row["split"] for row in labels) == ["test", "train", "train", "train", "val"]
    assert len({row["patient"] for row in labels}) == 5
    n_slices = set()
    for row in labels:
        files = list((tmp_path / "a/studies" / row["study"]).glob("*.dcm"))
        n_slices.add(len(files))
        assert 24 <= len(files) <= 27
        assert all(int(b["slice"]) < len(files) for b in boxes if b["study"] == row["study"])
    assert len(n_slices) > 1

    # An interrupted run: one study gone, one without its record, the tables gone.
    before = {name: (tmp_path / "a" / name).read_bytes() for name in ("labels.csv", "boxes.csv")}
    for path in (tmp_path / "a/studies/phantom-0002").iterdir():
        path.unlink()
    (tmp_path / "a/studies/phantom-0002").rmdir()
    (tmp_path / "a/records/phantom-0003.json").unlink()
    untouched = next((tmp_path / "a/studies/phantom-0001").glob("*.dcm"))
    stamp = untouched.stat().st_mtime_ns
    for name in before:
        (tmp_path / "a" / name).unlink()
    write_cohort(tmp_path / "a", **options)
    assert {name: (tmp_path / "a" / name).read_bytes() for name in before} == before
    assert untouched.stat().st_mtime_ns == stamp
    assert not list((tmp_path / "a").glob(".*.tmp"))

    with pytest.raises(ValueError, match="another folder"):
        write_cohort(tmp_path / "a", **{**options, "format": "nifti"})


def test_workers_write_the_same_cohort(tmp_path):
    options = dict(n_studies=3, seed=4, n_slices=24, size=64, format="nifti")
    write_cohort(tmp_path / "one", **options)
    write_cohort(tmp_path / "two", **options, workers=2)
    for name in ("labels.csv", "boxes.csv", "studies/phantom-0002/phantom-0002.nii.gz"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("format", ["dicom", "nifti"])
def test_the_tables_name_the_studies_as_readers_find_them(tmp_path, format):
    write_cohort(tmp_path, n_studies=2, seed=4, n_slices=24, size=64, format=format)
    names = [source.name for source in find_studies(tmp_path / "studies")]
    assert pd.read_csv(tmp_path / "labels.csv")["study"].tolist() == names
    assert set(pd.read_csv(tmp_path / "boxes.csv")["study"]) <= set(names)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the process table of Linux")
def test_workers_end_when_their_parent_is_killed_and_the_cohort_can_be_finished(tmp_path):
    code = (
        "import sys; from radclear.phantom import write_cohort\n"
        "if __name__ == '__main__': write_cohort(sys.argv[1], n_studies=999, n_slices=24, size=64, workers=2)"
    )
    script = tmp_path / "run.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path / "c")], env=environment)
    studies = tmp_path / "c/studies"
    wait_until(lambda: studies.is_dir() and len(list(studies.iterdir())) >= 2)
    children = [pid for pid in process_ids() if parent_of(pid) == parent.pid]
    assert children
    parent.kill()
    parent.wait()
    wait_until(lambda: not set(children) & set(process_ids()))
    for study in studies.iterdir():
        assert len(list(study.glob("*.dcm"))) == 24
    remains = tmp_path / "c" / f".phantom-0001.{parent.pid}.tmp"
    remains.mkdir()
    (tmp_path / "c/records/phantom-0001.json").unlink(missing_ok=True)
    write_cohort(tmp_path / "c", n_studies=2, n_slices=24, size=64)
    assert not remains.exists() and (tmp_path / "c/labels.csv").is_file()


def process_ids():
    return [
        int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and state_of(int(p.name)) not in "ZX"
    ]


def state_of(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "X"


def parent_of(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return -1


def wait_until(condition, limit_s=600):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("n_studies", 0),
        ("seed", -1),
        ("n_slices", (30, 20)),
        ("splits", (0.5, 0.5, 0.5)),
        ("format", "png"),
        ("workers", 0),
    ],
)
def test_bad_cohort_options_are_refused(tmp_path, option, value):
    with pytest.raises(ValueError, match=option):
        write_cohort(tmp_path, **{"n_studies": 1, option: value})


def test_no_torch_is_imported():
    code = "import sys, radclear.phantom; assert 'torch' not in sys.modules and 'monai' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
