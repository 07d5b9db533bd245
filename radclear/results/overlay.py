"""Key slices and attention as a label map over the source's grid, for viewers that show segmentations only.

It outlines nothing inside the body: a thin frame marks a key slice, and a bar along the lower edge of every
slice shows its attention, full length for the most attended slice of the study.
"""

from __future__ import annotations

import numpy as np

from radclear.results.markups import answer_name, task_of
from radclear.results.wording import format_score

_FRAMES_PER_WIDTH = 96  # a frame is this part of the width, at least one voxel, at most four
_BAR_PER_HEIGHT = 40


def overlay_labels(n_key_slices: int) -> dict[str, int]:
    """Names of the values of an overlay before there is an answer: few, as viewers make a segment of each."""
    labels = {f"key slice {rank}": rank for rank in range(1, n_key_slices + 1)}
    return {**labels, "attention": n_key_slices + 1}


def attention_overlay(result: dict, task: str, *, n_key_slices: int | None = None) -> np.ndarray:
    """The label map on the canonical grid.

    Args:
        result: a result document.
        task: which of its tasks.
        n_key_slices: how many the head points at, where this answer may have fewer: the value of the
            attention bar is one more; the number in the answer when omitted.

    Returns:
        (z, y, x) uint8: 0 nothing, the rank of a key slice in its frame, the next value in attention bars.

    Raises:
        ResultError: the document has no such task.
    """
    entry, geometry = task_of(result, task), result["geometry"]
    shape = geometry["n_slices"], geometry["n_rows"], geometry["n_columns"]
    labels = np.zeros(shape, np.uint8)
    edge = min(4, max(1, shape[2] // _FRAMES_PER_WIDTH))
    height = max(1, shape[1] // _BAR_PER_HEIGHT)
    bar_value = (n_key_slices or len(entry["key_slices"])) + 1
    attention = np.asarray(entry["attention"])
    for index, length in enumerate(_bar_lengths(attention, shape[2] - 2 * edge)):
        labels[index, shape[1] - edge - height : shape[1] - edge, edge : edge + length] = bar_value
    for key in entry["key_slices"]:
        plane = labels[key["index"]]
        plane[:edge], plane[-edge:] = key["rank"], key["rank"]
        plane[:, :edge], plane[:, -edge:] = key["rank"], key["rank"]
    return labels


def overlay_names(result: dict, task: str, *, n_key_slices: int | None = None) -> dict[str, int]:
    """What each value of the overlay means, as names of segments: the first carries the answer.

    Args:
        result, task, n_key_slices: as for `attention_overlay`.
    """
    entry, geometry = task_of(result, task), result["geometry"]
    n_slices, answer = geometry["n_slices"], answer_name(entry)
    names = {
        f"{answer} | key {key['rank']}: slice {key['number']} of {n_slices}, attention "
        f"{format_score(key['attention'])}": key["rank"]
        for key in entry["key_slices"]
    }
    return {**names, f"{answer} | attention": (n_key_slices or len(entry["key_slices"])) + 1}


def _bar_lengths(attention: np.ndarray, longest: int) -> list[int]:
    """Voxels per slice: in proportion to attention, `longest` for the most, at least 1 where there is any."""
    lengths = np.round(attention / attention.max() * longest).astype(int)
    return np.where(attention > 0, np.maximum(lengths, 1), 0).tolist()
