"""Several attentions over one bag, one for each finding, and what each of them found.

One softmax over the bag has to share itself among all lesions of a study, and says nothing of which finding
an instance was looked at for. Here each of K branches has an attention of its own, as one branch per class in
CLAM (Lu et al. 2021, arXiv 2004.09666), and tells how much evidence of its finding it sees. With annotated
slices a branch can be taught its finding, see `radclear.aggregation.supervised_attention`; without them the
branches share the work as the labels make them.

Legend: B studies, n instances, W windows, d embedding dimension, K branches, h hidden dimension, C classes.
"""

from __future__ import annotations

import torch
from torch import nn

from radclear.aggregation.mil import AggregationError, MILAggregator, at_least_float32, last_layers

RARE_LOGIT = -3.0  # an instance shows a finding seldom: where training starts


class MultiBranchMIL(MILAggregator):
    """K attentions; the study's vector joins what they pooled and their evidence.

    With a_ik the attention of branch k and s_ik the evidence of its finding in instance i,

        e_k = sum_i a_ik s_ik        logits = W [..., r(sum_i a_ik h_i), e_k, ...]

    where r is a small layer that the branches share. Where there is one branch per class (and the classes
    are not ordinal), e_k is added to the logit of class k: the branch is the class's own, with boxes or
    without. The attention of an instance is the mean of its a_ik, weighted with sigmoid(e_k): a branch that
    found nothing does not point anywhere.

    With `n_windows` W above 1, h_i is made of a whole slice: its W embeddings, one under each window, side by
    side. So what one window shows can tell what the other means. Attention and evidence of a slice are handed
    on to its W instances, the attention in equal parts.

    Attributes:
        attention: (B, n) of the last forward, detached; sums to 1 over a bag and is exactly 0 where masked.
    """

    def __init__(
        self,
        embedding_dim: int,
        n_classes: int,
        *,
        n_branches: int | None = None,
        n_windows: int = 1,
        hidden_dim: int = 128,
        reduced_dim: int = 16,
        dropout: float = 0.3,
        kind: str = "multilabel",
    ) -> None:
        """
        Args:
            embedding_dim, n_classes, hidden_dim, kind: see `MILAggregator`.
            n_branches: K; one per class by default.
            n_windows: W, neighbouring instances of a bag that are one slice; 1 looks at each by itself.
            reduced_dim: width to which a branch's pooled vector is reduced.
            dropout: probability, of the embeddings, the hidden instances and the study's vector.
        """
        super().__init__(embedding_dim, n_classes, hidden_dim=hidden_dim, dropout=dropout, kind=kind)
        if n_windows < 1:
            raise AggregationError(f"n_windows is {n_windows}; expected 1 or more")
        self.n_branches = n_branches or n_classes
        self.n_windows = n_windows
        self.one_per_class = self.n_branches == n_classes and kind != "ordinal"
        self.instance = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(n_windows * embedding_dim, hidden_dim),
            nn.GELU(),
            nn.Dropout(dropout),
        )
        self.scorer = nn.Sequential(
            nn.Linear(hidden_dim, hidden_dim), nn.Tanh(), nn.Linear(hidden_dim, self.n_branches)
        )
        self.finding = nn.Linear(hidden_dim, self.n_branches)
        nn.init.constant_(self.finding.bias, RARE_LOGIT)
        self.reduce = nn.Sequential(
            nn.LayerNorm(hidden_dim), nn.Dropout(dropout), nn.Linear(hidden_dim, reduced_dim), nn.GELU()
        )
        width = self.n_branches * (reduced_dim + 1)
        self.head = nn.Sequential(nn.Dropout(dropout), *last_layers(width, n_classes, kind))

    def forward(self, feats: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """As `MILAggregator.forward`."""
        logits, branches, evidence = self.branch(feats, mask)
        found = (branches * evidence).sum(dim=1)
        weight = torch.softmax(nn.functional.logsigmoid(found), dim=1)  # holds where every sigmoid is 0, too
        self.attention = (branches * weight.unsqueeze(1)).sum(dim=2).detach()
        return logits

    def branch(
        self, feats: torch.Tensor, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits (B, C), attention (B, n, K) and evidence (B, n, K), logits of "this instance shows it"."""
        feats, mask = self._slices(self.checked(feats, mask), mask)
        hidden = self.instance(feats)
        scores = at_least_float32(self.scorer(hidden))
        if mask is not None:
            scores = scores.masked_fill(~mask.unsqueeze(2), float("-inf"))
        branches = torch.softmax(scores, dim=1)
        evidence = at_least_float32(self.finding(hidden))
        # elementwise as in `MILAggregator.classify`: autocast would take a matrix product to half precision
        full = at_least_float32(hidden)
        pooled = torch.stack(
            [(branch.unsqueeze(2) * full).sum(dim=1) for branch in branches.unbind(2)], dim=1
        )
        found = (branches * evidence).sum(dim=1)
        study = torch.cat([self.reduce(pooled), found.unsqueeze(2)], dim=2).flatten(1)
        logits = at_least_float32(self.head(study))
        if self.one_per_class:
            logits = logits + found
        if self.n_windows > 1:
            branches = branches.repeat_interleave(self.n_windows, dim=1) / self.n_windows
            evidence = evidence.repeat_interleave(self.n_windows, dim=1)
        return logits, branches, evidence

    def _slices(
        self, feats: torch.Tensor, mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(B, n, d) instances and their mask to (B, n/W, W·d) slices and theirs."""
        n_windows = self.n_windows
        if n_windows == 1:
            return feats, mask
        if feats.shape[1] % n_windows:
            raise AggregationError(
                f"{feats.shape[1]} instances cannot be slices of {n_windows} windows each, which this head "
                "takes together: pass whole slices, the windows of a slice beside each other"
            )
        depth = feats.shape[1] // n_windows
        feats = feats.reshape(feats.shape[0], depth, n_windows * feats.shape[2])
        if mask is not None:
            windows = mask.reshape(mask.shape[0], depth, n_windows)
            mask = windows.all(dim=2)
            if not torch.equal(mask, windows.any(dim=2)):
                raise AggregationError(
                    "some slices are real under one window and padded under another; expected a mask that is "
                    f"the same for the {n_windows} windows of a slice"
                )
        return feats, mask
