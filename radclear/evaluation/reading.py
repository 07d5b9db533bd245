"""Read a prediction table, anybody's, and say in one sentence what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from radclear.evaluation.csv_rows import MISSING, CsvRows, check_identities, probability, read_csv
from radclear.evaluation.errors import EvaluationError
from radclear.evaluation.panel import KINDS
from radclear.evaluation.table import PredictionTable
from radclear.evaluation.truth import TruthColumns, own_truth, read_label_table

PROBABILITY_PREFIX = "probability_"
_WHAT = "prediction table"
_SUM_TOLERANCE = 0.02


def read_predictions(
    path: str | Path,
    *,
    kind: str | None = None,
    classes: Sequence[str] | None = None,
    split: str | None = None,
    labels: str | Path | None = None,
) -> PredictionTable:
    """Read `study, patient, [split, fold,] probability_<class> …` and the labels.

    Args:
        path: CSV as :func:`radclear.evaluation.write_predictions` writes it, or of any other program; the
            columns are described in docs/reference/predictions-table.md.
        kind: `"multilabel"`, `"multiclass"` or `"ordinal"`; by the label columns when omitted.
        classes: names that the table must have, in the order wanted; the table's own when omitted.
        split: use only studies of this split; needed where the table holds several.
        labels: CSV with the labels, used in place of the table's own.

    Returns:
        The table; its `truth` is None if there are labels neither in it nor beside it.

    Raises:
        EvaluationError: anything that would make figures of something else than the table says.
    """
    if kind is not None and kind not in KINDS:
        raise EvaluationError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}")
    table = read_csv(path, required=("study", "patient"), what=_WHAT)
    names = _class_names(table, classes)
    groups = [name for name in ("split", "fold") if name in table.columns]
    check_identities(table, group_columns=groups, what=_WHAT)
    own = own_truth(table, names, kind=kind)
    source = own if labels is None else read_label_table(labels, names, kind=kind or (own and own.kind))
    found_kind = source.kind if source else kind
    if found_kind is None:
        raise EvaluationError(
            f"{_WHAT} {path} has no label columns; add label_<class> columns, or one column label or "
            "stage, or give a label table with --labels"
        )
    rows = _rows_of_split(table, split)
    probabilities = np.array(
        [[probability(table, n, row, PROBABILITY_PREFIX + name) for name in names] for n, row in rows]
    ).reshape(len(rows), len(names))
    truth, excluded, warnings = _truth_of_rows(rows, names, source, own=own, split=split)
    kept = [i for i in range(len(rows)) if truth is None or truth[i] is not None]
    if not kept:
        raise EvaluationError(
            f"{_WHAT} {path}: none of {len(rows)} studies has labels ({excluded[0][2]}); nothing can be "
            "evaluated"
        )
    rows, probabilities = [rows[i] for i in kept], probabilities[kept]
    _check_probabilities(path, probabilities, names)

    def column(name: str) -> tuple[str, ...] | None:
        return tuple(row[name] for _, row in rows) if name in table.columns else None

    return PredictionTable(
        kind=found_kind,
        classes=names,
        studies=column("study"),
        patients=column("patient"),
        splits=column("split"),
        folds=column("fold"),
        probabilities=probabilities,
        key_slices=_key_slices(table, rows) if "key_slices" in table.columns else None,
        n_slices=_slice_counts(table, rows) if "n_slices" in table.columns else None,
        truth=None if truth is None else np.array([truth[i] for i in kept]),
        excluded=tuple(excluded),
        warnings=(*warnings, *_doubts(probabilities, names, found_kind)),
        name=table.path.name,
        sha256=table.sha256,
        split=split or "",
    )


def _class_names(table: CsvRows, wanted: Sequence[str] | None) -> tuple[str, ...]:
    found = tuple(
        name[len(PROBABILITY_PREFIX) :] for name in table.columns if name.startswith(PROBABILITY_PREFIX)
    )
    if not found or not all(found):
        raise EvaluationError(
            f"{_WHAT} {table.path} lacks the column probability_<class> (one for every class); it has "
            f"{', '.join(table.columns)}"
        )
    if wanted is None:
        return found
    if unknown := [name for name in found if name not in wanted]:
        raise EvaluationError(
            f"{_WHAT} {table.path} has the unknown class {', '.join(unknown)}; expected {', '.join(wanted)}"
        )
    if missing := [name for name in wanted if name not in found]:
        columns = ", ".join(PROBABILITY_PREFIX + name for name in missing)
        raise EvaluationError(f"{_WHAT} {table.path} lacks the column {columns}")
    return tuple(wanted)


def _rows_of_split(table: CsvRows, split: str | None) -> list:
    if "split" not in table.columns:
        if split is not None:
            raise EvaluationError(f"{_WHAT} {table.path} has no split column; leave out --split")
        return list(table.rows)
    counts = Counter(row["split"] for _, row in table.rows if row["split"].lower() not in MISSING)
    listed = ", ".join(f"{name} ({n} studies)" for name, n in counts.items()) or "none"
    if split is None:
        if len(counts) > 1:
            raise EvaluationError(
                f"{_WHAT} {table.path} holds the splits {listed}; choose one with --split, because "
                "predictions for training studies would flatter the figures"
            )
        return list(table.rows)
    if split not in counts:
        raise EvaluationError(f"{_WHAT} {table.path} has no study in split {split!r}; it has {listed}")
    return [(number, row) for number, row in table.rows if row["split"] == split]


def _truth_of_rows(
    rows: list,
    names: Sequence[str],
    source: TruthColumns | None,
    *,
    own: TruthColumns | None,
    split: str | None,
) -> tuple[list | None, list[tuple[int, str, str]], list[str]]:
    """For each row its labels or None; the rows without, with the reason; what a reader must know."""
    if source is None:
        return None, [], []
    beside = None if source is own else {row["study"]: (n, row) for n, row in source.table.rows}
    truth, excluded, warnings, differing = [], [], [], 0
    for number, row in rows:
        line, labelled = (number, row) if beside is None else beside.get(row["study"], (0, None))
        if labelled is None:
            label, reason = None, "not in the label table"
        else:
            label, empty = source.of(line, labelled, names)
            reason = f"no label in {empty}"
            theirs = labelled.get("patient", row["patient"])
            if theirs != row["patient"]:
                raise EvaluationError(
                    f"line {number} of the predictions and line {line} of {source.table.path} name another "
                    "patient for the same study; correct one of them"
                )
        if label is None:
            excluded.append((number, row["study"], reason))
        elif beside is not None and own is not None:
            before, _ = own.of(number, row, names)
            differing += before is not None and bool((before != label).any())
        truth.append(label)
    for reason, n in Counter(reason for *_, reason in excluded).items():
        warnings.append(f"{n} of {len(rows)} studies are left out: {reason}.")
    if beside is not None and own is not None:
        warnings.append(
            "The labels are those of the label table, not the prediction table's own; "
            f"they differ for {differing} studies."
        )
    if beside is not None:
        known = {row["study"] for _, row in rows}
        asked = [
            name for name, (_, row) in beside.items() if split is None or row.get("split", split) == split
        ]
        unanswered = len(set(asked) - known)
        if unanswered:
            warnings.append(f"{unanswered} studies of the label table have no prediction here.")
    return truth, excluded, warnings


def _key_slices(table: CsvRows, rows: list) -> tuple[tuple[int, ...], ...]:
    ranked = []
    for number, row in rows:
        words = row["key_slices"].split()
        if not all(word.isdecimal() for word in words) or len(set(words)) != len(words):
            raise EvaluationError(
                f"{_WHAT} {table.path}, line {number}: key_slices is {row['key_slices']!r}; expected slice "
                "numbers from 0, each once, separated by blanks"
            )
        ranked.append(tuple(map(int, words)))
    return tuple(ranked)


def _slice_counts(table: CsvRows, rows: list) -> tuple[int, ...]:
    for number, row in rows:
        largest = max(map(int, row.get("key_slices", "").split()), default=0)
        if not row["n_slices"].isdecimal() or int(row["n_slices"]) <= largest:
            raise EvaluationError(
                f"{_WHAT} {table.path}, line {number}: n_slices is {row['n_slices']!r}; expected a number "
                f"above that of every key slice ({largest})"
            )
    return tuple(int(row["n_slices"]) for _, row in rows)


def _check_probabilities(path: str | Path, probabilities: np.ndarray, names: Sequence[str]) -> None:
    """Decisions are refused: an AUROC of thresholded answers is another, lower number."""
    for column, name in zip(probabilities.T, names, strict=True):
        if set(np.unique(column)) == {0.0, 1.0} and len(column) > 2:
            raise EvaluationError(
                f"{_WHAT} {path}: {PROBABILITY_PREFIX}{name} holds only 0 and 1, which are decisions; "
                "write the "
                "probabilities before the threshold, because ranking and calibration are lost in decisions"
            )


def _doubts(probabilities: np.ndarray, names: Sequence[str], kind: str) -> list[str]:
    doubts = [
        f"All studies have the same probability of {name}; it ranks nothing."
        for column, name in zip(probabilities.T, names, strict=True)
        if len(column) > 1 and np.ptp(column) == 0
    ]
    if kind != "multilabel":
        away = int((np.abs(probabilities.sum(axis=1) - 1) > _SUM_TOLERANCE).sum())
        if away:
            doubts.append(
                f"The probabilities of {away} studies do not sum to 1, although one of the classes must "
                "hold; calibration figures take them as they are."
            )
    return doubts
