"""The parts of a head's `train.json` that change where annotated slices or auxiliary labels are given."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from radclear.aggregation import (
    AuxiliaryLoss,
    MILAggregator,
    SupervisedAttentionLoss,
    WithAttention,
    WithAuxiliary,
)
from radclear.bundle.boxes import read_boxes, read_finding_boxes
from radclear.cohort import AuxiliaryLabels


def annotated_slices(
    boxes: str | Path | None, *, kinds: Sequence[str] | None, findings: Sequence[str] = ()
) -> dict[str, tuple[set[int], ...]] | None:
    """Study → annotated slices of the kinds that count, for each finding; None without a box table.

    Args:
        boxes: the table.
        kinds: which kinds count; all when None.
        findings: of the branches of the attention; where there are none, all boxes are of one.

    Raises:
        BundleError: see `radclear.bundle.boxes`.
    """
    if boxes is None:
        return None
    if findings:
        return read_finding_boxes(boxes, findings=findings, kinds=kinds)
    return {study: (slices,) for study, slices in read_boxes(boxes, kinds=kinds).items()}


def training_network(
    aggregator: MILAggregator, boxes: str | Path | None, auxiliary: AuxiliaryLabels | None = None
) -> nn.Module:
    """The aggregator as it is trained: with its attention as a second output where there are boxes, within a
    network that learns auxiliary labels where there are such."""
    network = aggregator if boxes is None else WithAttention(aggregator)
    return network if auxiliary is None else WithAuxiliary(network, aggregator, auxiliary.n_values)


def training_loss(
    loss: nn.Module,
    boxes: str | Path | None,
    *,
    weight: float,
    auxiliary: AuxiliaryLabels | None = None,
    auxiliary_weight: float = 1.0,
) -> nn.Module:
    """The loss of `training_network`: with the attention's term, times `weight`, where there are boxes, and
    those of auxiliary labels, times `auxiliary_weight`, where there are such."""
    if boxes is not None:
        loss = SupervisedAttentionLoss(loss, weight=weight)
    return loss if auxiliary is None else AuxiliaryLoss(loss, weight=auxiliary_weight)


def annotation_record(
    boxes: str | Path | None, *, weight: float, findings: Sequence[str] = ()
) -> dict[str, Any]:
    """What a training's record says of the boxes; nothing where there were none."""
    if boxes is None:
        return {}
    sha256 = hashlib.sha256(Path(boxes).read_bytes()).hexdigest()
    return {"boxes_sha256": sha256, "attention_weight": weight, "findings": list(findings)}


def auxiliary_record(auxiliary: AuxiliaryLabels | None, *, weight: float) -> dict[str, Any]:
    """What a training's record says of auxiliary labels; nothing where there were none.

    Columns and their numbers of values: the values are a cohort's texts, and the record goes with weights.
    """
    if auxiliary is None:
        return {}
    counts = dict(zip(auxiliary.values, auxiliary.n_values, strict=True))
    return {"auxiliary": counts, "auxiliary_weight": weight}
