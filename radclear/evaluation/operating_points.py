"""Thresholds that a head chose on its validation studies, for the calls of its predictions."""

from __future__ import annotations

import json
from pathlib import Path

from radclear.evaluation.errors import EvaluationError


def read_operating_points(path: str | Path) -> dict[str, float]:
    """Class → threshold, of the classes that have one.

    Args:
        path: the `<task>_metrics.json` that a head's `evaluate.json` writes beside its predictions.

    Raises:
        EvaluationError: it is another file, or of a head without operating points.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise EvaluationError(f"operating points {path} cannot be read: {error.strerror or error}") from error
    except ValueError:
        found = None
    # calibration.json of a cross-validation has some too: of calibrated probabilities, and its table is not
    if not isinstance(found, dict) or not {"operating_points", "macro_auroc"} <= found.keys():
        raise EvaluationError(
            f"{path} is not a <task>_metrics.json as a head's evaluate.json writes it beside its predictions "
            "(one of an older version has no operating points: evaluate again); or give --threshold CLASS=X"
        )
    points = {name: value for name, value in (found["operating_points"] or {}).items() if value is not None}
    if not points:
        raise EvaluationError(
            f"the head of {path} has no operating points: only multilabel heads that were calibrated on "
            "validation studies have some; leave out --operating-points"
        )
    return points
