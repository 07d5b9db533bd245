"""What boxes say about a view and its cells, against a count of pixels."""

from __future__ import annotations

import numpy as np
import pytest

from radclear.pretraining.region_labels import (
    COVERAGE,
    EXTENT,
    PRESENT,
    SHARE_OF_BOX,
    SHARE_OF_CELL,
    UNIT_MM,
    UNSURE,
    region_labels,
)

VIEW = 96
PIXEL_MM = 1.7
STRIDES = (32, 16)


def regions():
    """(y, x, side) of every row of a label."""
    yield 0, 0, VIEW
    for stride in STRIDES:
        for y in range(0, VIEW, stride):
            for x in range(0, VIEW, stride):
                yield y, x, stride


def pixels(box, finding):
    """(VIEW, VIEW) bool of a box with whole coordinates."""
    mask = np.zeros((VIEW, VIEW), bool)
    x1, y1, x2, y2 = (int(np.clip(v, 0, VIEW)) for v in box)
    mask[y1:y2, x1:x2] = True
    return mask


@pytest.mark.parametrize("seed", range(20))
def test_one_box_against_a_count_of_its_pixels(seed):
    rng = np.random.default_rng(seed)
    x1, y1 = rng.integers(-20, 90, 2)
    w, h = rng.integers(4, 60, 2)
    box = np.array([[x1, y1, x1 + w, y1 + h, 1]], np.float32)
    label = region_labels(box, view_size=VIEW, strides=STRIDES, n_findings=3, pixel_mm=PIXEL_MM)
    mask = pixels(box[0, :4], 1)
    assert label.shape == (1 + 9 + 36, 3, 3)
    assert not label[:, [0, 2]].any()
    for row, (y, x, side) in enumerate(regions()):
        covered = int(mask[y : y + side, x : x + side].sum())
        assert label[row, 1, COVERAGE] == pytest.approx(np.sqrt(covered) * PIXEL_MM / UNIT_MM, abs=1e-5)
        if row == 0:
            expected = 1 if covered / (w * h) > SHARE_OF_BOX else UNSURE if covered else 0
            seen = max(np.ptp(np.clip([x1, x1 + w], 0, VIEW)), np.ptp(np.clip([y1, y1 + h], 0, VIEW)))
            extent = seen
        else:
            middle = x <= x1 + w / 2 < x + side and y <= y1 + h / 2 < y + side
            share = covered / side**2
            expected = 1 if share >= SHARE_OF_CELL or middle else UNSURE if share > 0.02 else 0
            extent = max(w, h)
        assert label[row, 1, PRESENT] == expected
        assert label[row, 1, EXTENT] == (pytest.approx(extent * PIXEL_MM / UNIT_MM) if expected == 1 else 0)


def test_order_of_boxes_does_not_matter_and_the_largest_counts():
    rng = np.random.default_rng(5)
    corner = rng.uniform(-10, 80, (12, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 40, (12, 2)), rng.integers(0, 2, (12, 1))], 1)
    boxes = boxes.astype(np.float32)
    options = {"view_size": VIEW, "strides": STRIDES, "n_findings": 2, "pixel_mm": PIXEL_MM}
    label = region_labels(boxes, **options)
    np.testing.assert_allclose(region_labels(boxes[::-1], **options), label, atol=1e-6)
    alone = [region_labels(boxes[i : i + 1], **options) for i in range(12)]
    np.testing.assert_array_equal(label[..., EXTENT], np.max(alone, axis=0)[..., EXTENT])
    np.testing.assert_array_equal(label[..., PRESENT] == 1, (np.stack(alone)[..., PRESENT] == 1).any(axis=0))


def test_without_boxes_nothing_is_present():
    none = np.zeros((0, 5), np.float32)
    label = region_labels(none, view_size=64, strides=(16,), n_findings=4, pixel_mm=1.0)
    assert label.shape == (17, 4, 3) and not label.any()
