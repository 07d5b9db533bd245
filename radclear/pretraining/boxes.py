"""Lesion boxes from cells of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from radclear.pretraining.crops import Box
from radclear.pretraining.errors import PretrainingDataError
from radclear.pretraining.tables import number

COLUMNS = ("x1", "y1", "x2", "y2")


def box(values: Sequence[str], *, where: str) -> Box:
    """x1, y1, x2, y2 as text → a box.

    Raises:
        PretrainingDataError: not four numbers, or no area.
    """
    if len(values) != 4:
        raise PretrainingDataError(f"{where}: box {list(values)} has {len(values)} numbers; expected 4")
    x1, y1, x2, y2 = (
        number(text, column=name, where=where) for text, name in zip(values, COLUMNS, strict=True)
    )
    if not (x1 < x2 and y1 < y2):
        raise PretrainingDataError(
            f"{where}: box {x1}, {y1}, {x2}, {y2} has no area; expected x1 < x2 and y1 < y2 in pixels"
        )
    return x1, y1, x2, y2


def box_of_row(row: Mapping[str, str], *, where: str) -> Box | None:
    """The box of a table row with the columns x1, y1, x2, y2; None where all four are empty."""
    values = [row.get(name, "") for name in COLUMNS]
    return box(values, where=where) if any(values) else None


def one_class(classes: Sequence[str]) -> str:
    """The class that all lesions of a slice share, empty where they differ or one is unknown."""
    found = set(classes)
    return found.pop() if len(found) == 1 else ""
