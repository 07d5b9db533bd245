"""Auxiliary labels of a cohort: columns of its label table that a head learns beside its classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from radclear.cohort.label_rows import KEY_COLUMNS, MISSING, LabelTableError, read_rows
from radclear.cohort.labels import LabelTable

MOST_VALUES = 20  # of a column; more are numbers, names or remarks, which nothing is learned from as classes


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
        LabelTableError: no list of names; a column that is missing, named twice, or says who or where a study
            is; or one in which the studies to train on have fewer than two or more than `MOST_VALUES` values.
    """
    _check_names(columns)
    if not columns:
        return None
    rows = {row["study"]: row for _, row in read_rows(Path(path), required=("study", *columns))}
    trained = [rows[study.study] for study in table.split(split)]
    values = {}
    for column in columns:
        found = sorted({row[column] for row in trained if row[column].lower() not in MISSING})
        if not 2 <= len(found) <= MOST_VALUES:
            raise LabelTableError(
                f"{path}: the auxiliary column {column!r} has {len(found)} different values in the "
                f"{len(trained)} studies to train on; expected 2 to {MOST_VALUES}: group them, or leave "
                "the column out of --auxiliary"
            )
        values[column] = tuple(found)
    number = {column: {text: i for i, text in enumerate(found)} for column, found in values.items()}
    labels = {
        study: tuple(number[column].get(row[column], -1) for column in columns) for study, row in rows.items()
    }
    return AuxiliaryLabels(values, labels)


def _check_names(columns: object) -> None:
    """Refuse what is no list of different columns with labels."""
    names = list(columns) if isinstance(columns, list | tuple) else [columns]
    if not isinstance(columns, list | tuple) or not all(isinstance(name, str) and name for name in names):
        raise LabelTableError(
            f"auxiliary is {columns!r}; expected a list of columns of the label table, with --auxiliary "
            "\"['t','n']\""
        )
    if len(set(names)) != len(names):
        raise LabelTableError(f"auxiliary is {names}; expected each column once")
    if keys := [name for name in names if name in KEY_COLUMNS]:
        raise LabelTableError(
            f"the auxiliary column {keys[0]!r} says which study this is, and nothing about what it shows; "
            "leave it out of --auxiliary"
        )
