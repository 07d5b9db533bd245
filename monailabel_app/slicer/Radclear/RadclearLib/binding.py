"""Whether an answer is about the voxels of a volume in the scene.

The server hashes the pixels and the geometry that it read (`series_hash`). The same hash is made here from
the volume, so that no id, no address and no file has to be trusted.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import slicer

from .answer import Answer
from .geometry import grid_to_ijk, mismatch
from .voxels import has_no_place

_LOWEST_HU, _HIGHEST_HU = -1024, 32767  # what a server clips to
_MOST_TIES = 6
OTHER = (
    "The answer is not about the volume in Slicer, so it is not shown: the server has other images under "
    "this study. Load the study again, or ask about the volume in Slicer."
)
NO_PLACE = (
    "The volume has no place in a patient: its voxels are 1 mm wide and begin at 0, as where nothing is "
    "known of them. Sizes, directions and the answers may be wrong."
)


@dataclass(frozen=True)
class Check:
    """What came out: `refusal` says why an answer must not be shown, `doubts` what the reader has to know."""

    refusal: str = ""
    doubts: tuple = ()


def check(answers: list, volume) -> Check:
    """Compare answers to a study with the volume that they are to be shown at.

    Args:
        answers: to all questions.
        volume: the node.
    """
    first = answers[0]
    if any(answer.series_hash != first.series_hash for answer in answers):
        return Check(refusal="The study changed on the server between two questions. Ask again.")
    elsewhere = mismatch(first, volume)
    if elsewhere:
        return Check(refusal=elsewhere)
    if first.series_hash not in series_hashes(first, canonical_hu(first, volume)):
        return Check(refusal=OTHER)
    return Check(doubts=(NO_PLACE,) if has_no_place(volume) else ())


def canonical_hu(answer: Answer, volume) -> np.ndarray:
    """The voxels of a volume as a server orders them: (z, y, x) int16, from the feet, upright.

    Args:
        answer: whose grid it is; it lies on the volume's, see `mismatch`.
        volume: the node.
    """
    turn = np.round(grid_to_ijk(answer, volume)[:3, :3]).astype(int)
    stored = [int(np.abs(turn[:, axis]).argmax()) for axis in range(3)]  # of x, y, z: i, j or k
    voxels = slicer.util.arrayFromVolume(volume).transpose([2 - stored[axis] for axis in (2, 1, 0)])
    backwards = [position for position, axis in enumerate((2, 1, 0)) if turn[stored[axis], axis] < 0]
    voxels = np.flip(voxels, backwards)
    whole = voxels if voxels.dtype.kind in "iu" else np.rint(voxels)
    return np.clip(whole, _LOWEST_HU, _HIGHEST_HU).astype(np.int16)


def series_hashes(answer: Answer, hu: np.ndarray) -> Iterator[str]:
    """The hashes that a server may have made of voxels on an answer's grid, one after another.

    It rounds the geometry to four decimals and sends six of them: where the six end in a tie, both ways of
    rounding are tried.
    """
    scaled = answer.affine_lps * 1e4
    ties = np.argwhere(np.abs(scaled - np.floor(scaled) - 0.5) < 1e-3)[:_MOST_TIES]
    for ups in itertools.product((0.0, 1.0), repeat=len(ties)):
        affine = np.round(answer.affine_lps, 4)
        for (row, column), up in zip(ties, ups):  # noqa: B905 - Python 3.9 knows no `strict`
            affine[row, column] = (np.floor(scaled[row, column]) + up) / 1e4
        digest = hashlib.sha256(np.asarray(hu.shape, np.int64).tobytes())
        digest.update(affine.astype(np.float64).tobytes())
        digest.update(np.ascontiguousarray(hu))
        yield digest.hexdigest()
