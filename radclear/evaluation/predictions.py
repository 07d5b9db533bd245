"""The prediction table: one row per study, what statistics are computed from."""

from __future__ import annotations

import csv
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from radclear.evaluation.errors import EvaluationError


def write_predictions(
    path: str | Path,
    *,
    studies: Sequence[str],
    patients: Sequence[str],
    splits: Sequence[str],
    probabilities: np.ndarray,
    labels: np.ndarray | None,
    kind: str,
    classes: Sequence[str],
    key_slices: Sequence[Sequence[int]] | None = None,
    n_slices: Sequence[int] | None = None,
    folds: Sequence[int] | None = None,
) -> Path:
    """Write `study, patient, split`, one probability per class and the labels, as CSV.

    Args:
        path: replaced as a whole or not at all.
        studies: N names, as in the label table.
        patients: N.
        splits: N.
        probabilities: (N, C).
        labels: (N, C) of 0 and 1, or (N,) class indices for multiclass and ordinal; None where they are
            unknown.
        kind: `"multilabel"`: columns `label_<class>` of 0 and 1; `"multiclass"`: one column `label` with
            class names; `"ordinal"`: the same as `stage`, with classes from low to high.
        classes: C names; the probabilities are in columns `probability_<class>`.
        key_slices: N, slice indices from 0, most attention first; column `key_slices`.
        folds: N, which model of a cross-validation predicted each study; column `fold`.
        n_slices: N, how many slices each study has; column `n_slices`.

    Returns:
        `path`.
    """
    from radclear.aggregation import check_kind

    path = Path(path)
    check_kind(kind)
    probabilities = np.asarray(probabilities, dtype=np.float64)
    n_studies, n_classes = len(studies), len(classes)
    counts = {len(patients), len(splits), n_studies}
    if probabilities.shape != (n_studies, n_classes) or len(counts) > 1:
        raise EvaluationError(
            f"{n_studies} studies, {len(patients)} patients, {len(splits)} splits and probabilities of shape "
            f"{list(probabilities.shape)}; expected one row per study and one column for each of {n_classes} "
            "classes"
        )
    header = ["study", "patient", "split", *(f"probability_{name}" for name in classes)]
    label_columns, label_rows = _label_columns(labels, kind, classes, n_studies)
    optional_columns = {}
    if key_slices is not None:
        optional_columns["key_slices"] = [" ".join(str(int(index)) for index in row) for row in key_slices]
    if folds is not None:
        optional_columns["fold"] = [int(fold) for fold in folds]
    if n_slices is not None:
        optional_columns["n_slices"] = [int(count) for count in n_slices]
    for name, values in optional_columns.items():
        if len(values) != n_studies:
            raise EvaluationError(f"{name} of {len(values)} studies; expected one for each of {n_studies}")
    optional_rows = zip(*optional_columns.values(), strict=True) if optional_columns else [()] * n_studies
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([*header, *label_columns, *optional_columns])
            for *who, row, label, slices in zip(
                studies, patients, splits, probabilities, label_rows, optional_rows, strict=True
            ):
                writer.writerow([*who, *(f"{p:.9g}" for p in row), *label, *slices])
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def _label_columns(
    labels: np.ndarray | None, kind: str, classes: Sequence[str], n_studies: int
) -> tuple[list[str], list[list]]:
    if labels is None:
        return [], [[] for _ in range(n_studies)]
    labels = np.asarray(labels)
    if kind != "multilabel" and labels.ndim == 2 and labels.shape[1] == len(classes):
        labels = labels.argmax(axis=1)
    expected = (n_studies,) if kind != "multilabel" else (n_studies, len(classes))
    if labels.shape != expected:
        raise EvaluationError(f"labels have shape {list(labels.shape)}; expected {list(expected)} for {kind}")
    if kind != "multilabel":
        return ["label" if kind == "multiclass" else "stage"], [[classes[int(index)]] for index in labels]
    return [f"label_{name}" for name in classes], [[int(value) for value in row] for row in labels]
