"""NIfTI, NRRD and MHA agree with ITK, and are refused where orientation or values are in doubt."""

from __future__ import annotations

import gzip
import struct
import zlib

import numpy as np
import pytest
from ct_synthetic import codes, finding, marked_phantom, turned, write_nifti

from radclear.ct import CTInputError, read_study
from radclear.ct.volume_files import read_volume

itk = pytest.importorskip("itk")
NAMES = ["v.nii", "v.nii.gz", "v.nrrd", "v.mha"]
PLAIN = ((0, 1, 2), (False,) * 3)


@pytest.fixture(scope="module")
def image():
    """The marked phantom as an ITK image, which lies in LPS as the study does."""
    hu, spacing, origin = marked_phantom()
    made = itk.image_from_array(hu)
    made.SetSpacing([float(v) for v in spacing])
    made.SetOrigin([float(v) for v in origin])
    return made


def refuse(path, code: str, match: str | None = None, **options) -> None:
    with pytest.raises(CTInputError, match=match) as caught:
        read_study(path, **options)
    assert caught.value.code == code


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz", "v.nrrd", "v.mha", "V.NII.GZ"])
def test_every_format_gives_the_same_study(tmp_path, image, name):
    hu, spacing, origin = marked_phantom()
    itk.imwrite(image, str(tmp_path / name.lower()), compression=not name.endswith("nii"))
    (tmp_path / name.lower()).rename(tmp_path / name)
    study = read_study(tmp_path / name)
    np.testing.assert_array_equal(study.hu, hu)
    np.testing.assert_allclose(study.affine @ [0, 0, 0, 1], [*origin, 1], atol=1e-4)
    assert study.spacing_mm == pytest.approx(spacing)
    assert (
        study.series.source_format == {"i": "nifti", "z": "nifti", "d": "nrrd", "a": "mha"}[name.lower()[-1]]
    )
    assert study.sop_instance_uids == () and study.series.series_uid == ""


def test_values_are_rounded_and_clipped_once(tmp_path):
    hu, spacing, origin = marked_phantom()
    values, steps, start = turned(hu, spacing, origin, *PLAIN)
    noisy = values.astype(np.float32) + 0.4
    noisy[0] = -3024
    study = read_study(write_nifti(tmp_path / "v.nii", noisy, steps, start))
    np.testing.assert_array_equal(study.hu[:, :, 1:], hu[:, :, 1:])
    assert (study.hu[:, :, 0] == -1024).all()


def test_an_oblique_volume_keeps_its_affine(tmp_path):
    hu, spacing, origin = marked_phantom()
    values, steps, start = turned(hu, spacing, origin, *PLAIN)
    turn = np.radians(10)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    study = read_study(write_nifti(tmp_path / "v.nii", values, rotation @ steps, start))
    np.testing.assert_array_equal(study.hu, hu)
    np.testing.assert_allclose(study.affine[:3, :3], rotation @ steps, atol=1e-5)
    assert "oblique" in codes(study)


def test_a_nifti_without_orientation_is_refused(tmp_path):
    hu, spacing, origin = marked_phantom()
    path = write_nifti(tmp_path / "v.nii", *turned(hu, spacing, origin, *PLAIN), sform_code=0)
    refuse(path, "unknown_orientation", "left and right cannot be told apart")


def test_text_headers_without_orientation_are_refused(tmp_path, image):
    for name, line in (("v.nrrd", b"space: left-posterior-superior\n"), ("v.mha", b"TransformMatrix")):
        path = tmp_path / name
        itk.imwrite(image, str(path), compression=False)
        raw = path.read_bytes()
        assert line in raw
        path.write_bytes(raw.replace(line, b"" if name == "v.nrrd" else b"TransformMatriX"))
        refuse(path, "unknown_orientation")


def test_headers_that_point_to_other_files_are_refused(tmp_path, image):
    path = tmp_path / "v.mha"
    itk.imwrite(image, str(path), compression=False)
    path.write_bytes(path.read_bytes().replace(b"ElementDataFile = LOCAL", b"ElementDataFile = /etc/passwd"))
    refuse(path, "unreadable", "points to another file")
    path = tmp_path / "v.nrrd"
    itk.imwrite(image, str(path), compression=False)
    path.write_bytes(path.read_bytes().replace(b"endian:", b"data file: /etc/passwd\nendian:"))
    refuse(path, "unreadable", "points to another file")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", [b"", b"nonsense" * 100])
def test_files_of_another_kind_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    refuse(tmp_path / name, "unreadable")


@pytest.mark.parametrize("keep", [0.2, 0.9])
@pytest.mark.parametrize("compression", [False, True])
@pytest.mark.parametrize("name", NAMES[1:])
def test_truncated_files_are_refused(tmp_path, image, name, compression, keep):
    path = tmp_path / (name if compression else name.removesuffix(".gz"))
    itk.imwrite(image, str(path), compression=compression)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * keep)])
    refuse(path, "unreadable")


