"""Tables of annotated slices: which slices of a study show something, and of which class it is."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from radclear.bundle.location import BundleError
from radclear.phantom.labels import LESION_KINDS


def read_boxes(
    path: str | Path, *, kinds: Sequence[str] | None = None, studies: Collection[str] | None = None
) -> dict[str, set[int]]:
    """Study → annotated slice indices.

    Args:
        path: CSV with columns `study` and `slice` (counted from 0 at the foot end), and `kind` where kinds
            are chosen.
        kinds: which kinds count; all when omitted.
        studies: names of all studies there are, where every row must name one of them.

    Raises:
        BundleError: the table cannot be read, lacks a column, or has a row that says nothing.
    """
    boxes: dict[str, set[int]] = defaultdict(set)
    for _, study, index, _ in _rows(Path(path), kinds=kinds, studies=studies):
        boxes[study].add(index)
    return dict(boxes)


def read_finding_boxes(
    path: str | Path, *, findings: Sequence[str], kinds: Sequence[str] | None = None
) -> dict[str, tuple[set[int], ...]]:
    """Study → for each finding the slices annotated with it.

    The finding of a row is the site of a tumor lesion, and the kind of anything else.

    Args:
        path: CSV with columns `study`, `slice` and `kind`, and `site` where there are tumor lesions.
        findings: names; rows of other findings do not count.
        kinds: see `read_boxes`.

    Raises:
        BundleError: as `read_boxes`, a row without a finding, or no row of any finding of these.
    """
    boxes: dict[str, tuple[set[int], ...]] = {}
    others = set()
    for place, study, index, row in _rows(Path(path), kinds=kinds, studies=None, also=["kind"]):
        lesion = row["kind"] in LESION_KINDS
        if lesion and "site" not in row:
            raise BundleError(
                f"{path} has tumor lesions (kind {row['kind']}) and no column site, which tells whose "
                f"attention they teach; add it, with values such as {', '.join(findings[:3])}"
            )
        column = "site" if lesion else "kind"
        name = (row[column] or "").strip()
        if not name:  # whoever teaches with it would take the slice for one that shows nothing
            raise BundleError(f"{place}: the box has no {column}; write it, or leave the whole study out")
        slices = boxes.setdefault(study, tuple(set() for _ in findings))
        if name in findings:
            slices[findings.index(name)].add(index)
        else:
            others.add(name)
    if not any(any(slices) for slices in boxes.values()):
        found = ", ".join(sorted(others)) or "no box of the kinds that count"
        raise BundleError(
            f"{path}: no box is of a finding of this head (found: {found}; findings: {', '.join(findings)}); "
            "name those of the table with --findings, one for each attention branch"
        )
    return boxes


def read_class_boxes(
    path: str | Path,
    *,
    column: str,
    classes: Sequence[str],
    kinds: Sequence[str] | None = None,
    studies: Collection[str] | None = None,
) -> dict[str, dict[str, set[int]]]:
    """Class → study → slices annotated with this class; every class is there, with or without studies.

    Args:
        path, kinds, studies: see `read_boxes`.
        column: which holds the class; rows of other classes do not count.
        classes: of the head.

    Raises:
        BundleError: as `read_boxes`, or no row is of any class.
    """
    boxes: dict[str, dict[str, set[int]]] = {name: {} for name in classes}
    others = set()
    for _, study, index, row in _rows(Path(path), kinds=kinds, studies=studies, also=[column]):
        name = (row[column] or "").strip()
        if name in boxes:
            boxes[name].setdefault(study, set()).add(index)
        else:
            others.add(name)
    if not any(boxes.values()):
        found = ", ".join(sorted(others)) or "no box of the kinds that count"
        raise BundleError(
            f"{path}: no box has a class of this head under {column} (found: {found}; classes: "
            f"{', '.join(classes)}); name the column that holds the class with --deletion_column"
        )
    return boxes


def _rows(
    path: Path, *, kinds: Sequence[str] | None, studies: Collection[str] | None, also: Sequence[str] = ()
) -> Iterator[tuple[str, str, int, Mapping[str, str | None]]]:
    """Place in the file, study, slice and the whole row of each box that counts."""
    if not path.exists():
        raise BundleError(f"boxes {path} does not exist; name it with --boxes, or leave it out")
    needed = list(dict.fromkeys(["study", "slice", *(["kind"] if kinds is not None else []), *also]))
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            found = reader.fieldnames or []
            if not set(needed) <= set(found):
                raise BundleError(
                    f"{path} has {'columns ' + ', '.join(found) if found else 'no header'}; a box table has "
                    f"columns {', '.join(needed)}"
                )
            for row in reader:
                place = f"{path}, line {reader.line_num}"
                study, index = _box(place, row)
                if studies is not None and study not in studies:
                    raise BundleError(
                        f"{place}: this study is not in the label table; add it there, or take out its boxes"
                    )
                if kinds is None or row["kind"] in kinds:
                    yield place, study, index, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise BundleError(f"box table {path} cannot be read: {reason}; expected CSV in UTF-8") from error


def _box(place: str, row: Mapping[str, str | None]) -> tuple[str, int]:
    """Study and slice index of a row."""
    study, index = (row["study"] or "").strip(), (row["slice"] or "").strip()
    if not study:
        raise BundleError(f"{place}: no study is named")
    if not (index.isascii() and index.isdigit()):
        raise BundleError(f"{place}: slice is {index!r}; expected a whole number from 0, the foot end")
    return study, int(index)
