"""Tables of text: CSV or Parquet, every cell as it is written."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from radclear.errors import MissingDependencyError
from radclear.pretraining.errors import PretrainingDataError

PARQUET = (".parquet", ".pq")


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
