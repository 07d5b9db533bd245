"""What boxes say about a view and about each cell of grids over it: present, how large, how much of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PRESENT, EXTENT, COVERAGE = range(3)
#: `PRESENT` of a finding that touches a region but may not be seen in it.
UNSURE = -1.0
#: A finding is present in a view that holds this share of its box,
#: and in a cell of which it covers this share.
SHARE_OF_BOX = 0.4
SHARE_OF_CELL = 0.3
#: Lengths are given in this many millimetres, so that they are of the order of one.
UNIT_MM = 30.0


def region_labels(
    boxes: np.ndarray, *, view_size: int, strides: Sequence[int], n_findings: int, pixel_mm: float
) -> np.ndarray:
    """Labels of a view and of the cells of square grids over it.

    Args:
        boxes: (k, 5) float, x1, y1, x2, y2 in pixels of the view, which they may leave, and the finding.
        view_size: side of the view in pixels.
        strides: side in pixels of the cells of each grid.
        n_findings: F.
        pixel_mm: side of a pixel of the view in millimetres.

    Returns:
        (1 + Σ (view_size / stride)², F, 3) float32: the view, then the cells of each grid row by row. For
        each finding whether it is present (1, 0 or `UNSURE`; the cell with the middle of a box always has
        it), the longest side of its boxes, and the square root of the area that its boxes cover in the
        region, both lengths in `UNIT_MM`. The longest side is of the part inside the view for the
        view, of the whole box for cells, and 0 where the finding is not present.
    """
    parts = [_grid(boxes, view_size, view_size, n_findings)]
    view = parts[0][0]
    if len(boxes):
        inside = np.clip(boxes[:, :4], 0, view_size)
        sides = inside[:, 2:] - inside[:, :2]
        whole = np.maximum(np.prod(boxes[:, 2:4] - boxes[:, :2], axis=1), 1e-6)
        shares = np.prod(sides, axis=1) / whole
        view[:, [PRESENT, EXTENT]] = 0
        for side, share, finding in zip(sides.max(axis=1), shares, boxes[:, 4].astype(int), strict=True):
            if share > SHARE_OF_BOX:
                view[finding, PRESENT] = 1
                view[finding, EXTENT] = max(view[finding, EXTENT], side)
            elif share > 0 and view[finding, PRESENT] == 0:
                view[finding, PRESENT] = UNSURE
    parts += [_grid(boxes, view_size, stride, n_findings) for stride in strides]
    labels = np.concatenate(parts)
    labels[..., [EXTENT, COVERAGE]] *= pixel_mm / UNIT_MM
    return labels


def _grid(boxes: np.ndarray, view_size: int, stride: int, n_findings: int) -> np.ndarray:
    n = view_size // stride
    label = np.zeros((n, n, n_findings, 3), np.float32)
    edge = np.arange(n, dtype=np.float32) * stride
    for x1, y1, x2, y2, finding in boxes:
        f = int(finding)
        across = np.clip(np.minimum(edge + stride, x2) - np.maximum(edge, x1), 0, None) / stride
        down = np.clip(np.minimum(edge + stride, y2) - np.maximum(edge, y1), 0, None) / stride
        covered = down[:, None] * across[None, :]
        present = covered >= SHARE_OF_CELL
        column, row = int((x1 + x2) / 2 // stride), int((y1 + y2) / 2 // stride)
        if 0 <= column < n and 0 <= row < n:
            present[row, column] = True
        unsure = (covered > 0.02) & ~present & (label[..., f, PRESENT] == 0)
        label[unsure, f, PRESENT] = UNSURE
        label[present, f, PRESENT] = 1
        longest = max(x2 - x1, y2 - y1)
        label[present, f, EXTENT] = np.maximum(label[present, f, EXTENT], longest)
        label[..., f, COVERAGE] += covered
    label[..., COVERAGE] = np.sqrt(label[..., COVERAGE]) * stride
    return label.reshape(n * n, n_findings, 3)
