"""Files to stacks of slices that belong together, and the choice of the one to read.

A stack is what can be one volume: same series, shape, pixel spacing, orientation, image type and temporal
position. Several acquisitions stay together while they continue each other (step and shoot) and part where
they cover the same place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from radclear.ct.errors import CTInputError
from radclear.ct.geometry import distinct_positions_mm, is_volumetric, not_axial, plane_of, slice_normal
from radclear.ct.header import Broken, Rejected, SliceHeader
from radclear.ct.study import Finding, SeriesChoice

ORIENTATION_TOLERANCE = 2e-3
FEW_SLICES = 8
_PROJECTIONS = ("MIP", "MINIP", "MIN_IP", "MAX_IP", "PROJECTION IMAGE")


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


def _rank_original(stack: Stack) -> float:
    kind = stack.headers[0].image_type
    projected = any(word in value.split() or word == value for value in kind for word in _PROJECTIONS)
    return -2.0 if projected else -1.0 if kind[:1] == ("DERIVED",) else 0.0


#: The rules in order: (what a winner has over the others, score; the highest stays).
RULES: tuple[tuple[str, Callable[[Stack, float], float]], ...] = (
    ("acquired in axial slices", lambda stack, _: float(stack.plane == "axial")),
    (f"at least {FEW_SLICES} slices", lambda stack, _: float(len(stack.positions_mm) >= FEW_SLICES)),
    ("no unreadable files", lambda stack, _: -float(stack.n_broken > 0)),
    ("original rather than derived or projected", lambda stack, _: _rank_original(stack)),
    (
        "the longest range along the patient (within 10 %)",
        lambda stack, longest: float(stack.extent_mm >= 0.9 * longest),
    ),
    ("the most slices", lambda stack, _: float(len(stack.positions_mm))),
    ("the lowest SeriesNumber", lambda stack, _: -float(min(stack.headers[0].series_number or 10**9, 10**9))),
    ("the lowest AcquisitionNumber", lambda stack, _: -float(min(stack.headers[0].acquisition or 0, 10**9))),
)


def choose(
    entries: Sequence[list[SliceHeader] | Rejected | Broken], *, series: str | None = None
) -> tuple[Stack, SeriesChoice, list[Finding]]:
    """Group the files and pick the stack to read.

    Args:
        entries: one per file, as ``read_header`` gave them.
        series: SeriesInstanceUID to read, whatever the rules would say.

    Returns:
        The stack, the reason, and findings about what was left aside.

    Raises:
        CTInputError: nothing usable is there; the message says what was.
    """
    headers = [header for entry in entries if isinstance(entry, list) for header in entry]
    broken = [entry for entry in entries if isinstance(entry, Broken)]
    rejected = [entry for entry in entries if isinstance(entry, Rejected)]
    in_scope = headers
    if series is not None:
        in_scope = [header for header in headers if header.series_uid == series]
        _require_known(series, headers, broken)
        broken = [entry for entry in broken if entry.series_uid in ("", series)]
    stacks = group(in_scope, broken)
    candidates = [stack for stack in stacks if stack.usable]
    if not candidates and (broken or not stacks):
        raise _nothing(broken, rejected)
    if not candidates:
        raise not_axial(" and ".join(sorted({_describe(stack) for stack in stacks})))
    chosen, rule = _apply_rules(candidates)
    mine = [entry for entry in broken if entry.series_uid == chosen.series_uid]
    if mine:
        error = mine[0].error
        raise CTInputError(
            error.code, f"{len(mine)} of the files of the series cannot be used; the first: {error}"
        )
    choice = SeriesChoice(
        series_uid=chosen.series_uid,
        study_uid=chosen.headers[0].study_uid,
        reason="it was asked for" + (f" and has {rule}" if rule else "")
        if series
        else rule_sentence(rule, len(candidates)),
        n_candidates=len(candidates),
        source_format="dicom",
    )
    return chosen, choice, _findings(chosen, stacks, candidates, headers, broken, rejected, choice)


def _describe(stack: Stack) -> str:
    count = len(stack.headers)
    return f"{count} {stack.plane} slice{'s' * (count > 1)}"


def rule_sentence(rule: str, n_candidates: int) -> str:
    """The reason for a choice as a sentence."""
    if n_candidates == 1:
        return "the only usable CT series"
    return f"of {n_candidates} usable series, it was chosen for: {rule}"


def _require_known(series: str, headers: Sequence[SliceHeader], broken: Sequence[Broken]) -> None:
    known = sorted({header.series_uid for header in headers} | {entry.series_uid for entry in broken} - {""})
    if series not in known:
        shown = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
        raise CTInputError(
            "series_not_found", f"the series asked for is not here; {len(known)} CT series are: {shown}"
        )


def _nothing(broken: Sequence[Broken], rejected: Sequence[Rejected]) -> CTInputError:
    if broken:
        error = broken[0].error
        return CTInputError(error.code, f"none of {len(broken)} CT files can be used; the first: {error}")
    modalities = Counter(entry.detail for entry in rejected if entry.reason == "other_modality")
    if modalities:
        found = ", ".join(f"{count} of {modality}" for modality, count in sorted(modalities.items()))
        return CTInputError("not_ct", f"Modality (0008,0060) must be CT; found {found}")
    counts = Counter(entry.reason.replace("_", " ") for entry in rejected)
    found = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items())) or "no files"
    return CTInputError(
        "no_ct_found", f"no CT slices here: found {found}. Name a folder, zip or file with a CT series"
    )


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


def _apply_rules(candidates: Sequence[Stack]) -> tuple[Stack, str]:
    remaining = list(candidates)
    decided_by = ""
    for description, score in RULES:
        if len(remaining) == 1:
            break
        longest = max(stack.extent_mm for stack in remaining)
        scores = [score(stack, longest) for stack in remaining]
        best = [stack for stack, value in zip(remaining, scores, strict=True) if value == max(scores)]
        if len(best) < len(remaining):
            decided_by = description
        remaining = best
    if len(remaining) > 1:
        decided_by = "the lowest identifiers, all else being equal"
    return remaining[0], decided_by


def _findings(
    chosen: Stack,
    stacks: Sequence[Stack],
    candidates: Sequence[Stack],
    headers: Sequence[SliceHeader],
    broken: Sequence[Broken],
    rejected: Sequence[Rejected],
    choice: SeriesChoice,
) -> list[Finding]:
    findings = []
    if len(candidates) > 1:
        findings.append(Finding("series_choice", "info", f"{choice.reason}; name a series to override"))
    siblings = [stack for stack in stacks if stack.series_uid == chosen.series_uid and stack is not chosen]
    if siblings:
        count = sum(len(stack.headers) for stack in siblings)
        message = (
            f"{count} slices of the same series were left out: they differ in orientation, size, image type, "
            "acquisition or time"
        )
        findings.append(Finding("split_series", "warning", message))
    n_studies = len({header.study_uid for header in headers})
    if n_studies > 1:
        findings.append(
            Finding("several_studies", "warning", f"{n_studies} studies lie here; one series of one was read")
        )
    others = [entry for entry in broken if entry.series_uid != chosen.series_uid]
    if others:
        message = f"{len(others)} DICOM files cannot be used; the first: {others[0].error}"
        findings.append(Finding("unreadable_file", "warning", message))
    counts = Counter(entry.reason.replace("_", " ") for entry in rejected)
    if counts:
        found = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
        findings.append(Finding("ignored_files", "info", f"files left aside: {found}"))
    if any(header.lossy for header in chosen.headers):
        findings.append(
            Finding("lossy", "info", "the images were compressed with loss before they came here")
        )
    return findings
