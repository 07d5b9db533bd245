"""Stored values become Hounsfield units exactly once, whatever the encoding."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pydicom
import pytest
from ct_synthetic import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    codes,
    make_slices,
    save,
    save_all,
    torso,
    write_series,
)
from pydicom.encaps import encapsulate

from radclear.ct import CTInputError, read_study

RAMP = np.arange(-1024, -1024 + 32 * 32).reshape(1, 32, 32).astype(np.int16)
JPEG_LOSSLESS, JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"
JPEG_EXTENDED, JPEG_LS, JPEG_2000 = (
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.90",
)
RLE = "1.2.840.10008.1.2.5"


def refuse(path, code: str, match: str) -> None:
    with pytest.raises(CTInputError, match=match) as caught:
        read_study(path)
    assert caught.value.code == code


def one_slice(stored: np.ndarray, **tags):
    """A slice with its stored values put in as they are."""
    (made,) = make_slices(RAMP)
    made.Rows, made.Columns = stored.shape
    made.BitsAllocated = made.BitsStored = stored.itemsize * 8
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(stored.dtype.kind == "i")
    made.PixelData = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    for keyword, value in tags.items():
        setattr(made, keyword, value)
    return made


def expected_hu(tags) -> np.ndarray:
    """pydicom's own decoding, rescaled in float64."""
    hu = tags.pixel_array.astype(np.float64) * float(tags.RescaleSlope) + float(tags.RescaleIntercept)
    return np.rint(hu).clip(-1024, 32767).astype(np.int16)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_every_native_encoding_agrees_with_pydicom(tmp_path, syntax, dtype):
    info = np.iinfo(dtype)
    stored = np.random.default_rng(1).integers(info.min, info.max, (32, 34), dtype, endpoint=True)
    tags = one_slice(stored, RescaleIntercept=-1000)
    if syntax == BIG_ENDIAN:
        words = stored if stored.itemsize == 2 else stored.view(np.uint16)
        tags.PixelData = words.byteswap().tobytes()
    path = save(tags, tmp_path / "a.dcm", syntax=syntax)
    np.testing.assert_array_equal(read_study(path).hu[0], expected_hu(pydicom.dcmread(path)))
    np.testing.assert_array_equal(read_study(path).hu[0], (stored.astype(int) - 1000).clip(-1024, 32767))


@pytest.mark.parametrize(
    ("signed", "bits", "high"), [(0, 12, 11), (1, 12, 11), (0, 12, 15), (1, 13, 14), (0, 16, 15)]
)
def test_only_stored_bits_count(tmp_path, signed, bits, high):
    rng = np.random.default_rng(2)
    values = (
        rng.integers(-(1 << bits - 1), 1 << bits - 1, (32, 32))
        if signed
        else rng.integers(0, 1 << bits, (32, 32))
    )
    stored = ((values & ((1 << bits) - 1)) << (high + 1 - bits)).astype(np.uint16)
    outside = ~(((1 << bits) - 1) << (high + 1 - bits)) & 0xFFFF
    stored |= rng.integers(0, 1 << 16, (32, 32), np.uint16) & np.uint16(
        outside
    )  # overlay planes lived there once
    tags = one_slice(stored, BitsStored=bits, HighBit=high, PixelRepresentation=signed)
    hu = read_study(save(tags, tmp_path / "a.dcm")).hu[0]
    np.testing.assert_array_equal(hu, (values - 1024).clip(-1024, 32767))


@pytest.mark.parametrize("slope", [1, 0.5, 2.75])
@pytest.mark.parametrize("intercept", [0, -1024, -8192, 1024.25, 40000])
@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_rescaling_is_exact_and_clipped_over_the_whole_range(tmp_path, slope, intercept, dtype):
    stored = np.linspace(np.iinfo(dtype).min, np.iinfo(dtype).max, 64 * 64).astype(dtype).reshape(64, 64)
    path = save(one_slice(stored, RescaleSlope=slope, RescaleIntercept=intercept), tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_study(path).hu[0], expected_hu(pydicom.dcmread(path)))


def test_slope_and_intercept_belong_to_each_slice(tmp_path):
    hu = torso((9, 32, 32))

    def vary(slices):
        for k, tags in enumerate(slices):
            intercept = -1024 - 10 * k
            tags.RescaleIntercept = intercept
            tags.PixelData = (hu[k] - intercept).astype(np.int16).tobytes()

    np.testing.assert_array_equal(read_study(write_series(tmp_path, hu, change=vary)).hu, hu)


