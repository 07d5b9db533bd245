from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest

from radclear.ct import ABDOMEN, LUNG
from radclear.results.png import encode_png
from radclear.results.thumbnails import Picture, _resize, overview_picture, slice_pictures, task_windows


def slice_picture(study, index, window, **options) -> Picture:
    (picture,) = slice_pictures(study, index, (window,), **options)
    return picture


def _inflate(png: bytes) -> np.ndarray:
    """Read back our own PNG by the specification: chunks with CRC, zlib, filter 2."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    position, body, kinds = 8, b"", []
    while position < len(png):
        (length,) = struct.unpack(">I", png[position : position + 4])
        kind, content = png[position + 4 : position + 8], png[position + 8 : position + 8 + length]
        (crc,) = struct.unpack(">I", png[position + 8 + length : position + 12 + length])
        assert crc == zlib.crc32(kind + content)
        kinds.append(kind)
        if kind == b"IHDR":
            width, height, depth, colour, compression, filtering, interlace = struct.unpack(
                ">IIBBBBB", content
            )
            assert (depth, colour, compression, filtering, interlace) == (8, 0, 0, 0, 0)
        elif kind == b"IDAT":
            body += content
        position += 12 + length
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]
    rows = np.frombuffer(zlib.decompress(body), np.uint8).reshape(height, width + 1)
    assert (rows[:, 0] == 2).all()
    return np.cumsum(rows[:, 1:], axis=0, dtype=np.uint64).astype(np.uint8)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (33, 20)])
def test_png_reads_back_the_same(shape):
    grey = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    png = encode_png(grey)
    assert np.array_equal(_inflate(png), grey)
    image = pytest.importorskip("PIL.Image")
    picture = image.open(io.BytesIO(png))
    assert picture.mode == "L" and np.array_equal(np.asarray(picture), grey)


@pytest.mark.parametrize("bad", [np.zeros((2, 2)), np.zeros((2, 2, 3), np.uint8), np.zeros((0, 4), np.uint8)])
def test_png_refuses_what_is_not_a_grey_image(bad):
    with pytest.raises(ValueError, match="expected uint8"):
        encode_png(bad)


def test_the_patients_right_is_at_the_left_and_anterior_is_up(make):
    study = make.study()
    grey = slice_picture(study, 23, ABDOMEN, size=192).grey
    right, left = grey[110:124, 26:40], grey[110:124, 150:166]
    assert right.min() == 255 and left.max() < 255  # 400 HU is above the window, 40 HU is its middle
    assert left.min() == left.max() == 128
    assert grey[45, 96] == 255 and grey[145, 96] == 128  # the anterior mark of the top slice
    assert slice_picture(study, 0, ABDOMEN, size=192).grey[45, 96] == 128  # which no other slice has


def test_letters_stand_at_the_sides(make):
    study = make.study()
    hu = np.full_like(study.hu, -1000)
    grey = slice_picture(replace(study, hu=hu), 0, ABDOMEN, size=192).grey
    rows, columns = np.nonzero(grey)
    assert abs(rows.mean() - 96) < 8
    assert set(np.unique(columns // 64)) == {0, 2}
    letter_r, letter_l = grey[:, :64], grey[:, 128:]
    assert (letter_r > 0).sum() > (letter_l > 0).sum() > 0
    tiny = slice_picture(replace(study, hu=hu), 0, ABDOMEN, size=8).grey
    assert not tiny.any()  # no room for letters


@pytest.mark.parametrize(
    ("spacing_mm", "shape", "expected"),
    [
        ((0.8, 0.8, 5.0), (3, 64, 64), (200, 200)),
        ((1.0, 0.5, 5.0), (3, 64, 64), (100, 200)),
        ((0.5, 0.5, 5.0), (3, 100, 50), (200, 100)),
        ((1.0, 0.5, 5.0), (3, 100, 50), (200, 200)),
    ],
)
def test_millimetres_give_the_proportions(make, spacing_mm, shape, expected):
    picture = slice_picture(make.study(spacing_mm=spacing_mm, shape=shape), 0, LUNG, size=200)
    assert picture.grey.shape == expected
    assert picture.width_mm == shape[2] * spacing_mm[0] and picture.height_mm == shape[1] * spacing_mm[1]


def test_shrinking_is_the_same_as_another_antialiased_resize(make):
    image = pytest.importorskip("PIL.Image")
    study = make.study(shape=(1, 96, 96))
    hu = np.random.default_rng(1).integers(-900, 900, study.hu.shape).astype(np.int16)
    ours = slice_picture(replace(study, hu=hu), 0, LUNG, size=40).grey.astype(float)
    small = np.asarray(image.fromarray(hu[0].astype(np.float32)).resize((40, 40), image.Resampling.BILINEAR))
    theirs = np.clip((small + 1350) / 1500 * 255, 0, 255).round()
    inside = np.s_[:, 10:30]  # away from the letters
    assert np.abs(ours[inside] - theirs[inside]).max() <= 1


@pytest.mark.parametrize(("n_in", "n_out"), [(512, 360), (360, 512), (7, 3), (3, 7), (1, 4), (5, 1), (6, 6)])
def test_resizing_is_the_triangle_filter_by_definition(n_in, n_out):
    image = np.random.default_rng(2).normal(size=(n_in, 3)).astype(np.float32)
    expected = np.zeros((n_out, 3))
    scale = n_in / n_out
    for i in range(n_out):
        weights = [max(0, 1 - abs(j + 0.5 - (i + 0.5) * scale) / max(scale, 1)) for j in range(n_in)]
        expected[i] = sum(w * image[j] for j, w in enumerate(weights)) / sum(weights)
    np.testing.assert_allclose(_resize(image, n_out, 3), expected, atol=1e-5)


def test_windows_share_a_slice(make):
    both = slice_pictures(make.study(), 3, (ABDOMEN, LUNG))
    alone = [slice_picture(make.study(), 3, window) for window in (ABDOMEN, LUNG)]
    assert [np.array_equal(a.grey, b.grey) for a, b in zip(both, alone, strict=True)] == [True, True]
    assert not np.array_equal(both[0].grey, both[1].grey)


def test_windows_follow_the_task():
    assert task_windows("lung_disease") == (LUNG, ABDOMEN)
    assert task_windows("tumor_location") == task_windows("staging") == (ABDOMEN, LUNG)


def test_the_overview_is_upright_and_true_to_scale(make):
    study = make.study()
    picture = overview_picture(study, height=240)
    assert picture.height_mm == 23 * 5.0 and picture.width_mm == 96 * 0.8
    assert picture.grey.shape == (240, round(240 * 76.8 / 115))
    middle = picture.grey[120]
    assert middle[30] > middle[-31]  # the right side is bright
    assert picture.grey[0, 80] > picture.grey[120, 80]  # head up: the top slice carries a mark
    assert overview_picture(make.study(spacing_mm=(0.8, 0.8, 0.5))) is None
    assert overview_picture(make.study(shape=(1, 96, 96))) is None


def test_uneven_slices_keep_their_place_in_the_overview(make):
    study = make.study(shape=(5, 32, 32))
    hu = np.full_like(study.hu, -1000)
    hu[3] = 200
    uneven = replace(study, hu=hu, z_mm=np.array([0.0, 5.0, 10.0, 60.0, 100.0]))
    grey = overview_picture(uneven, height=201).grey
    assert np.argmax(grey[:, 16]) == pytest.approx(80, abs=1)  # z 60 of 100, counted from the head
