"""Deleted, corrupted and shuffled tags and bytes end in a study that agrees with the files, or in a
CTInputError.

Never another exception, never a geometry that the files do not state, never more memory than the cap and a
few slices.
"""

from __future__ import annotations

import io
import tempfile
import tracemalloc
import warnings
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
import pytest
from ct_synthetic import enhanced, make_slices, marked_phantom, save, torso, turned, write_nifti
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from radclear.ct import CTInputError, find_studies, read_study

CAP_BYTES = 4 * 2**20
#: On top of the cap: headers, one encoded and one float64 slice per thread, Python's own objects.
ALLOWANCE_BYTES = 12 * 2**20
QUICK = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TAGS = [element.keyword for element in make_slices(torso((1, 32, 32)))[0]]
VALUES = st.one_of(
    st.sampled_from(
        ["", "0", "-1", "nan", "inf", "1e308", "1\\2", "1\\2\\3", "1\\0\\0\\0\\1\\0", "CT", "9" * 70, "../x"]
    ),
    st.floats(-1e6, 1e6, allow_nan=False).map(lambda v: f"{v:.6g}"[:16]),
    st.text("0123456789.\\-abc ^", max_size=40),
    st.integers(0, 65535).map(lambda v: v.to_bytes(2, "little").decode("latin-1")),
    st.binary(max_size=30).map(lambda raw: raw.decode("latin-1")),
)


@cache
def encoded_slices() -> tuple[bytes, ...]:
    with tempfile.TemporaryDirectory() as folder:
        return tuple(
            save(tags, Path(folder) / f"{k}.dcm").read_bytes()
            for k, tags in enumerate(make_slices(torso((6, 32, 32))))
        )


def attempt(folder: Path, *, policy: str = "warn"):
    """A study, or None where a CTInputError says why not; any other exception is the test's failure."""
    tracemalloc.start()
    try:
        study = read_study(folder, policy=policy, memory_cap_bytes=CAP_BYTES)
    except CTInputError as error:
        assert error.code and str(error)
        study = None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < CAP_BYTES + ALLOWANCE_BYTES
    if study is not None:
        assert study.hu.dtype == np.int16 and study.hu.nbytes <= CAP_BYTES and study.hu.min() >= -1024
        assert (
            len(study.hu) == len(study.z_mm)
            and np.isfinite(study.affine).all()
            and np.isfinite(study.z_mm).all()
        )
        assert len(study.hu) == 1 or (np.diff(study.z_mm) > 0).all()
        assert abs(np.linalg.det(study.affine[:3, :3])) > 0
    return study