@pytest.mark.parametrize(("padding", "dtype"), [(-2000, np.int16), (-3024, np.int16), (63536, np.uint16)])
def test_padding_is_air(tmp_path, padding, dtype):
    stored = np.full((32, 32), 1064, dtype)
    stored[:, :9] = padding
    path = save(one_slice(stored, PixelPaddingValue=padding), tmp_path / "a.dcm")
    hu = read_study(path).hu[0]
    assert (hu[:, :9] == -1024).all() and (hu[:, 9:] == 40).all()


def test_padding_outside_the_stored_bits_is_air_too(tmp_path):
    stored = np.full((32, 32), 1064, np.uint16)
    stored[:, :9] = 63536
    tags = one_slice(stored, PixelPaddingValue=63536, BitsStored=12, HighBit=11)
    hu = read_study(save(tags, tmp_path / "a.dcm")).hu[0]
    assert (hu[:, :9] == -1024).all() and (hu[:, 9:] == 40).all()


def encoded(image: np.ndarray, syntax: str) -> bytes:
    """One frame, compressed by imagecodecs (RLE by the letter of the standard)."""
    if syntax in (JPEG_LOSSLESS, JPEG_LOSSLESS_SV1):
        predictor = 6 if syntax == JPEG_LOSSLESS else 1
        return imagecodecs.jpeg8_encode(image, lossless=True, predictor=predictor, bitspersample=16)
    if syntax == JPEG_EXTENDED:
        return imagecodecs.jpeg8_encode(image, level=98, bitspersample=12)
    if syntax == JPEG_LS:
        return imagecodecs.jpegls_encode(image)
    if syntax == JPEG_2000:
        return imagecodecs.jpeg2k_encode(image, codecformat="j2k", reversible=True, level=0)
    planes = [image.view(np.uint8).reshape(-1, 2)[:, i].tobytes() for i in (1, 0)]
    packed = [b"".join(bytes([n - 1]) + part for n, part in _runs(plane)) for plane in planes]
    packed = [part + b"\x80" * (len(part) % 2) for part in packed]
    offsets = [64, 64 + len(packed[0])]
    return np.array([2, *offsets, *[0] * 13], "<u4").tobytes() + b"".join(packed)


def _runs(plane: bytes):
    return [(len(plane[i : i + 128]), plane[i : i + 128]) for i in range(0, len(plane), 128)]


def compressed_series(folder, hu, syntax, *, spoil=lambda frame: frame):
    slices = make_slices(hu)
    for part, tags in zip(hu, slices, strict=True):
        stored = (part.astype(np.int32) + 1024).astype(np.uint16)
        tags.BitsStored, tags.HighBit, tags.PixelRepresentation = (
            (12, 11, 0) if syntax == JPEG_EXTENDED else (16, 15, 0)
        )
        if syntax == JPEG_EXTENDED:
            tags.LossyImageCompression = "01"
        tags.PixelData = encapsulate([spoil(encoded(stored, syntax))])
        tags["PixelData"].VR = "OB"
        tags["PixelData"].is_undefined_length = True
    return save_all(slices, folder, syntax=syntax)


@pytest.mark.parametrize("syntax", [JPEG_LOSSLESS, JPEG_LOSSLESS_SV1, JPEG_LS, JPEG_2000, RLE])
def test_lossless_compression_changes_nothing(tmp_path, syntax):
    hu = torso((9, 48, 40))
    study = read_study(compressed_series(tmp_path, hu, syntax))
    np.testing.assert_array_equal(study.hu, hu)
    assert "lossy" not in codes(study)


def test_signed_jpeg_2000(tmp_path):
    hu = torso((1, 48, 40))
    tags = one_slice(hu[0], RescaleIntercept=0)
    tags.PixelData = encapsulate(
        [imagecodecs.jpeg2k_encode(hu[0], codecformat="j2k", reversible=True, level=0)]
    )
    tags["PixelData"].is_undefined_length = True
    np.testing.assert_array_equal(read_study(save(tags, tmp_path / "a.dcm", syntax=JPEG_2000)).hu, hu)


def test_lossy_compression_is_read_and_reported(tmp_path):
    hu = torso((9, 48, 40))
    study = read_study(compressed_series(tmp_path, hu, JPEG_EXTENDED))
    assert "lossy" in codes(study)
    assert np.abs(study.hu - hu).mean() < 10


