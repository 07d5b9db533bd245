"""The choice of a series from an archive's metadata (DICOM JSON), before a pixel is fetched."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from pydicom.dataset import Dataset

from radclear.ct.codecs import EXPLICIT_LITTLE
from radclear.ct.errors import CTInputError
from radclear.ct.header import judge_header
from radclear.ct.parse import PixelLocation
from radclear.ct.records import Broken, Rejected, SliceHeader
from radclear.ct.series import choose
from radclear.ct.study import SeriesChoice
from radclear.ct.tags import WANTED, Elements

_JSON_TAGS = frozenset(f"{int(tag):08X}" for tag in WANTED)
_SERIES_NUMBER = "00200011"

#: What an archive's metadata says of one image.
Instance = Mapping[str, Any]


@dataclass(frozen=True)
class ListedSeries:
    """One series as its metadata shows it.

    Attributes:
        series_uid: SeriesInstanceUID.
        series_number: None where absent.
        n_images: in the archive.
        n_slices: that would be read, at different places; 0 where the series cannot be used.
        plane: `axial`, `coronal`, `sagittal` or `oblique`; empty where the series cannot be used.
        extent_mm: from the first to the last slice.
        problem: why the series cannot be used; empty where it can.
    """

    series_uid: str
    series_number: int | None
    n_images: int
    n_slices: int = 0
    plane: str = ""
    extent_mm: float = 0.0
    problem: str = ""


@dataclass(frozen=True)
class StudySeries:
    """The series of a study.

    Attributes:
        series: by number and identifier.
        choice: which one would be read and why; None where none can be used.
        error: why none can be used.
    """

    series: tuple[ListedSeries, ...]
    choice: SeriesChoice | None
    error: CTInputError | None


class _InTheArchive:
    """Pixels that were not fetched."""

    name = "archive"
    size = 0

    def open(self) -> BinaryIO:
        return io.BytesIO()


_PIXELS = PixelLocation(_InTheArchive(), 0, 0, "", EXPLICIT_LITTLE)


def choose_from_metadata(series: Mapping[str, Sequence[Instance]]) -> StudySeries:
    """Which series of a study would be read, by the same rules as for files.

    Args:
        series: SeriesInstanceUID → what the archive's metadata says of its images.

    Returns:
        The series, and the choice.
    """
    entries = {uid: [_entry(*numbered) for numbered in enumerate(found)] for uid, found in series.items()}
    listed = sorted(
        (_listed(uid, series[uid], entries[uid]) for uid in series),
        key=lambda one: (one.series_number is None, one.series_number or 0, one.series_uid),
    )
    try:
        _, choice, _ = choose([entry for found in entries.values() for entry in found])
    except CTInputError as error:
        return StudySeries(tuple(listed), None, error)
    return StudySeries(tuple(listed), choice, None)


def _entry(index: int, instance: Instance) -> list[SliceHeader] | Rejected | Broken:
    try:
        elements = _elements(instance)
    except Exception as error:  # pydicom raises whatever a damaged value leads it to
        return Broken(
            CTInputError("unreadable", f"metadata of the archive is damaged ({type(error).__name__})")
        )
    return judge_header(elements, _PIXELS, index)


def _elements(instance: Instance) -> Elements:
    wanted = {tag: value for tag, value in instance.items() if tag.upper() in _JSON_TAGS}
    data_set = Dataset.from_json(wanted)
    return {int(element.tag): element for element in data_set}


def _listed(uid: str, instances: Sequence[Instance], entries: Sequence) -> ListedSeries:
    number = next((found for found in map(_number, instances) if found is not None), None)
    if not any(isinstance(entry, list | Broken) for entry in entries):
        reasons = sorted({entry.reason.replace("_", " ") for entry in entries})
        return ListedSeries(uid, number, len(instances), problem=f"no CT slices: {', '.join(reasons)}")
    try:
        stack, _, _ = choose(entries)
    except CTInputError as error:
        return ListedSeries(uid, number, len(instances), problem=str(error))
    return ListedSeries(
        uid, number, len(instances), len(stack.positions_mm), stack.plane, round(stack.extent_mm, 3)
    )


def _number(instance: Instance) -> int | None:
    values = instance.get(_SERIES_NUMBER, {}).get("Value") or [None]
    try:
        return int(values[0])
    except (TypeError, ValueError):
        return None
