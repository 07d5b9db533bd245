"""Files to stacks of slices that can be one volume.

A stack shares series, shape, pixel spacing, orientation, image type and temporal position. Several
acquisitions stay together while they continue each other (step and shoot) and part where they cover the same
place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from radclear.ct.geometry import distinct_positions_mm, is_volumetric, plane_of, slice_normal
from radclear.ct.records import Broken, SliceHeader

ORIENTATION_TOLERANCE = 2e-3


@dataclass(frozen=True)
class Stack:
    """Slices that can be one volume.

    Attributes:
        headers: the slices, in file order.
        n_broken: files of the same series that cannot be used.
    """

    headers: tuple[SliceHeader, ...]
    n_broken: int = 0

    @property
    def series_uid(self) -> str:
        return self.headers[0].series_uid

    @cached_property
    def plane(self) -> str:
        return plane_of(self.headers[0].orientation)

    @cached_property
    def positions_mm(self) -> np.ndarray:
        return distinct_positions_mm(self.headers)

    @cached_property
    def usable(self) -> bool:
        """Whether it is axial, or a volume that can be turned axial."""
        return self.plane == "axial" or is_volumetric(self.headers)

    @property
    def extent_mm(self) -> float:
        return float(self.positions_mm[-1] - self.positions_mm[0])


def group(headers: Sequence[SliceHeader], broken: Sequence[Broken] = ()) -> list[Stack]:
    """Split slices into stacks.

    Args:
        headers: all slices.
        broken: unusable files, counted to the series they belong to.

    Returns:
        Stacks in a fixed order that does not depend on the order of the files.
    """
    n_broken = Counter(entry.series_uid for entry in broken)
    groups: dict[tuple, list[list[SliceHeader]]] = {}
    for header in headers:
        key = (
            header.study_uid,
            header.series_uid,
            header.image_type,
            header.rows,
            header.columns,
            header.temporal,
        )
        alike = groups.setdefault(key, [])
        for members in alike:
            if _same_grid(members[0], header):
                members.append(header)
                break
        else:
            alike.append([header])
    stacks = []
    for alike in groups.values():
        for members in alike:
            parts = _split_acquisitions(members)
            stacks += [Stack(tuple(part), n_broken[part[0].series_uid]) for part in parts]
    return sorted(stacks, key=_fixed_order)


def _fixed_order(stack: Stack) -> tuple:
    first = min(stack.headers, key=lambda header: header.sop_uid)
    return (
        first.study_uid,
        first.series_uid,
        first.image_type,
        first.rows,
        first.columns,
        first.sop_uid,
        first.frame,
    )


def _same_grid(one: SliceHeader, other: SliceHeader) -> bool:
    turned = max(abs(a - b) for a, b in zip(one.orientation, other.orientation, strict=True))
    resized = max(abs(a - b) / a for a, b in zip(one.spacing_mm, other.spacing_mm, strict=True))
    return turned <= ORIENTATION_TOLERANCE and resized <= 1e-3


def _split_acquisitions(members: list[SliceHeader]) -> list[list[SliceHeader]]:
    """Acquisitions that cover the same place part; each joins the first group where it fits."""
    numbers = sorted(
        {header.acquisition for header in members}, key=lambda number: (number is not None, number or 0)
    )
    if len(numbers) < 2:
        return [members]
    distinct = distinct_positions_mm(members)
    half = float(np.median(np.diff(distinct))) / 2 if len(distinct) > 1 else 0.5
    normal = slice_normal(members[0].orientation)
    groups: list[tuple[list[tuple[float, float]], list[SliceHeader]]] = []
    for number in numbers:
        mine = [header for header in members if header.acquisition == number]
        along = [float(np.dot(header.position_mm, normal)) for header in mine]
        span = (min(along) - half, max(along) + half)
        for spans, others in groups:
            if not any(_overlap(span, other) for other in spans):
                spans.append(span)
                others.extend(mine)
                break
        else:
            groups.append(([span], mine))
    return [headers for _, headers in groups]


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether two ranges share more than half of the shorter one."""
    shared = min(one[1], other[1]) - max(one[0], other[0])
    return shared > 0.5 * min(one[1] - one[0], other[1] - other[0])