@pytest.mark.parametrize("syntax", [JPEG_LOSSLESS, JPEG_LS, JPEG_2000, RLE])
def test_a_frame_that_is_cut_short_is_refused(tmp_path, syntax):
    compressed_series(
        tmp_path, torso((3, 48, 40)), syntax, spoil=lambda frame: frame[: len(frame) // 2 // 2 * 2]
    )
    refuse(tmp_path, "pixel_data", "cannot be decoded")


@pytest.mark.parametrize("syntax", [JPEG_LOSSLESS, JPEG_LS, JPEG_2000])
def test_a_frame_of_another_size_is_refused_before_it_is_decoded(tmp_path, syntax):
    huge = encoded(np.zeros((32, 4096), np.uint16), syntax)
    compressed_series(tmp_path, torso((3, 48, 40)), syntax, spoil=lambda frame: huge)
    refuse(tmp_path, "pixel_data", "32 x 4096 x 1, the header says 48 x 40")


def test_an_unknown_transfer_syntax_is_named(tmp_path):
    slices = make_slices(torso((2, 32, 32)))
    for tags in slices:
        tags.PixelData = encapsulate([b"\0\0\1\xb3" * 8])
        tags["PixelData"].is_undefined_length = True
    save_all(slices, tmp_path, syntax="1.2.840.10008.1.2.4.102")
    refuse(tmp_path, "unsupported_transfer_syntax", r"1\.2\.840\.10008\.1\.2\.4\.102 is not supported")


def test_a_missing_decoder_is_named_with_the_pip_line(tmp_path, monkeypatch):
    class Missing:
        available = False

    compressed_series(tmp_path, torso((2, 48, 40)), JPEG_LS)
    monkeypatch.setattr(imagecodecs, "JPEGLS", Missing)
    refuse(tmp_path, "missing_decoder", r"JPEG-LS Lossless \(1\.2\.840.*pip install 'imagecodecs")


@pytest.mark.parametrize(
    ("tag", "code"),
    [
        ("RescaleSlope", "missing_tag"),
        ("RescaleIntercept", "missing_tag"),
        ("Rows", "missing_tag"),
        ("PixelSpacing", "missing_tag"),
        ("ImagePositionPatient", "missing_tag"),
        ("ImageOrientationPatient", "missing_tag"),
        ("BitsStored", "missing_tag"),
        ("PixelRepresentation", "missing_tag"),
        ("SeriesInstanceUID", "missing_tag"),
        ("SOPInstanceUID", "missing_tag"),
        ("Modality", "missing_tag"),
        ("PixelData", "pixel_data"),
    ],
)
def test_a_missing_attribute_is_named(tmp_path, tag, code):
    write_series(tmp_path, change=lambda slices: [delattr(tags, tag) for tags in slices])
    refuse(tmp_path, code, tag)


@pytest.mark.parametrize(
    ("tag", "value", "code"),
    [
        ("PhotometricInterpretation", "MONOCHROME1", "monochrome1"),
        ("PhotometricInterpretation", "RGB", "not_grey"),
        ("SamplesPerPixel", 3, "not_grey"),
        ("Modality", "MR", "not_ct"),
        ("RescaleSlope", 0, "bad_tag"),
        ("RescaleSlope", -1, "bad_tag"),
        ("RescaleType", "OD", "not_hounsfield"),
        ("PixelSpacing", [0, 4], "bad_tag"),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0], "bad_tag"),
        ("ImagePositionPatient", [1e9, 0, 0], "bad_tag"),
        ("Rows", 31, "pixel_data"),
        ("Columns", 64, "pixel_data"),
        ("BitsAllocated", 32, "bad_tag"),
        ("HighBit", 3, "bad_tag"),
        ("NumberOfFrames", 7, "bad_tag"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"], "no_ct_found"),
    ],
)
def test_an_impossible_attribute_is_named(tmp_path, tag, value, code):
    write_series(tmp_path, change=lambda slices: [setattr(tags, tag, value) for tags in slices])
    refuse(
        tmp_path, code, "localizer" if tag == "ImageType" else "PixelData" if code == "pixel_data" else tag
    )


def test_the_memory_cap_is_checked_before_decoding(tmp_path):
    write_series(tmp_path)
    with pytest.raises(
        CTInputError, match="6 slices of 32 x 32 need 12288 bytes, above the cap of 12287"
    ) as caught:
        read_study(tmp_path, memory_cap_bytes=12287)
    assert caught.value.code == "too_large"
    assert read_study(tmp_path, memory_cap_bytes=12288).hu.nbytes == 12288


def test_a_deflated_bomb_is_refused(tmp_path):
    tags = one_slice(np.zeros((4000, 4000), np.uint16))
    path = save(tags, tmp_path / "a.dcm", syntax=DEFLATED)
    assert path.stat().st_size < 100_000
    with pytest.raises(CTInputError, match="cap of 1000000") as caught:
        read_study(path, memory_cap_bytes=1_000_000)
    assert caught.value.code == "too_large"


def test_a_file_that_ends_early_is_refused(tmp_path):
    write_series(tmp_path)
    victim = sorted(tmp_path.iterdir())[2]
    number = pydicom.dcmread(victim, stop_before_pixels=True).InstanceNumber
    victim.write_bytes(victim.read_bytes()[:-100])
    refuse(tmp_path, "pixel_data", f"InstanceNumber {number} is cut short: its file ends early")
