"""Tables of text, CSV or Parquet, every cell as it is written; numbers and lesion boxes from their cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from radclear.errors import MissingDependencyError
from radclear.pretraining.crops import Box
from radclear.pretraining.errors import PretrainingDataError

PARQUET = (".parquet", ".pq")
BOX_COLUMNS = ("x1", "y1", "x2", "y2")


def read_table(path: str | Path) -> pd.DataFrame:
    """A table with every cell as text, empty where there is nothing.

    Args:
        path: CSV (also compressed: `.csv.gz`) or Parquet.

    Raises:
        PretrainingDataError: no such file, or not a table.
        MissingDependencyError: Parquet, and pyarrow is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise PretrainingDataError(f"table {path} does not exist")
    try:
        if path.suffix.lower() in PARQUET:
            frame = pd.read_parquet(path)
        else:
            frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except ImportError as error:
        raise MissingDependencyError("pyarrow", purpose=f"read {path.name}") from error
    except (ValueError, OSError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise PretrainingDataError(f"table {path} cannot be read: {error}") from error
    frame.columns = [str(name).strip() for name in frame.columns]
    return frame.astype(object).where(frame.notna(), "").astype(str).apply(lambda column: column.str.strip())


def number(text: str, *, column: str, where: str) -> float:
    """A cell as a finite number.

    Raises:
        PretrainingDataError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if value - value != 0:  # neither NaN nor infinite
        raise PretrainingDataError(f"{where}: {column} is {text!r}; expected a number")
    return value


def box(values: Sequence[str], *, where: str) -> Box:
    """x1, y1, x2, y2 as text → a box.

    Raises:
        PretrainingDataError: not four numbers, or no area.
    """
    if len(values) != 4:
        raise PretrainingDataError(f"{where}: box {list(values)} has {len(values)} numbers; expected 4")
    x1, y1, x2, y2 = (
        number(text, column=name, where=where) for text, name in zip(values, BOX_COLUMNS, strict=True)
    )
    if not (x1 < x2 and y1 < y2):
        raise PretrainingDataError(
            f"{where}: box {x1}, {y1}, {x2}, {y2} has no area; expected x1 < x2 and y1 < y2 in pixels"
        )
    return x1, y1, x2, y2


def box_of_row(row: Mapping[str, str], *, where: str) -> Box | None:
    """The box of a table row with the columns x1, y1, x2, y2; None where all four are empty."""
    values = [row.get(name, "") for name in BOX_COLUMNS]
    return box(values, where=where) if any(values) else None


def one_class(classes: Sequence[str]) -> str:
    """The class that all lesions of a slice share, empty where they differ or one is unknown."""
    found = set(classes)
    return found.pop() if len(found) == 1 else ""