def check_against_files(study, folder: Path) -> None:
    """Every slice lies where its own file says and shows what its own file holds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        by_uid = {}
        for path in folder.iterdir():
            tags = pydicom.dcmread(path, force=True)
            by_uid.setdefault(str(tags.get("SOPInstanceUID")), []).append(tags)
        for k, uid in enumerate(study.sop_instance_uids):
            assert any(_agrees(study, k, tags) for tags in by_uid[uid]), f"slice {k} agrees with no file"


def _agrees(study, k: int, tags) -> bool:
    try:
        tags.SamplesPerPixel = 1  # pydicom insists on these two, grey pixels imply them
        tags.HighBit = tags.BitsStored - 1 if tags.get("HighBit") in (None, "") else tags.HighBit
        position, orientation = (
            np.array(tags[t].value, float) for t in ("ImagePositionPatient", "ImageOrientationPatient")
        )
        rows, columns = int(tags.Rows), int(tags.Columns)
        spacing = [float(v) for v in tags.PixelSpacing]
        hu = tags.pixel_array * float(tags.RescaleSlope) + float(tags.RescaleIntercept)
    except (TypeError, ValueError, AttributeError, KeyError):
        return False
    centre = (
        position
        + orientation[:3] * spacing[1] * (columns - 1) / 2
        + orientation[3:] * spacing[0] * (rows - 1) / 2
    )
    n_y, n_x = study.hu.shape[1:]
    in_study = study.affine @ [(n_x - 1) / 2, (n_y - 1) / 2, 0, 1]
    if abs(centre[2] - study.z_mm[k]) > 0.05 or np.abs(centre[:2] - in_study[:2]).max() > 3 * max(spacing):
        return False
    hu = np.rint(hu).clip(-1024, 32767)
    flipped = hu[:: 1 if orientation[4] > 0 else -1, :: 1 if orientation[0] > 0 else -1]
    if abs(orientation[0]) < abs(orientation[1]):
        return sorted(hu.ravel()) == sorted(study.hu[k].ravel())
    return np.array_equal(flipped, study.hu[k])


@cache
def raw_slices() -> tuple[dict[str, tuple[int, bytes, bytes]], ...]:
    """Six slices as keyword -> (tag, value representation, raw value)."""
    return tuple(
        {element.keyword: (int(element.tag), element.VR.encode(), _raw(element)) for element in tags}
        for tags in make_slices(torso((6, 32, 32)))
    )


def _raw(element) -> bytes:
    value = element.value
    if isinstance(value, bytes):
        return value
    if element.VR == "US":
        return int(value).to_bytes(2, "little")
    text = "\\".join(str(part) for part in value) if element.VM > 1 else str(value)
    return text.encode("latin-1")


def encode(elements: dict[str, tuple[int, bytes, bytes]]) -> bytes:
    """A file with whatever the elements hold, valid or not."""
    whole = encoded_slices()[0]
    parts = [whole[: 144 + int.from_bytes(whole[140:144], "little")]]
    for tag, vr, raw in sorted(elements.values()):
        raw += b" " * (len(raw) % 2)
        length = b"\0\0" + len(raw).to_bytes(4, "little") if vr == b"OW" else len(raw).to_bytes(2, "little")
        parts.append(
            (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little") + vr + length + raw
        )
    return b"".join(parts)


def write(slices, folder: Path) -> None:
    for k, elements in enumerate(slices):
        (folder / f"{k}.dcm").write_bytes(encode(elements))


@QUICK
@given(
    changes=st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(TAGS), st.none() | VALUES), min_size=1, max_size=4
    ),
    everywhere=st.booleans(),
    policy=st.sampled_from(["warn", "strict"]),
)
def test_deleted_and_overwritten_tags(changes, everywhere, policy):
    slices = [dict(elements) for elements in raw_slices()]
    for index, keyword, value in changes:
        for elements in slices if everywhere else [slices[index]]:
            if value is None:
                elements.pop(keyword, None)
            elif keyword in elements:
                elements[keyword] = (*elements[keyword][:2], value.encode("latin-1"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(slices, folder)
        study = attempt(folder, policy=policy)
        if study is not None:
            check_against_files(study, folder)


@QUICK
@given(
    which=st.integers(0, 5),
    edits=st.lists(st.tuples(st.integers(0, 1400), st.integers(0, 255)), min_size=1, max_size=12),
    cut=st.none() | st.integers(0, 4000),
    insert=st.binary(max_size=8),
)
def test_corrupted_bytes(which, edits, cut, insert):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for k, content in enumerate(encoded_slices()):
            raw = bytearray(content)
            if k == which:
                for at, byte in edits:
                    raw[at % len(raw)] = byte
                at = edits[0][0]
                raw[at:at] = insert
                raw = raw[:cut]
            (folder / f"{k}.dcm").write_bytes(raw)
        attempt(folder)
        assert len(find_studies(folder)) == 1


@cache
def encoded_frames() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return save(enhanced(make_slices(torso((6, 32, 32)))), Path(folder) / "e.dcm").read_bytes()


@QUICK
@given(
    edits=st.lists(st.tuples(st.integers(0, 4500), st.integers(0, 255)), min_size=1, max_size=12),
    cut=st.none() | st.integers(0, 6000),
)
def test_corrupted_bytes_of_enhanced_files(edits, cut):
    raw = bytearray(encoded_frames())
    for at, byte in edits:
        raw[at] = byte
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "e.dcm").write_bytes(raw[:cut])
        attempt(Path(name))


@QUICK
@given(st.permutations(range(6)), st.permutations(range(6)), st.lists(st.integers(0, 5), max_size=3))
def test_shuffled_names_numbers_and_copies_change_nothing(names, numbers, copies):
    slices = make_slices(torso((6, 32, 32)))
    for tags, number in zip(slices, numbers, strict=True):
        tags.InstanceNumber = number + 1
    with tempfile.TemporaryDirectory() as folder:
        for name, tags in zip(names, slices, strict=True):
            save(tags, Path(folder) / f"{name}.dcm")
        for k, copy in enumerate(copies):
            save(slices[copy], Path(folder) / f"copy{k}.dcm")
        study = read_study(folder)
    np.testing.assert_array_equal(study.hu, torso((6, 32, 32)))
    np.testing.assert_allclose(study.z_mm, -300 + 3.0 * np.arange(6))
    assert ("duplicate" in {f.code for f in study.findings}) == bool(copies)


@QUICK
@given(
    st.permutations([k for k in TAGS if k[0] in "RIPS" and k != "PixelData"]),
    st.integers(0, 5),
    st.integers(2, 30),
)
def test_values_that_moved_to_other_tags(order, which, count):
    """Rows, image, patient, pixel, rescale, series and slice tags of one slice swap their values."""
    slices = [dict(elements) for elements in raw_slices()]
    for keyword, source in zip(order[:count], [*order[1:count], order[0]], strict=False):
        slices[which][keyword] = (*slices[which][keyword][:2], raw_slices()[which][source][2])
    with tempfile.TemporaryDirectory() as folder:
        write(slices, Path(folder))
        study = attempt(Path(folder))
        if study is not None:
            check_against_files(study, Path(folder))


@QUICK
@given(edits=st.lists(st.tuples(st.integers(0, 30_000), st.integers(0, 255)), min_size=1, max_size=10))
def test_corrupted_zips(edits):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for k, content in enumerate(encoded_slices()):
            archive.writestr(f"{k}.dcm", content)
    raw = bytearray(stream.getvalue())
    for at, byte in edits:
        raw[-1 - at % len(raw)] = byte
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "s.zip").write_bytes(raw)
        attempt(Path(folder) / "s.zip")


@QUICK
@given(
    edits=st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=6),
    gz=st.booleans(),
)
def test_corrupted_nifti_headers(edits, gz):
    import gzip

    with tempfile.TemporaryDirectory() as folder:
        hu, spacing, origin = marked_phantom()
        plain = write_nifti(Path(folder) / "v.nii", *turned(hu, spacing, origin, (0, 1, 2), (False,) * 3))
        raw = bytearray(plain.read_bytes())
        for at, byte in edits:
            raw[at] = byte
        path = Path(folder) / ("w.nii.gz" if gz else "w.nii")
        path.write_bytes(gzip.compress(bytes(raw), 1) if gz else raw)
        attempt(path)


@pytest.mark.parametrize("syntax", ["jpeg8", "jpegls", "jpeg2k", "dicomrle"])
@QUICK
@given(edits=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=6))
def test_corrupted_code_streams(syntax, edits):
    import imagecodecs

    from radclear.ct.codecs import COMPRESSED, decode_frame

    uid = next(
        uid for uid, (_, codec) in COMPRESSED.items() if codec.lower() == syntax and "Baseline" not in _
    )
    image = (torso((1, 48, 40))[0].astype(np.int32) + 1024).astype(np.uint16)
    if syntax == "jpeg8":
        stream = imagecodecs.jpeg8_encode(image, lossless=True, predictor=1, bitspersample=16)
    elif syntax == "dicomrle":
        plane = b"".join(b"\x27" + bytes(40) for _ in range(48))
        stream = np.array([2, 64, 64 + len(plane), *[0] * 13], "<u4").tobytes() + plane + plane
    else:
        stream = getattr(imagecodecs, f"{syntax}_encode")(
            image, **({"level": 0} if syntax == "jpeg2k" else {})
        )
    raw = bytearray(stream)
    for at, byte in edits:
        raw[at % len(raw)] = byte
    try:
        decoded = decode_frame(bytes(raw), transfer_syntax=uid, rows=48, columns=40, bits_allocated=16)
        assert decoded.shape == (48, 40)
    except CTInputError as error:
        assert error.code == "pixel_data"