@pytest.mark.parametrize("name", NAMES[1:])
def test_compressed_voxels_that_are_damaged_are_refused(tmp_path, image, name):
    path = tmp_path / name
    itk.imwrite(image, str(path), compression=True)
    raw = bytearray(path.read_bytes())
    middle = len(raw) * 2 // 3
    raw[middle : middle + 64] = bytes(64)
    path.write_bytes(raw)
    refuse(path, "unreadable")


@pytest.mark.parametrize("behind", [b"", b"more", bytes(3 << 20), bytes(65 << 20)])
def test_bytes_behind_the_last_voxel_are_not_the_images(tmp_path, image, behind):
    itk.imwrite(image, str(tmp_path / "v.nii"), compression=False)
    path = tmp_path / "v.nii.gz"
    path.write_bytes(gzip.compress((tmp_path / "v.nii").read_bytes() + behind, 1))
    if len(behind) > 64 << 20:
        return refuse(path, "unreadable", "64 MiB behind its last voxel")
    np.testing.assert_array_equal(read_study(path).hu, read_study(tmp_path / "v.nii").hu)


@pytest.mark.parametrize("n_bytes", [-2, 2, 2**24])
def test_an_mha_that_inflates_to_another_size_is_refused(tmp_path, image, n_bytes):
    """ITK would take what happens to be in memory for the voxels: of another patient, perhaps."""
    path = tmp_path / "v.mha"
    itk.imwrite(image, str(path), compression=True)
    header, local, packed = path.read_bytes().partition(b"ElementDataFile = LOCAL\n")
    voxels = zlib.decompress(packed)
    voxels = voxels[:n_bytes] if n_bytes < 0 else voxels + bytes(n_bytes)
    lines = [line for line in header.splitlines() if not line.startswith(b"CompressedDataSize")]
    path.write_bytes(b"\n".join([*lines, local]) + zlib.compress(voxels))
    refuse(path, "unreadable", "do not inflate")


def test_an_nrrd_that_skips_compressed_bytes_is_refused(tmp_path, image):
    """From the end, ITK would inflate all there is, for minutes where it is a bomb."""
    path = tmp_path / "v.nrrd"
    itk.imwrite(image, str(path), compression=True)
    raw = path.read_bytes()
    for line in (b"byte skip: -1", b"byteskip: 7", b"line skip: 3"):
        path.write_bytes(raw.replace(b"endian:", line + b"\nendian:", 1))
        refuse(path, "unreadable", "skips compressed bytes")
    path.write_bytes(raw.replace(b"endian:", b"byte skip: 0\nendian:", 1))
    read_volume(path, "nrrd", cap_bytes=2**30)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("turn_degrees", [0, 7])
def test_nifti_agrees_with_itk(tmp_path, dtype, turn_degrees):
    """Types, quaternion and offsets as another implementation writes them."""
    hu, spacing, origin = marked_phantom()
    values = hu.clip(0, 255) if dtype == "uint8" else hu
    made = itk.image_from_array(values.astype(dtype))
    made.SetSpacing([float(v) for v in spacing])
    made.SetOrigin([float(v) for v in origin])
    turn = np.radians(turn_degrees)
    rotation = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    made.SetDirection(itk.matrix_from_array(rotation @ np.diag([-1.0, 1.0, -1.0])))
    itk.imwrite(made, str(tmp_path / "v.nii"))
    volume = read_volume(tmp_path / "v.nii", "nifti", cap_bytes=2**30)
    np.testing.assert_array_equal(volume.hu, values[::-1, :, ::-1])
    steps = rotation * spacing
    np.testing.assert_allclose(volume.affine[:3, :3], steps, atol=1e-5)
    last = origin - steps @ (np.array(hu.shape[::-1]) - 1) * [1, 0, 1]
    if turn_degrees == 0:
        np.testing.assert_allclose(volume.affine[:3, 3], last, atol=1e-4)


def test_qform_alone_and_against_the_sform(tmp_path):
    hu, spacing, origin = marked_phantom()
    path = write_nifti(tmp_path / "v.nii", *turned(hu, spacing, origin, *PLAIN))
    raw = bytearray(path.read_bytes())
    # LPS identity is RAS diag(-1, -1, 1): half a turn about z, quaternion (0, 0, 0, 1)
    struct.pack_into("<6f", raw, 256, 0, 0, 1, -origin[0], -origin[1], origin[2])
    for forms, found in (((1, 0), False), ((1, 1), False)):
        struct.pack_into("<2h", raw, 252, *forms)
        path.write_bytes(raw)
        study = read_study(path)
        np.testing.assert_array_equal(study.hu, hu)
        np.testing.assert_allclose(study.affine[:3, 3], origin, atol=1e-4)
        assert ("sform_qform_differ" in codes(study)) == found
    struct.pack_into("<f", raw, 268, 10 - origin[0])
    path.write_bytes(raw)
    study = read_study(path)
    np.testing.assert_allclose(study.affine[:3, 3], origin, atol=1e-4)
    assert "differ by up to 10.0 mm" in finding(study, "sform_qform_differ").message


