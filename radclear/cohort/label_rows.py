"""The rows of a label table's CSV file, checked before anything is made of them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from radclear.errors import RadclearError

KEY_COLUMNS = ("study", "patient", "split")
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
            "a multiclass table needs `column`, the name of its label column, and two or more classes"
        )
    wanted = {name: (v,) if isinstance(v, str) else tuple(map(str, v)) for name, v in classes.items()}
    values = [value for group in wanted.values() for value in group]
    if len(set(values)) != len(values):
        raise LabelTableError(f"one value of column {column!r} stands for two classes: {wanted}")
    return wanted


def read_rows(path: Path, *, required: Iterable[str]) -> list[tuple[int, dict[str, str]]]:
    """(line number, column → stripped text) of each row."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            found = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = found
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelTableError(f"label table {path} cannot be read: {error}") from error
    if missing := [name for name in required if name not in found]:
        raise LabelTableError(
            f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(found)}. Expected a "
            "comma-separated table with study, patient, split and the labels"
        )
    if twice := sorted({name for name in found if found.count(name) > 1}):
        raise LabelTableError(f"{path} has the columns {', '.join(twice)} twice")
    for number, row in rows:
        if None in row or None in row.values():
            raise LabelTableError(
                f"{path}, line {number} has not {len(found)} fields as the header has; quote fields that "
                "hold commas"
            )
    return [(number, {name: text.strip() for name, text in row.items()}) for number, row in rows]


def check_rows(path: Path, rows: Sequence[tuple[int, Mapping[str, str]]]) -> None:
    """No study twice, no patient in two splits."""
    seen: dict[str, int] = {}
    splits: dict[str, tuple[str, int]] = {}
    for number, row in rows:
        study, patient, split = (row[name] for name in KEY_COLUMNS)
        if not study or not patient:
            raise LabelTableError(
                f"{path}, line {number}: study {study!r} of patient {patient!r}; both are needed, the "
                "patient to keep studies of one patient in one split"
            )
        if study in seen:
            raise LabelTableError(
                f"{path}: study {study!r} is in lines {seen[study]} and {number}; expected once"
            )
        seen[study] = number
        if split.lower() in MISSING:
            continue
        before, line = splits.setdefault(patient, (split, number))
        if before != split:
            raise LabelTableError(
                f"{path}: patient {patient!r} is in split {before!r} (line {line}) and in split {split!r} "
                f"(line {number}); all studies of a patient belong in one split, or the evaluation is not "
                "independent"
            )


def multilabel_label(
    path: Path, number: int, row: Mapping[str, str], wanted: Mapping[str, str]
) -> tuple[tuple[float, ...], str]:
    label = []
    for column in wanted.values():
        text = row[column].lower()
        if text in MISSING:
            return (), column
        if text not in YES_NO:
            raise LabelTableError(
                f"{path}, line {number}: {column} is {row[column]!r}; expected 0, 1 or nothing"
            )
        label.append(YES_NO[text])
    return tuple(label), ""


def multiclass_label(
    path: Path, number: int, text: str, column: str, meaning: Mapping[str, int]
) -> tuple[int, str]:
    if text in meaning:
        return meaning[text], ""
    if text.lower() in MISSING:
        return -1, column
    raise LabelTableError(
        f"{path}, line {number}: {column} is {text!r}; expected one of {', '.join(meaning)}, or nothing"
    )
