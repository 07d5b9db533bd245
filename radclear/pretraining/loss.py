"""The lesion-enhanced contrastive loss (LeCL) and, where no lesion takes part, the MoCo-v3 loss.

With s_ij = q_i·k_j / τ, positives j = i, and G the samples of the global batch whose slice is an annotated
lesion slice:

    similarity   L_i = -s_ii + log( sum_j exp(s_ij) +   sum_{j in G, j != i} exp(w s_ij) )
    density      L_i = -s_ii + log( sum_j exp(s_ij) + w sum_{j in G, j != i} exp(s_ij)   )

The loss is 2τ times the mean of L_i. Source: CLEAR (arXiv 2411.16803); control and factor 2τ after MoCo v3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

WEIGHTINGS = ("similarity", "density")


def lecl_loss(
    q: Tensor,
    k: Tensor,
    lesion_mask: Tensor,
    *,
    temperature: float = 1.0,
    weight: float = 1.0,
    weighting: str = "similarity",
    rank: int = 0,
    exclude: Tensor | None = None,
    lesion_queries_only: bool = False,
) -> Tensor:
    """LeCL for one view order; sum both orders for the symmetrised loss.

    Args:
        q: (n, d) L2-normalised queries of this process.
        k: (N, d) L2-normalised keys of the global batch, gathered over the processes in rank order; they
            receive no gradient.
        lesion_mask: (N,) bool, which samples of the global batch are annotated lesion slices.
        temperature: τ.
        weight: w of the formulas above; 0 is exactly the MoCo-v3 control.
        weighting: `"similarity"` or `"density"`.
        rank: of this process; sample i of it has its positive at key rank·n + i.
        exclude: (n, N) bool, keys that are no negatives of a query (for example of the same patient). The
            positive of a query is always kept.
        lesion_queries_only: give the lesion term only to queries that are lesion slices themselves.

    Returns:
        Scalar float32 loss, whatever the autocast dtype.

    Raises:
        ValueError: shapes that do not belong together, an unknown weighting, a temperature or weight out of
            range, or masks that are not bool.
    """
    n, total = q.shape[0], k.shape[0]
    if not temperature > 0 or not weight >= 0:
        raise ValueError(f"temperature is {temperature} and weight {weight}; expected above 0, and 0 or more")
    if weighting not in WEIGHTINGS:
        raise ValueError(f"weighting {weighting!r} is unknown; expected one of {', '.join(WEIGHTINGS)}")
    if q.shape[1] != k.shape[1] or lesion_mask.shape != (total,) or (rank + 1) * n > total:
        raise ValueError(
            f"queries {tuple(q.shape)} of rank {rank}, keys {tuple(k.shape)} and lesion mask "
            f"{tuple(lesion_mask.shape)} do not belong to one global batch"
        )
    if lesion_mask.dtype != torch.bool or (exclude is not None and exclude.dtype != torch.bool):
        raise ValueError("lesion_mask and exclude must be bool tensors")
    if exclude is not None and exclude.shape != (n, total):
        raise ValueError(f"exclude is {tuple(exclude.shape)}; expected {(n, total)}, queries by keys")
    with torch.autocast(q.device.type, enabled=False):
        similarity = q.float() @ k.detach().float().T / temperature
        positive = torch.zeros(n, total, dtype=torch.bool, device=q.device)
        positive[torch.arange(n), rank * n + torch.arange(n)] = True
        absent = torch.zeros_like(positive) if exclude is None else exclude & ~positive
        terms = similarity.masked_fill(absent, -math.inf)
        if weight != 0:
            extra = lesion_mask[None, :] & ~positive & ~absent
            if lesion_queries_only:
                extra = extra & lesion_mask[rank * n : rank * n + n, None]
            lesion = similarity * weight if weighting == "similarity" else similarity + math.log(weight)
            terms = torch.cat([terms, lesion.masked_fill(~extra, -math.inf)], dim=1)
        return 2 * temperature * (torch.logsumexp(terms, dim=1) - similarity[positive]).mean()
