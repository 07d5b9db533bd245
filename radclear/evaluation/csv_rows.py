"""The rows of a CSV file, and single fields, checked before anything is computed from them."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from radclear.errors import without_patients
from radclear.evaluation.errors import EvaluationError

MISSING = frozenset({"", "na", "nan", "n/a", "none", "null", "<na>"})
YES_NO = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


@dataclass(frozen=True)
class CsvRows:
    """A CSV file.

    Attributes:
        path: where it was read from.
        sha256: of its bytes.
        columns: of the header.
        rows: (line number, column → stripped text).
    """

    path: Path
    sha256: str
    columns: tuple[str, ...]
    rows: tuple[tuple[int, Mapping[str, str]], ...]


def read_csv(path: str | Path, *, required: Iterable[str], what: str) -> CsvRows:
    """Read a comma-separated UTF-8 file with a header.

    Args:
        path: the file.
        required: columns that it must have.
        what: names the table in errors, for example "prediction table".

    Raises:
        EvaluationError: it cannot be read, lacks columns or rows, has a column twice, or rows of other
            lengths.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        lines = [(reader.line_num, [text.strip() for text in fields]) for fields in reader if fields]
    except OSError as error:
        raise EvaluationError(f"{what} {path} cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise EvaluationError(
            f"{what} {path} is not a comma-separated UTF-8 file ({error}); save it as CSV UTF-8"
        ) from error
    if not lines:
        raise EvaluationError(f"{what} {path} is empty; expected a header and one row per study")
    (_, columns), *body = lines
    if missing := [name for name in required if name not in columns]:
        raise EvaluationError(
            f"{what} {path} lacks the column {', '.join(missing)}; it has {', '.join(columns)} (expected a "
            f"comma-separated file with a header){without_patients(missing)}"
        )
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise EvaluationError(f"{what} {path} has the column {', '.join(map(repr, twice))} twice; keep one")
    if not body:
        raise EvaluationError(f"{what} {path} has a header and no rows; expected one row per study")
    for number, fields in body:
        if len(fields) != len(columns):
            raise EvaluationError(
                f"{what} {path}, line {number} has {len(fields)} fields where the header has {len(columns)}; "
                "quote fields that hold commas"
            )
    rows = tuple((number, dict(zip(columns, fields, strict=True))) for number, fields in body)
    return CsvRows(path, hashlib.sha256(content).hexdigest(), tuple(columns), rows)


def probability(table: CsvRows, number: int, row: Mapping[str, str], column: str) -> float:
    """A field as a probability.

    Raises:
        EvaluationError: it is no number from 0 to 1.
    """
    text = row[column]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise EvaluationError(
            f"{table.path}, line {number}: {column} is {text!r}; expected a probability from 0 to 1 "
            "(logits go "
            "through a sigmoid or softmax first, rows without a prediction have to be taken out)"
        )
    return value


def yes_or_no(table: CsvRows, number: int, row: Mapping[str, str], column: str) -> bool | None:
    """A field as a label; None where it is empty.

    Raises:
        EvaluationError: it is neither 0 nor 1.
    """
    text = row[column].lower()
    if text in YES_NO:
        return YES_NO[text]
    if text in MISSING:
        return None
    raise EvaluationError(
        f"{table.path}, line {number}: {column} is {row[column]!r}; expected 0, 1 or nothing"
    )


def class_index(
    table: CsvRows, number: int, row: Mapping[str, str], column: str, classes: Sequence[str]
) -> int | None:
    """A field as the index of a class; None where it is empty.

    Raises:
        EvaluationError: it is no class.
    """
    text = row[column]
    if text in classes:
        return list(classes).index(text)
    if text.lower() in MISSING:
        return None
    raise EvaluationError(
        f"{table.path}, line {number}: {column} is {text!r}, an unknown class; expected one of "
        f"{', '.join(classes)}, or nothing"
    )


def check_identities(table: CsvRows, *, group_columns: Sequence[str], what: str) -> None:
    """Every study once and with a patient, no patient in two splits or folds.

    Raises:
        EvaluationError: one of these does not hold.
    """
    lines: dict[str, int] = {}
    for number, row in table.rows:
        study, patient = row["study"], row.get("patient", "?")
        if not study or patient.lower() in MISSING:
            raise EvaluationError(
                f"{what} {table.path}, line {number} has no {'patient' if study else 'study'}; both are "
                "needed, the patient because intervals are made by drawing patients"
            )
        if study in lines:
            raise EvaluationError(
                f"{what} {table.path}: lines {lines[study]} and {number} hold the same study; expected one "
                "row per study (average its predictions, or keep one)"
            )
        lines[study] = number
    for column in group_columns:
        group: dict[str, tuple[str, int]] = {}
        for number, row in table.rows:
            if row[column].lower() in MISSING:
                continue
            before, line = group.setdefault(row["patient"], (row[column], number))
            if before != row[column]:
                raise EvaluationError(
                    f"{what} {table.path}: one patient is in {column} {before!r} (line {line}) and in "
                    f"{column} "
                    f"{row[column]!r} (line {number}); a patient's studies belong together, or the "
                    "evaluation is not independent of the training"
                )
