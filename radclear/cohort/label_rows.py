"""The rows of a label table, CSV or Parquet, checked before anything is made of them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from radclear.cohort.patients import patient_key
from radclear.errors import MissingDependencyError, RadclearError, without_patients

if TYPE_CHECKING:
    import pandas

KEY_COLUMNS = ("study", "patient", "split")
PARQUET = (".parquet", ".pq")
MISSING = {"", "na", "nan", "n/a", "none", "null"}
YES_NO = {"0": 0.0, "0.0": 0.0, "false": 0.0, "1": 1.0, "1.0": 1.0, "true": 1.0}


class LabelTableError(RadclearError):
    """A label table that would train or evaluate something else than it says."""


def columns_or_values(
    classes: Mapping[str, str | Sequence[str]] | Sequence[str], kind: str, column: str | None
) -> dict[str, str | tuple[str, ...]]:
    """Class → its column (multilabel), or → the values that mean it (multiclass)."""
    if isinstance(classes, str) or not classes:
        raise LabelTableError(f"classes are {classes!r}; expected a list of names or a mapping")
    if not isinstance(classes, Mapping):
        if len(set(classes)) != len(classes):
            raise LabelTableError(f"classes {list(classes)} name one twice")
        classes = {name: name for name in classes}
    if kind == "multilabel":
        if column is not None or not all(isinstance(v, str) for v in classes.values()):
            raise LabelTableError("a multilabel table has one column per class and no `column`")
        return dict(classes)
    if column is None or len(classes) < 2:
        raise LabelTableError(
            f"a {kind} table needs `column`, the name of its label column, and two or more classes"
        )
    wanted = {name: (v,) if isinstance(v, str) else tuple(map(str, v)) for name, v in classes.items()}
    values = [value for group in wanted.values() for value in group]
    if len(set(values)) != len(values):
        raise LabelTableError(f"one value of column {column!r} stands for two classes: {wanted}")
    return wanted


def read_rows(path: Path, *, required: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """(place such as "line 7", column → stripped text) of each row; missing values are empty."""
    if path.suffix.lower() in PARQUET:
        found, rows = _read_parquet(path)
    else:
        found, rows = _read_csv(path)
    if missing := [name for name in required if name not in found]:
        raise LabelTableError(
            f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(found)}. Expected a "
            f"comma-separated or Parquet table with {', '.join(required)}" + without_patients(missing)
        )
    if twice := sorted({name for name in found if found.count(name) > 1}):
        raise LabelTableError(f"{path} has the columns {', '.join(twice)} twice")
    for place, row in rows:
        if None in row or None in row.values():
            raise LabelTableError(
                f"{path}, {place} has not {len(found)} fields as the header has; quote fields that hold "
                "commas"
            )
    return [(place, {name: text.strip() for name, text in row.items()}) for place, row in rows]


def _read_csv(path: Path) -> tuple[list[str], list[tuple[str, dict[str, str]]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            found = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = found
            return found, [(f"line {reader.line_num}", row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise LabelTableError(
            f"label table {path} cannot be read: {reason}; expected CSV in UTF-8"
        ) from error


def _read_parquet(path: Path) -> tuple[list[str], list[tuple[str, dict[str, str]]]]:
    """Numbers as Python writes them; whole numbers stay whole beside missing values."""
    import pandas

    try:
        frame = pandas.read_parquet(path, dtype_backend="numpy_nullable")
    except ImportError as error:
        raise MissingDependencyError(
            "pyarrow", purpose=f"read {path}; a CSV file of the same table needs nothing"
        ) from error
    except (OSError, ValueError) as error:
        raise LabelTableError(f"label table {path} cannot be read: {error}") from error
    return table_rows(frame)


def table_rows(frame: pandas.DataFrame) -> tuple[list[str], list[tuple[str, dict[str, str]]]]:
    """Column names and (place, column → text) of a pandas table; missing values are empty."""
    found = [str(name).strip() for name in frame.columns]
    texts = [
        ["" if missing else str(value) for value, missing in zip(frame.iloc[:, i], absent, strict=True)]
        for i, absent in enumerate(frame.isna().to_numpy().T)
    ]
    rows = zip(*texts, strict=True)
    return found, [
        (f"row {number}", dict(zip(found, row, strict=True))) for number, row in enumerate(rows, start=1)
    ]


def group_key(row: Mapping[str, str], column: str) -> str:
    """What a row has in a column whose studies belong together, as it is compared."""
    return patient_key(row[column]) if column == "patient" else row[column]


def check_rows(path: Path, rows: Sequence[tuple[str, Mapping[str, str]]], *, group: str) -> None:
    """No study twice, no patient and no group in two splits, no patient in two groups.

    Args:
        path: for the messages.
        rows: from `read_rows`.
        group: the column whose studies belong together.
    """
    seen: dict[str, str] = {}
    splits: dict[tuple[str, str], tuple[str, str]] = {}
    groups: dict[str, tuple[str, str]] = {}
    for place, row in rows:
        study, patient = row["study"], row["patient"]
        if absent := [column for column in dict.fromkeys(("study", "patient", group)) if not row[column]]:
            raise LabelTableError(
                f"{path}, {place} has no {' and no '.join(absent)}; all rows need them, the patient to keep "
                "studies of one patient in one split (where every patient has one study, repeat the study)"
            )
        if study in seen:
            raise LabelTableError(
                f"{path}: {seen[study]} and {place} hold the same study; expected one row per study"
            )
        seen[study] = place
        before, where = groups.setdefault(patient_key(patient), (group_key(row, group), place))
        if before != group_key(row, group):
            raise LabelTableError(
                f"{path}: one patient is in {group} {before!r} ({where}) and in {row[group]!r} "
                f"({place}); all studies of a patient belong in one {group}"
            )
        split = row.get("split", "")
        if split.lower() in MISSING:
            continue
        for column in dict.fromkeys(("patient", group)):
            before, where = splits.setdefault((column, group_key(row, column)), (split, place))
            if before != split:
                raise LabelTableError(
                    f"{path}: one {column} is in split {before!r} ({where}) and in split "
                    f"{split!r} ({place}); all studies of a {column} belong in one split, or the evaluation "
                    "is not independent"
                )


def multilabel_label(
    path: Path, place: str, row: Mapping[str, str], wanted: Mapping[str, str]
) -> tuple[tuple[float, ...], str]:
    """The label and ""; or nothing and the column in which it is missing."""
    label = []
    for column in wanted.values():
        text = row[column].lower()
        if text in MISSING:
            return (), column
        if text not in YES_NO:
            raise LabelTableError(f"{path}, {place}: {column} is {row[column]!r}; expected 0, 1 or nothing")
        label.append(YES_NO[text])
    return tuple(label), ""


def multiclass_label(
    path: Path, place: str, text: str, column: str, meaning: Mapping[str, int]
) -> tuple[int, str]:
    """The class index and ""; or -1 and the column where it is missing."""
    if text in meaning:
        return meaning[text], ""
    if text.lower() in MISSING:
        return -1, column
    raise LabelTableError(
        f"{path}, {place}: {column} is {text!r}; expected one of {', '.join(meaning)}, or nothing"
    )
