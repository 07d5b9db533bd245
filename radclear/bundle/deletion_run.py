"""The deletion test of a head on a split: does each class's probability rest on the slices that show it?"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from radclear.bundle.boxes import read_class_boxes
from radclear.bundle.loaded import Head
from radclear.bundle.location import BundleError
from radclear.cohort import BagDataset
from radclear.errors import RadclearError
from radclear.evaluation import DeletionResult, Estimate, NothingToTestError, deletion_test
from radclear.results import write_atomically

FALLS = ("lesion", "other", "difference")


@dataclass(frozen=True)
class ClassDeletion:
    """The deletion test of one class.

    Attributes:
        name: the class.
        result: None where no study could be tested.
        reason: why there is no result, else empty.
        n_studies, n_positive: of the split, and those that have the class.
        excluded: (study, reason) of annotated studies that were left out.
    """

    name: str
    result: DeletionResult | None
    reason: str
    n_studies: int
    n_positive: int
    excluded: tuple[tuple[str, str], ...]

    @property
    def verdict(self) -> str:
        """In a few words."""
        if self.result is None:
            return "not tested"
        if self.result.undecided:
            n = len(self.result.studies)
            return f"undecided: {'1 study' if n == 1 else f'{n} studies of 1 patient'}"
        return "passed" if self.result.passed else "not passed"


def check_deletion(
    boxes: str | Path | None,
    *,
    column: str | None,
    classes: Sequence[str],
    kinds: Sequence[str] | None = None,
    studies: Collection[str] | None = None,
) -> dict[str, dict[str, set[int]]]:
    """Class → study → annotated slices, if a deletion test can be made of them.

    Raises:
        BundleError: no box table, no column with the class, or no box of any class.
    """
    if column is None:
        raise BundleError(
            "the deletion test needs the class that a box shows, and deletion_column is null for this head "
            "(no single slice shows a stage); name the column of the box table with --deletion_column, or "
            "leave out --deletion"
        )
    if boxes is None:
        raise BundleError("the deletion test takes out annotated slices; name their table with --boxes")
    return read_class_boxes(boxes, column=column, classes=classes, kinds=kinds, studies=studies)


def run_deletion(
    head: Head,
    dataset: BagDataset,
    *,
    deletion: bool,
    boxes: str | Path | None,
    column: str | None,
    output_dir: str | Path,
    split: str,
    box_kinds: Sequence[str] | None = None,
    margin_slices: int = 1,
    n_draws: int = 10,
    n_resamples: int = 2000,
    seed: int = 0,
) -> tuple[ClassDeletion, ...]:
    """Test every class, print the table and write `<task>_deletion.csv` and `<task>_deletion.json`.

    Where the test cannot be made as asked, the process ends with exit code 2 and one plain sentence.

    Args:
        head: answers whole bags.
        dataset: of the split, whole bags.
        deletion: nothing is done where False.
        boxes, column: the table of annotated slices and its column that holds the class.
        output_dir: where the files go.
        split: its name, for the record.
        box_kinds: kinds of box that count; all when omitted.
        margin_slices, n_draws, n_resamples, seed: see `radclear.evaluation.deletion_test`.

    Returns:
        One entry per class, none where `deletion` is False.
    """
    if not deletion:
        return ()
    try:
        annotated = check_deletion(boxes, column=column, classes=head.classes, kinds=box_kinds)
        options = {"n_draws": n_draws, "n_resamples": n_resamples, "seed": seed}
        options |= {"margin_slices": margin_slices}
        bags = {row.study: dataset[i]["feats"] for i, row in enumerate(dataset.studies)}
        found = tuple(
            _class_deletion(head, dataset, bags, c, annotated[name], options)
            for c, name in enumerate(head.classes)
        )
    except RadclearError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    content = {
        "bundle": head.name,
        "weights_sha256": head.weights_sha256,
        "backbone_weights_sha256": head.backbone.weights_sha256,
        "demonstration": head.demonstration,
        "split": split,
        "n_patients": len({row.patient for row in dataset.studies}),
        "settings": options,
        "classes": {entry.name: _document(entry) for entry in found},
    }
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{head.task}_deletion.csv", _table(found).encode())
    write_atomically(folder / f"{head.task}_deletion.json", (json.dumps(content, indent=2) + "\n").encode())
    _print(found, margin_slices)
    return found


def _class_deletion(
    head: Head,
    dataset: BagDataset,
    bags: dict[str, torch.Tensor],
    c: int,
    annotated: dict[str, set[int]],
    options: dict[str, int],
) -> ClassDeletion:
    def probability(bag: torch.Tensor) -> torch.Tensor:
        device = next(head.aggregator.parameters()).device
        with torch.inference_mode():
            return head.probabilities(head.aggregator.eval()(bag.unsqueeze(0).to(device), None))[0, c]

    positive = {row.study for row in dataset.studies if _has(row.label, c)}
    here = {study: slices for study, slices in annotated.items() if study in bags}
    contradicted = tuple((s, "annotated, but its label says no") for s in here if s not in positive)
    lesions = {study: slices for study, slices in here.items() if study in positive}
    result, reason, excluded = None, "", ()
    try:
        result = deletion_test(
            probability,
            bags,
            lesions,
            n_windows=dataset.n_windows,
            patients={row.study: row.patient for row in dataset.studies},
            **options,
        )
        excluded = result.excluded
    except NothingToTestError as error:
        reason, excluded = str(error), error.excluded
    return ClassDeletion(
        head.classes[c], result, reason, len(dataset.studies), len(positive), (*contradicted, *excluded)
    )


def _has(label: tuple[float, ...] | int, c: int) -> bool:
    """Whether a study's label says class number c."""
    return label[c] > 0.5 if isinstance(label, tuple) else label == c


