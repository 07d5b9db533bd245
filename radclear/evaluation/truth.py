"""What is true of each study: from the prediction table's own columns, or from a label table beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from radclear.evaluation.csv_rows import CsvRows, check_identities, class_index, read_csv, yes_or_no
from radclear.evaluation.errors import EvaluationError

LABEL_PREFIX = "label_"
LABEL_COLUMNS = ("label", "stage")
_SINGLE_KIND = {"label": "multiclass", "stage": "ordinal"}


@dataclass(frozen=True)
class TruthColumns:
    """Which columns say what is true.

    Attributes:
        table: that has them.
        kind: `"multilabel"`, `"multiclass"` or `"ordinal"`.
        columns: one per class for multilabel, else the one column that names the class.
    """

    table: CsvRows
    kind: str
    columns: tuple[str, ...]

    def of(
        self, number: int, row: Mapping[str, str], classes: Sequence[str]
    ) -> tuple[np.ndarray | None, str]:
        """(C,) booleans of one row, or None and the column that is empty."""
        if self.kind == "multilabel":
            values = [yes_or_no(self.table, number, row, column) for column in self.columns]
            if None in values:
                return None, self.columns[values.index(None)]
            return np.array(values, dtype=bool), ""
        index = class_index(self.table, number, row, self.columns[0], classes)
        if index is None:
            return None, self.columns[0]
        return np.eye(len(classes), dtype=bool)[index], ""


def own_truth(table: CsvRows, classes: Sequence[str], *, kind: str | None) -> TruthColumns | None:
    """The label columns of a prediction table, None where it has none.

    Args:
        table: rows of the prediction table.
        classes: of its probability columns.
        kind: what the table must be; by its columns when omitted: `label_<class>` makes it multilabel,
            `label` multiclass, `stage` ordinal.

    Raises:
        EvaluationError: a label for an unknown class, a class without label, or columns of another kind.
    """
    several = [name for name in table.columns if name.startswith(LABEL_PREFIX)]
    single = [name for name in table.columns if name in LABEL_COLUMNS]
    if len(single) + bool(several) > 1:
        raise EvaluationError(
            f"prediction table {table.path} has the label columns {', '.join((*single, *several))}; expected "
            "either label_<class> for every class, or label, or stage"
        )
    if several:
        if kind not in (None, "multilabel"):
            raise EvaluationError(
                f"prediction table {table.path} has label_<class> columns, which {kind} tables do not "
                "have; put the name of the one true class into a column label or stage"
            )
        labelled = [name[len(LABEL_PREFIX) :] for name in several]
        if unknown := [name for name in labelled if name not in classes]:
            raise EvaluationError(
                f"prediction table {table.path} has labels for the unknown class {', '.join(unknown)}, "
                f"which has no probability column; classes are {', '.join(classes)}"
            )
        if missing := [name for name in classes if name not in labelled]:
            raise EvaluationError(
                f"prediction table {table.path} lacks the column "
                f"{', '.join(LABEL_PREFIX + n for n in missing)}; every class needs its labels"
            )
        return TruthColumns(table, "multilabel", tuple(LABEL_PREFIX + name for name in classes))
    if not single:
        return None
    if kind == "multilabel":
        raise EvaluationError(
            f"prediction table {table.path} has one label column, {single[0]}; a multilabel table needs "
            "label_<class> of 0 and 1 for every class"
        )
    return TruthColumns(table, kind or _SINGLE_KIND[single[0]], tuple(single))


def read_label_table(path: str | Path, classes: Sequence[str], *, kind: str | None) -> TruthColumns:
    """The label columns of a separate table.

    Args:
        path: CSV with `study` and the labels: for every class a column of 0 and 1 called `label_<class>`,
            `<class>` or `<anything>_<class>`; or one column `label` or `stage` with the class name.
        classes: whose labels are wanted.
        kind: as for :func:`own_truth`.

    Raises:
        EvaluationError: the table cannot be read, holds a study twice, or lacks a class.
    """
    table = read_csv(path, required=("study",), what="label table")
    check_identities(table, group_columns=(), what="label table")
    single = [name for name in LABEL_COLUMNS if name in table.columns]
    columns = [_column_of(table, name) for name in classes]
    if kind in (None, "multilabel") and None not in columns:
        return TruthColumns(table, "multilabel", tuple(columns))
    if kind != "multilabel" and len(single) == 1:
        return TruthColumns(table, kind or _SINGLE_KIND[single[0]], tuple(single))
    if kind in (None, "multilabel") and not single or kind == "multilabel":
        lacking = ", ".join(name for name, column in zip(classes, columns, strict=True) if column is None)
        raise EvaluationError(
            f"label table {path} has no column, or more than one, for the class {lacking}; expected "
            f"label_<class>, <class> or one column that ends with _<class>, or one column label or stage"
        )
    raise EvaluationError(
        f"label table {path} has {', '.join(single) or 'neither label nor stage'}; expected exactly one "
        "column label or stage with the name of the class"
    )


def _column_of(table: CsvRows, name: str) -> str | None:
    for exact in (LABEL_PREFIX + name, name):
        if exact in table.columns:
            return exact
    ending = [column for column in table.columns if column.endswith(f"_{name}")]
    return ending[0] if len(ending) == 1 else None
