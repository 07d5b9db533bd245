"""Calibrate a head on its validation studies: a temperature or isotonic maps, and a threshold per class."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from radclear.aggregation import to_probabilities
from radclear.bundle.isotonic import fit_isotonic, isotonic_probabilities
from radclear.bundle.location import BundleError

logger = logging.getLogger(__name__)

METHODS = ("temperature", "isotonic")


def check_method(method: str) -> str:
    """`method` itself, or an error that names those there are."""
    if method not in METHODS:
        raise BundleError(
            f"calibration is {method!r}; expected {' or '.join(METHODS)}, with --calibration METHOD"
        )
    return method


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
    logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    kind: str,
    classes: Sequence[str],
    method: str = "temperature",
) -> dict[str, Any]:
    """What a head's metadata keep: `temperature` or `isotonic`, and `operating_points`.

    Args:
        logits, labels, kind: see `fit_temperature`.
        classes: C names.
        method: `temperature`, one number that keeps the order of the studies; or `isotonic`, see
            `radclear.bundle.isotonic`.

    Returns:
        Ready for JSON. Operating points are of calibrated probabilities; None unless multilabel.
    """
    if check_method(method) == "isotonic":
        maps = fit_isotonic(logits, labels, kind=kind, classes=classes)
        if empty := [name for name, knots in maps.items() if knots is None]:
            logger.warning(
                "no isotonic map for %s: all studies or none are positive; probabilities stay as they are",
                ", ".join(empty),
            )
        fitted: dict[str, Any] = {"isotonic": maps}
    else:
        fitted = {"temperature": round(fit_temperature(logits, labels, kind=kind), 6)}
    probabilities = calibrated_probabilities(logits, fitted, kind=kind, classes=classes)
    points = operating_points(probabilities, labels, classes) if kind == "multilabel" else None
    return {**fitted, "operating_points": points}


def calibrated_probabilities(
    logits: torch.Tensor, calibration: Mapping[str, Any], *, kind: str, classes: Sequence[str]
) -> torch.Tensor:
    """(…, C) logits → (…, C) float64 probabilities.

    Args:
        logits: of a head.
        calibration: with `isotonic` or `temperature`; with neither, the head's own probabilities.
        kind, classes: of the head.
    """
    if calibration.get("isotonic") is not None:
        return isotonic_probabilities(logits, calibration["isotonic"], kind=kind, classes=classes)
    return to_probabilities(logits.double() / (calibration.get("temperature") or 1.0), kind)


def describe_calibration(calibration: Mapping[str, Any]) -> str:
    """For the record of a head: what was fitted, in words."""
    fitted = "isotonic calibration" if "isotonic" in calibration else "temperature"
    empty = [name for name, knots in (calibration.get("isotonic") or {}).items() if knots is None]
    left = f" (none for {', '.join(empty)}: all studies or none are positive)" if empty else ""
    return f"{fitted}{left} and operating points"


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