def _document(entry: ClassDeletion) -> dict[str, Any]:
    result = entry.result
    decided = result is not None and not result.undecided
    return {
        "n_studies": len(result.studies) if result else 0,
        "n_patients": result.n_patients if result else 0,
        "prevalence": entry.n_positive / entry.n_studies,
        **{fall: getattr(result, fall).as_dict() if result else None for fall in FALLS},
        "lesion_lowers": result.lesion_lowers if decided else None,
        "other_does_not": result.other_does_not if decided else None,
        "passed": result.passed if decided else None,
        "reason": entry.reason or (None if decided else entry.verdict),
        "excluded_by_reason": dict(Counter(reason for _, reason in entry.excluded)),
    }


def _table(found: Sequence[ClassDeletion]) -> str:
    """A row per class as CSV text."""
    rows = []
    for entry in found:
        document = _document(entry)
        row = {"class": entry.name}
        row |= {key: document[key] for key in ("n_studies", "n_patients", "prevalence")}
        for fall in FALLS:
            value = document[fall] or {"value": None, "interval": None}
            low, high = value["interval"] or (None, None)
            row |= {f"fall_{fall}": value["value"], f"fall_{fall}_low": low, f"fall_{fall}_high": high}
        row |= {key: document[key] for key in ("lesion_lowers", "other_does_not", "passed", "reason")}
        rows.append({key: "" if value is None else value for key, value in row.items()})
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _print(found: Sequence[ClassDeletion], margin: int) -> None:
    print(f"deletion test: fall of the probability without annotated slices (and {margin} beside them)")
    counted = f"{'class':<16} {'studies':>7} {'patients':>8} {'prevalence':>10}"
    print(f"  {counted}  {'without the lesion':<24} {'without others':<24}")
    for entry in found:
        result = entry.result
        share = f"{100 * entry.n_positive / entry.n_studies:.0f} %"
        counts = (len(result.studies), result.n_patients) if result else (0, 0)
        falls = f"{fall_text(result.lesion):<24} {fall_text(result.other):<24} " if result else ""
        why = f": {entry.reason}" if entry.reason else ""
        print(f"  {entry.name:<16} {counts[0]:>7} {counts[1]:>8} {share:>10}  {falls}{entry.verdict}{why}")


def fall_text(entry: Estimate) -> str:
    """A fall with its interval, in three decimals and without a minus before nothing."""
    value, *interval = (f"{round(x, 3) + 0.0:.3f}" for x in (entry.value, *(entry.interval or ())))
    return value + (f" [{', '.join(interval)}]" if interval else "")
