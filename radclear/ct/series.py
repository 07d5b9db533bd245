"""Which stack of slices to read, by rules that are named in the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from radclear.ct.errors import CTInputError
from radclear.ct.geometry import not_axial
from radclear.ct.records import Broken, Rejected, SliceHeader
from radclear.ct.stacks import Stack, group
from radclear.ct.study import Finding, SeriesChoice

FEW_SLICES = 8
_PROJECTIONS = ("MIP", "MINIP", "MIN_IP", "MAX_IP", "PROJECTION IMAGE")


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
            "series_not_found",
            "the series asked for is not here; leave it out and one is chosen, or name one of "
            f"{len(known)}: {shown}",
        )


def _nothing(broken: Sequence[Broken], rejected: Sequence[Rejected]) -> CTInputError:
    if broken:
        error = broken[0].error
        return CTInputError(error.code, f"none of {len(broken)} CT files can be used; the first: {error}")
    modalities = Counter(entry.detail for entry in rejected if entry.reason == "other_modality")
    if modalities:
        found = ", ".join(f"{count} of {modality}" for modality, count in sorted(modalities.items()))
        return CTInputError("not_ct", f"Modality (0008,0060) must be CT; found {found}")
    counts = Counter(entry.reason for entry in rejected)
    found = ", ".join(f"{_REJECTED_AS[reason]}: {count}" for reason, count in sorted(counts.items()))
    return CTInputError(
        "no_ct_found",
        f"no CT slices here ({found or 'no files'}). Name a folder, zip or file with a CT series",
    )


_REJECTED_AS = {
    "localizer": "localizers",
    "not_an_image": "DICOM files without an image",
    "not_dicom": "files that are not DICOM",
}


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
