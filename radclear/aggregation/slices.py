"""From the attention of instances to the slices that a reader should look at first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from radclear.aggregation.mil import AggregationError


def slice_attention(attention: torch.Tensor, n_windows: int) -> torch.Tensor:
    """Attention of a slice: the sum over its windows.

    Args:
        attention: (..., Z·W) with the windows of a slice beside each other, as the aggregators leave it; it
            has been through its softmax already, so that it is only ever summed here.
        n_windows: W.

    Returns:
        (..., Z), same sum as `attention`.
    """
    n_instances = attention.shape[-1]
    if n_windows < 1 or n_instances % n_windows:
        raise AggregationError(
            f"{n_instances} instances cannot be slices of {n_windows} windows each; pass the number of "
            "windows that the study was embedded with"
        )
    return attention.unflatten(-1, (n_instances // n_windows, n_windows)).sum(dim=-1)


def key_slices(
    slice_attention: torch.Tensor | np.ndarray | Sequence[float], k: int = 3, *, min_distance: int = 1
) -> list[int]:
    """The slices of one study with the most attention.

    Args:
        slice_attention: (Z,) non-negative; slices with exactly 0 (padding) are never chosen.
        k: how many at most.
        min_distance: chosen slices lie at least this many slices apart; 2 leaves out direct neighbours of a
            slice chosen before (non-maximum suppression), 1 leaves out none.

    Returns:
        Up to `k` slice indices, most attention first; of equals, the lower index first.
    """
    if isinstance(slice_attention, torch.Tensor):
        slice_attention = slice_attention.detach().cpu().numpy()
    weights = np.asarray(slice_attention, dtype=np.float64)
    if weights.ndim != 1:
        raise AggregationError(
            f"attention has shape {list(weights.shape)}; expected (slices,): one study at a time"
        )
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise AggregationError(
            "attention has negative or non-finite values; expected the output of a softmax"
        )
    if k < 1 or min_distance < 1:
        raise AggregationError(f"k is {k} and min_distance {min_distance}; expected 1 or more")
    chosen: list[int] = []
    for index in np.argsort(-weights, kind="stable").tolist():
        if len(chosen) == k or weights[index] == 0:
            break
        if all(abs(index - other) >= min_distance for other in chosen):
            chosen.append(index)
    return chosen
