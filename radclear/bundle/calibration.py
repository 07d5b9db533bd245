"""Calibrate a head on its validation studies: one temperature, and a threshold per class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from radclear.aggregation import to_probabilities


def fit_temperature(logits: torch.Tensor, labels: torch.Tensor, *, kind: str) -> float:
    """The temperature that makes the labels most likely (Guo et al., ICML 2017).

    Args:
        logits: (N, C).
        labels: (N, C) of 0 and 1 for multilabel, (N,) class indices for multiclass and ordinal.
        kind: `multilabel`, `multiclass` or `ordinal`.

    Returns:
        In [0.05, 20]. The negative log likelihood is convex in 1/T, so that a ternary search finds its
        minimum.
    """
    logits = logits.double()

    def loss(inverse: float) -> float:
        scaled = logits * inverse
        if kind == "multilabel":
            return float(nn.functional.binary_cross_entropy_with_logits(scaled, labels.double()))
        return float(nn.functional.cross_entropy(scaled, labels.long()))

    low, high = 0.05, 20.0
    for _ in range(100):
        third = (high - low) / 3
        if loss(low + third) <= loss(high - third):
            high -= third
        else:
            low += third
    return 2 / (low + high)


def fit_calibration(
    logits: torch.Tensor, labels: torch.Tensor, *, kind: str, classes: Sequence[str]
) -> dict[str, Any]:
    """What a head's metadata keep: `temperature`, and for multilabel heads `operating_points`, else None.

    Args:
        logits, labels, kind: see `fit_temperature`.
        classes: C names.
    """
    temperature = fit_temperature(logits, labels, kind=kind)
    probabilities = to_probabilities(logits.double() / temperature, kind)
    points = operating_points(probabilities, labels, classes) if kind == "multilabel" else None
    return {"temperature": round(temperature, 6), "operating_points": points}


def operating_points(
    probabilities: torch.Tensor, labels: torch.Tensor, classes: Sequence[str]
) -> dict[str, float | None]:
    """Per class the threshold with the largest sensitivity + specificity (Youden's index).

    Args:
        probabilities: (N, C).
        labels: (N, C) of 0 and 1.
        classes: C names.

    Returns:
        Class → threshold, halfway to the next lower probability, so that equal cases stay above it; None
        where all studies or none have the class.
    """
    points: dict[str, float | None] = {}
    for column, name in enumerate(classes):
        scores = probabilities[:, column].double().numpy()
        positive = labels[:, column].numpy() > 0.5
        if positive.all() or not positive.any():
            points[name] = None
            continue
        candidates = np.unique(scores)
        sensitivity = [(scores[positive] >= threshold).mean() for threshold in candidates]
        specificity = [(scores[~positive] < threshold).mean() for threshold in candidates]
        best = int(np.argmax(np.add(sensitivity, specificity)))
        below = candidates[best - 1] if best else 0.0
        points[name] = round(float((candidates[best] + below) / 2), 6)
    return points
