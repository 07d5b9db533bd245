"""Auxiliary labels of a cohort: columns of its label table that a head learns beside its classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from radclear.cohort.label_rows import MISSING, LabelTableError, read_rows
from radclear.cohort.labels import LabelTable


@dataclass(frozen=True)
class AuxiliaryLabels:
    """The values of K columns.

    Attributes:
        values: for each column its values, sorted, as the studies to train on have them.
        labels: study → for each column the number of its value; -1 where it has none, or one that no study to
            train on has.
    """

    values: dict[str, tuple[str, ...]]
    labels: dict[str, tuple[int, ...]]

    @property
    def n_values(self) -> tuple[int, ...]:
        """How many values each column has."""
        return tuple(len(values) for values in self.values.values())

    def of(self, study: str) -> tuple[int, ...]:
        """The labels of a study; -1 for all of one that is not in the table."""
        return self.labels.get(study, (-1,) * len(self.values))


def auxiliary_labels(
    path: str | Path, columns: Sequence[str], table: LabelTable, split: str = "train"
) -> AuxiliaryLabels | None:
    """Read the columns of a label table; None where no column is named.

    Args:
        path: the table that `table` was read from.
        columns: names, such as `["t", "n", "m"]`; a value is any text, and a missing one teaches nothing.
        table: says which studies are trained on.
        split: theirs.

    Raises:
        LabelTableError: a column that is missing or named twice, or in which the studies to train on have not
            two values.
    """
    if isinstance(columns, str):
        raise LabelTableError(f"auxiliary is {columns!r}; expected a list of columns, such as ['{columns}']")
    if not columns:
        return None
    if len(set(columns)) != len(columns):
        raise LabelTableError(f"auxiliary columns {list(columns)} name one twice")
    rows = {row["study"]: row for _, row in read_rows(Path(path), required=("study", *columns))}
    trained = [rows[study.study] for study in table.split(split)]
    values = {}
    for column in columns:
        found = sorted({row[column] for row in trained if row[column].lower() not in MISSING})
        if len(found) < 2:
            raise LabelTableError(
                f"{path}: the auxiliary column {column!r} has {' and '.join(found) or 'no value'} in all of "
                f"{len(trained)} studies to train on; expected two values or more, or leave it out"
            )
        values[column] = tuple(found)
    number = {column: {text: i for i, text in enumerate(found)} for column, found in values.items()}
    labels = {
        study: tuple(number[column].get(row[column], -1) for column in columns) for study, row in rows.items()
    }
    return AuxiliaryLabels(values, labels)