def test_nifti_2_units_scaling_and_byte_order(tmp_path):
    hu, spacing, origin = marked_phantom()
    values, steps, start = turned(hu, spacing, origin, *PLAIN)
    header = bytearray(544)
    struct.pack_into(">i8s", header, 0, 540, b"n+2\0\r\n\x1a\n")
    struct.pack_into(">2h", header, 12, 512, 16)
    struct.pack_into(">8q", header, 16, 3, *values.shape, 1, 1, 1, 1)
    struct.pack_into(">8d", header, 104, 1, *spacing, 0, 0, 0, 0)
    struct.pack_into(">q2d", header, 168, 544, 0.5, -1024)
    struct.pack_into(">2i", header, 344, 0, 1)
    rows = np.diag([-1, -1, 1]) @ np.column_stack([steps, start]) / 1000
    struct.pack_into(">12d", header, 400, *rows.ravel())
    struct.pack_into(">i", header, 500, 1)  # metres
    stored = ((values.astype(np.int32) + 1024) * 2).astype(">u2")
    path = tmp_path / "v.nii"
    path.write_bytes(bytes(header) + stored.tobytes(order="F"))
    study = read_study(path)
    np.testing.assert_array_equal(study.hu, hu)
    np.testing.assert_allclose(study.affine[:3, 3], origin)
    assert study.spacing_mm == pytest.approx(spacing)


def test_announced_sizes_are_capped_before_anything_is_decoded(tmp_path):
    hu, spacing, origin = marked_phantom()
    path = write_nifti(tmp_path / "v.nii", *turned(hu, spacing, origin, *PLAIN))
    refuse(path, "too_large", "40 x 36 x 33", memory_cap_bytes=90_000)
    raw = bytearray(path.read_bytes())
    struct.pack_into("<4h", raw, 40, 3, 30000, 30000, 30000)
    path.write_bytes(raw)
    refuse(path, "too_large", "30000 x 30000 x 30000")
    bomb = tmp_path / "b.nii.gz"
    bomb.write_bytes(gzip.compress(bytes(raw[:352]) + bytes(1_000_000)))
    refuse(bomb, "too_large")


def test_four_dimensions_are_refused_unless_the_last_is_one(tmp_path):
    hu, spacing, origin = marked_phantom()
    path = write_nifti(tmp_path / "v.nii", *turned(hu, spacing, origin, *PLAIN))
    raw = bytearray(path.read_bytes())
    struct.pack_into("<5h", raw, 40, 4, *hu.shape[::-1], 1)
    path.write_bytes(raw)
    np.testing.assert_array_equal(read_study(path).hu, hu)
    struct.pack_into("<5h", raw, 40, 4, *hu.shape[::-1], 2)
    path.write_bytes(raw + bytes(hu.nbytes))
    refuse(path, "bad_tag", "expected one volume")


def test_several_volumes_in_one_folder_are_not_guessed_about(tmp_path):
    hu, spacing, origin = marked_phantom()
    for name in ("a.nii", "b.nii"):
        write_nifti(tmp_path / name, *turned(hu, spacing, origin, *PLAIN))
    refuse(tmp_path, "ambiguous_layout", "find_studies")
    (tmp_path / "b.nii").unlink()
    (tmp_path / "labels.csv").write_text("study,patient\n" * 40)
    np.testing.assert_array_equal(read_study(tmp_path).hu, hu)
    refuse(tmp_path, "series_not_found", "no SeriesInstanceUID", series="1.2.3")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda hu: hu - hu.min(), "none is below 0"),
        (lambda hu: (hu + 1024) / 4095.0, "none is below 0"),
        (lambda hu: (hu - hu.mean()) / hu.std(), "too narrow for CT"),
        (lambda hu: hu.clip(-160, 240), "no CT of a body"),
        (lambda hu: np.where(hu < -500, hu, 2000), "no CT of a body"),
    ],
)
def test_values_that_cannot_be_hounsfield_units_are_refused(tmp_path, change, match):
    hu, spacing, origin = marked_phantom()
    values, steps, start = turned(hu, spacing, origin, *PLAIN)
    path = write_nifti(tmp_path / "v.nii", change(values.astype(np.float32)).astype(np.float32), steps, start)
    refuse(path, "not_hounsfield", match)


def test_values_that_are_not_numbers_are_refused(tmp_path):
    hu, spacing, origin = marked_phantom()
    values, steps, start = turned(hu.astype(np.float32), spacing, origin, *PLAIN)
    values = values.copy()
    values[3, 3, 3] = np.nan
    refuse(write_nifti(tmp_path / "v.nii", values, steps, start), "not_hounsfield", "not finite")
