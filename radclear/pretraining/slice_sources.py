"""Slices from whatever `dataset_dir` names: DeepLesion, a cohort of CT series, or a plain table."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from radclear.pretraining.cohort_slices import read_cohort
from radclear.pretraining.decoded_series import DecodedSeries
from radclear.pretraining.deeplesion import INFO, read_deeplesion
from radclear.pretraining.errors import PretrainingDataError
from radclear.pretraining.slice_rows import SliceRow
from radclear.pretraining.slice_table import read_slice_table

logger = logging.getLogger(__name__)
FORMATS = ("auto", "deeplesion", "cohort", "table")


def read_slices(
    dataset_dir: str | Path,
    *,
    series: DecodedSeries,
    data_format: str = "auto",
    columns: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    splits: Sequence[str] | None = None,
) -> list[SliceRow]:
    """All slices of a data set.

    Args:
        dataset_dir: a folder with `DL_info.csv` (DeepLesion) or `labels.csv` (a cohort), or a CSV or Parquet
            table.
        series: where series are decoded once.
        data_format: one of `FORMATS`; `"auto"` looks at what is there.
        columns: of a table, see `read_slice_table`.
        options: further arguments of `read_deeplesion`, `read_cohort` or `read_slice_table`.
        splits: whose series are decoded and read, where `options` name none; all when omitted. DeepLesion,
            which needs no decoding, is always read whole.

    Returns:
        Rows of these splits, or of all.

    Raises:
        PretrainingDataError: the format is not recognised, or the data are not what they should be.
    """
    path, options = Path(dataset_dir), dict(options or {})
    if data_format not in FORMATS:
        raise PretrainingDataError(f"data_format is {data_format!r}; expected one of {', '.join(FORMATS)}")
    if not path.exists():
        raise PretrainingDataError(f"dataset_dir {path} does not exist; name the data with --dataset_dir")
    if data_format == "auto":
        data_format = _recognised(path, options)
        logger.info("%s is read as %s", path.name, data_format)
    if columns and data_format != "table":
        raise PretrainingDataError(f"columns are for tables, and {path} is read as {data_format}")
    if splits is not None and data_format != "deeplesion":
        options.setdefault("splits", list(splits))
    try:
        if data_format == "deeplesion":
            return read_deeplesion(path, **options)
        if data_format == "cohort":
            return read_cohort(path, series=series, **options)
        return read_slice_table(path, series=series, columns=columns, **options)
    except TypeError as error:
        if "keyword argument" not in str(error):
            raise
        raise PretrainingDataError(f"data_options do not fit data_format {data_format}: {error}") from error


def _recognised(path: Path, options: Mapping[str, Any]) -> str:
    if path.is_file():
        return "table"
    if (path / INFO).is_file():
        return "deeplesion"
    if (path / "labels.csv").is_file() or "labels" in options:
        return "cohort"
    raise PretrainingDataError(
        f"{path} is none of the known data sets: it has neither {INFO} with Images_png (DeepLesion) nor "
        "labels.csv with studies (a cohort, as `radclear phantom` writes it); or name a CSV or Parquet table "
        "of slices"
    )
