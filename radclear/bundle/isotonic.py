"""Isotonic calibration of a head: a rising map from its probabilities to observed shares, kept as knots.

Zadrozny and Elkan, KDD 2002: the map is the rising function nearest to the labels in squares, found by
pooling adjacent violators; between its knots it is straight, beyond them constant. Where exactly one class is
true:

- multiclass: a map per class against the others, then divided by their sum; where all maps say 0, nothing is
  known and the classes get equal shares;
- ordinal: a map per cut for the probability of the classes above it, so that the order counts. Maps of
  neighbouring cuts may cross; the nearest falling sequences from above and from below are then averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from radclear.aggregation import class_probabilities, cumulative_logits, to_probabilities
from radclear.bundle.location import BundleError

Knots = dict[str, list[float]]  # `probability` and `calibrated`, both rising


def fit_isotonic(
    logits: torch.Tensor, labels: torch.Tensor, *, kind: str, classes: Sequence[str]
) -> dict[str, Knots | None]:
    """A map for each class, or for each cut between ordered classes.

    Args:
        logits: (N, C) of studies that the head was not trained on.
        labels: (N, C) of 0 and 1 for multilabel, (N,) class indices for multiclass and ordinal.
        kind: `multilabel`, `multiclass` or `ordinal`.
        classes: C names.

    Returns:
        Name of the map → knots for JSON; None where all studies or none are positive, which says nothing.
    """
    scores = _scores(logits, kind).numpy()
    labels = labels.numpy()
    maps: dict[str, Knots | None] = {}
    for column, name in enumerate(map_names(kind, classes)):
        if kind == "multilabel":
            positive = labels[:, column] > 0.5
        else:
            positive = labels > column if kind == "ordinal" else labels == column
        known = positive.any() and not positive.all()
        maps[name] = pool_adjacent_violators(scores[:, column], positive) if known else None
    return maps


def pool_adjacent_violators(scores: np.ndarray, positive: np.ndarray) -> Knots:
    """The rising step function of the scores that is nearest to the labels, as the ends of its steps.

    Args:
        scores: (N,).
        positive: (N,) booleans.
    """
    x, group = np.unique(np.asarray(scores, dtype=np.float64), return_inverse=True)
    n = np.bincount(group).astype(np.float64)
    hits = np.bincount(group, positive)
    blocks: list[list[float]] = []  # studies, positives, first and last group
    for index in range(len(x)):
        blocks.append([n[index], hits[index], index, index])
        while len(blocks) > 1 and blocks[-2][1] * blocks[-1][0] >= blocks[-1][1] * blocks[-2][0]:
            studies, positives, _, last = blocks.pop()
            blocks[-1][0] += studies
            blocks[-1][1] += positives
            blocks[-1][3] = last
    knots: Knots = {"probability": [], "calibrated": []}
    for studies, positives, first, last in blocks:
        for end in dict.fromkeys((first, last)):
            knots["probability"].append(float(x[int(end)]))
            knots["calibrated"].append(float(positives / studies))
    return knots


def isotonic_probabilities(
    logits: torch.Tensor, maps: Mapping[str, Knots | None], *, kind: str, classes: Sequence[str]
) -> torch.Tensor:
    """(…, C) logits → (…, C) float64 probabilities after the maps; they sum to 1 unless multilabel."""
    scores = _scores(logits, kind)
    columns = []
    for column, name in enumerate(map_names(kind, classes)):
        values, knots = scores[..., column], maps[name]
        if knots is not None:
            mapped = np.interp(values.cpu().numpy(), knots["probability"], knots["calibrated"])
            values = torch.as_tensor(mapped, dtype=torch.float64, device=scores.device)
        columns.append(values)
    values = torch.stack(columns, dim=-1)
    if kind == "multilabel":
        return values
    if kind == "ordinal":
        from_above = values.cummin(dim=-1).values
        from_below = values.flip(-1).cummax(dim=-1).values.flip(-1)
        return class_probabilities((from_above + from_below) / 2)
    total = values.sum(dim=-1, keepdim=True)
    return torch.where(total > 0, values / total, torch.full_like(values, 1 / len(classes)))


def map_names(kind: str, classes: Sequence[str]) -> tuple[str, ...]:
    """What the maps of a head are called, in their order."""
    return tuple(f"above {name}" for name in classes[:-1]) if kind == "ordinal" else tuple(classes)


def check_isotonic(maps: Any, *, kind: str, classes: Sequence[str], where: str) -> dict[str, Knots | None]:
    """The maps themselves, if they are what `fit_isotonic` returns for such a head.

    Raises:
        BundleError: names the map and what is wrong with it.
    """
    expected = map_names(kind, classes)
    if not isinstance(maps, Mapping) or set(maps) != set(expected):
        found = ", ".join(maps) if isinstance(maps, Mapping) else type(maps).__name__
        raise BundleError(
            f"{where}: isotonic calibration has the maps {found}; expected {', '.join(expected)}, one for "
            f"each {'cut between classes' if kind == 'ordinal' else 'class'}. Train the head again"
        )
    for name, knots in maps.items():
        if knots is None:
            continue
        try:
            x, y = (np.asarray(knots[key], dtype=np.float64) for key in ("probability", "calibrated"))
            good = x.ndim == 1 and len(x) > 0 and x.shape == y.shape
            good = good and bool((np.diff(x) > 0).all() and (np.diff(y) >= 0).all())
            good = good and bool(((x >= 0) & (x <= 1)).all() and ((y >= 0) & (y <= 1)).all())
        except (KeyError, TypeError, ValueError):
            good = False
        if not good:
            raise BundleError(
                f"{where}: the isotonic map of {name} is damaged; expected equally many rising numbers from "
                "0 to 1 under probability and calibrated. Train the head again"
            )
    return dict(maps)


def _scores(logits: torch.Tensor, kind: str) -> torch.Tensor:
    """What the maps take: (…, C) probabilities, or (…, C-1) of the classes above each cut."""
    logits = logits.detach().double()
    return cumulative_logits(logits).sigmoid() if kind == "ordinal" else to_probabilities(logits, kind)
