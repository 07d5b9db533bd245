"""A backbone and an aggregator as one network: the slices of a study in, its logits out.

Legend: B studies, W windows, Z slices, S side of a slice, n = Z·W instances, d embedding dimension, C
    classes.
"""

from __future__ import annotations

import torch
from torch import nn

from radclear.aggregation.mil import AggregationError, at_least_float32
from radclear.backbones import normalize_slices, resolve_precision
from radclear.backbones.precision import autocast


class StudyClassifier(nn.Module):
    """Streams slices through the backbone in chunks, then aggregates the bag.

    Instances are interleaved as CLEAR does: instance z·W + w is slice z under window w. Only `chunk_size`
    slices are normalised and embedded at a time, so that with a frozen backbone the activations held do not
    depend on Z. The network follows its input's device; a scripted one computes in the type of its weights,
    without autocast.

    Attributes:
        attention: (B, Z·W) of the last forward, detached.
        embeddings: (B, Z·W, d) of the last forward, detached; zeros where padded.
    """

    def __init__(
        self,
        backbone: nn.Module,
        aggregator: nn.Module,
        *,
        chunk_size: int = 8,
        precision: str = "float32",
        frozen_backbone: bool = True,
    ) -> None:
        """
        Args:
            backbone: (b, 3, S, S) → (b, d), as `radclear.backbones.build` makes it.
            aggregator: (B, n, d), mask (B, n) → (B, C), with `attention` afterwards.
            chunk_size: slices per backbone call.
            precision: of the backbone, see `radclear.backbones.resolve_precision`; the aggregator gets
                float32.
            frozen_backbone: the backbone takes no gradient and stays in evaluation mode when the rest trains.
        """
        super().__init__()
        if chunk_size < 1:
            raise AggregationError(f"chunk_size is {chunk_size}; expected 1 or more slices per backbone call")
        expected = getattr(aggregator, "embedding_dim", None)
        if expected is not None and expected != backbone.embedding_dim:
            raise AggregationError(
                f"the backbone gives embeddings of width {backbone.embedding_dim} and the aggregator expects "
                f"{expected}: build the head with the backbone's embedding_dim, or choose the backbone that "
                "the head was trained on"
            )
        self.backbone = backbone
        self.aggregator = aggregator
        self.chunk_size = chunk_size
        self.precision = precision
        self.frozen_backbone = frozen_backbone
        self.attention = torch.zeros(0, 0)
        self.embeddings = torch.zeros(0, 0, 0)
        if frozen_backbone:
            backbone.requires_grad_(False)
            backbone.eval()

    def train(self, mode: bool = True) -> StudyClassifier:
        """Training mode for what trains."""
        super().train(mode)
        if self.frozen_backbone:
            self.backbone.eval()
        return self

    def forward(self, x: torch.Tensor, n_slices: torch.Tensor | None = None) -> torch.Tensor:
        """
        Args:
            x: (B, W, Z, S, S) grey levels in [0, 1].
            n_slices: (B,) integers, how many of the Z slices are real where studies were padded at the end;
                all are when omitted. Padded slices are not embedded.

        Returns:
            (B, C) logits, float32 or better.

        Raises:
            AggregationError: wrong shape, or counts outside 1…Z.
        """
        if x.dim() != 5 or x.numel() == 0:
            raise AggregationError(
                f"slices have shape {list(x.shape)}; expected (studies, windows, slices, side, side)"
            )
        n_studies, n_windows, depth = x.shape[0], x.shape[1], x.shape[2]
        n_instances = depth * n_windows
        if n_slices is None:
            feats = self.embed_instances(x, torch.arange(n_studies * n_instances, device=x.device))
            bags = feats.unflatten(0, (n_studies, n_instances))
            logits = self.aggregator(bags, None)
        else:
            if list(n_slices.shape) != [n_studies] or not bool(((n_slices >= 1) & (n_slices <= depth)).all()):
                raise AggregationError(
                    f"n_slices is {n_slices}; expected for each of {n_studies} studies a count from "
                    f"1 to {depth}"
                )
            real = torch.arange(depth, device=x.device).unsqueeze(0) < n_slices.to(x.device).unsqueeze(1)
            mask = real.repeat_interleave(n_windows, dim=1)
            index = mask.flatten().nonzero().squeeze(1)
            feats = self.embed_instances(x, index)
            bags = torch.zeros(n_studies * n_instances, feats.shape[1], dtype=feats.dtype, device=x.device)
            bags = bags.index_copy(0, index, feats).unflatten(0, (n_studies, n_instances))
            logits = self.aggregator(bags, mask)
        self.attention = self.aggregator.attention
        self.embeddings = bags.detach()
        return logits

    def embed_instances(self, x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Embed some instances of a batch, a chunk at a time.

        Args:
            x: (B, W, Z, S, S) grey levels in [0, 1].
            index: (m,) positions in the batch's B·Z·W instances, windows of a slice beside each other.

        Returns:
            (m, d) float32 or better.
        """
        if self.frozen_backbone:
            with torch.no_grad():
                return self._embed_chunks(x, index)
        return self._embed_chunks(x, index)

    def _embed_chunks(self, x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        if torch.jit.is_scripting():
            return self._chunk_loop(x, index)
        dtype = resolve_precision(self.precision, x.device)
        with autocast(x.device, dtype):
            return self._chunk_loop(x, index)

    def _chunk_loop(self, x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        n_windows, depth = x.shape[1], x.shape[2]
        chunks: list[torch.Tensor] = []
        for start in range(0, index.shape[0], self.chunk_size):
            part = index[start : start + self.chunk_size]
            window = part % n_windows
            slice_index = torch.div(part, n_windows, rounding_mode="floor") % depth
            study = torch.div(part, n_windows * depth, rounding_mode="floor")
            images = x[study, window, slice_index]
            chunks.append(at_least_float32(self.backbone(normalize_slices(images))))
        return torch.cat(chunks)
