"""Evaluate a prediction table from file to files: figures, tables, a page, and a manifest of the run."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from radclear import __version__
from radclear.evaluation.annotations import KeySliceHits, table_hits
from radclear.evaluation.assessment import Evaluation, evaluate
from radclear.evaluation.comparison import Comparison, compare
from radclear.evaluation.document import build_document, comparison_rows, metric_rows
from radclear.evaluation.figures import draw_png
from radclear.evaluation.page import render_page
from radclear.evaluation.panel import MetricSettings
from radclear.evaluation.plots import plan_figures
from radclear.evaluation.reading import read_predictions
from radclear.evaluation.table import PredictionTable

METRICS, TABLE, DIFFERENCES, PAGE, MANIFEST = (
    "metrics.json",
    "metrics.csv",
    "comparison.csv",
    "report.html",
    "manifest.json",
)
_PACKAGES = ("numpy", "scipy", "matplotlib")


@dataclass(frozen=True)
class EvaluationRun:
    """A finished run.

    Attributes:
        evaluation: what was found.
        comparison: with another table, if there was one.
        key_slices: hits of annotated slices, if there were annotations.
        files: what was written, the page first.
    """

    evaluation: Evaluation
    comparison: Comparison | None
    key_slices: KeySliceHits | None
    files: tuple[Path, ...]


def evaluate_predictions(
    predictions: str | Path,
    output: str | Path,
    *,
    labels: str | Path | None = None,
    other: str | Path | None = None,
    boxes: str | Path | None = None,
    box_kinds: Sequence[str] = (),
    kind: str | None = None,
    classes: Sequence[str] | None = None,
    split: str | None = None,
    title: str | None = None,
    settings: MetricSettings | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
    progress: Callable[[int, int | None, str | None], None] | None = None,
) -> EvaluationRun:
    """Read, evaluate, compare and write.

    Args:
        predictions: table as for :func:`radclear.evaluation.read_predictions`.
        output: folder for `metrics.json`, `metrics.csv`, four figures, `report.html` and `manifest.json`, and
            `comparison.csv` where two tables are compared; each is replaced as a whole.
        labels: CSV with the labels, if they are not in the table.
        other: a second prediction table on the same studies.
        boxes: CSV of annotated slices, see :func:`radclear.evaluation.table_hits`.
        box_kinds: kinds of annotation that count; all when empty.
        kind, classes, split: as for :func:`radclear.evaluation.read_predictions`.
        title: of the page; the file's name when omitted.
        settings: of the metrics.
        n_resamples: of the bootstrap.
        seed: of the bootstrap.
        progress: called with steps done, steps in all, and what is being done.

    Returns:
        What was found and written.

    Raises:
        EvaluationError: a table is malformed, or the two are not about the same.
    """
    from radclear.results import write_atomically
    from radclear.results.write import encode_json

    started = datetime.now(timezone.utc)
    settings = settings or MetricSettings()
    report = progress or (lambda done, total, text: None)
    report(0, 4, "reading tables")
    table = read_predictions(predictions, kind=kind, classes=classes, split=split, labels=labels)
    second = None
    if other is not None:
        second = _read_other(other, table, split=split, labels=labels)
    report(1, 4, "bootstrap")
    evaluation = evaluate(table, settings=settings, n_resamples=n_resamples, seed=seed)
    report(2, 4, "comparison")
    comparison = None if second is None else compare(evaluation, second)
    key_slices = None
    if boxes is not None:
        key_slices = table_hits(table, boxes, kinds=box_kinds, n_resamples=n_resamples, seed=seed)
    report(3, 4, "figures")
    plans = plan_figures(evaluation, comparison)
    manifest = _manifest(evaluation, comparison, started, labels=labels, key_slices=key_slices)
    page = render_page(
        evaluation,
        plans,
        title=title or table.name,
        comparison=comparison,
        key_slices=key_slices,
        provenance=_provenance(manifest),
    )
    content: dict[str, bytes] = {
        PAGE: page.encode("utf-8"),
        METRICS: encode_json(build_document(evaluation, comparison, key_slices)),
        TABLE: metric_rows(evaluation).encode("utf-8"),
        **{f"{plan.name}.png": draw_png(plan) for plan in plans},
    }
    if comparison is not None:
        content[DIFFERENCES] = comparison_rows(comparison).encode("utf-8")
    manifest["files"] = sorted([*content, MANIFEST])
    content[MANIFEST] = encode_json(manifest)  # last: where it is, the rest is complete
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    (output / MANIFEST).unlink(missing_ok=True)
    if comparison is None:  # of a run before; it would not be about these figures
        (output / DIFFERENCES).unlink(missing_ok=True)
    for name, data in content.items():
        write_atomically(output / name, data)
    report(4, 4, "done")
    return EvaluationRun(evaluation, comparison, key_slices, tuple(output / name for name in content))


def _read_other(
    path: str | Path, table: PredictionTable, *, split: str | None, labels: str | Path | None
) -> PredictionTable:
    """The second table; without labels of its own it is judged by those of the first."""
    return read_predictions(path, kind=table.kind, classes=table.classes, split=split, labels=labels)


def _manifest(
    evaluation: Evaluation,
    comparison: Comparison | None,
    started: datetime,
    *,
    labels: str | Path | None,
    key_slices: KeySliceHits | None,
) -> dict[str, Any]:
    from radclear.ct import study_key
    from radclear.evaluation.csv_rows import read_csv

    table, resamples, settings = evaluation.table, evaluation.resamples, evaluation.settings
    inputs = {"predictions": {"name": table.name, "sha256": table.sha256}}
    if comparison is not None:
        inputs["compared_with"] = {"name": comparison.second.name, "sha256": comparison.second.sha256}
    if labels is not None:
        read = read_csv(labels, required=(), what="label table")
        inputs["labels"] = {"name": read.path.name, "sha256": read.sha256}
    if key_slices is not None:
        inputs["boxes"] = {"name": key_slices.boxes.path.name, "sha256": key_slices.boxes.sha256}
    return {
        "manifest_version": "1.0",
        "radclear_version": __version__,
        "python_version": sys.version.split()[0],
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "inputs": inputs,
        "settings": {
            "kind": table.kind,
            "classes": list(table.classes),
            "split": table.split or None,
            "n_resamples": resamples.n_resamples,
            "seed": resamples.seed,
            "level": evaluation.level,
            "specificities": list(settings.specificities),
            "n_bins": settings.n_bins,
            "default_threshold": settings.default_threshold,
            "thresholds": dict(settings.thresholds),
            "box_kinds": list(key_slices.kinds) if key_slices else None,
        },
        "started_utc": started.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "finished_utc": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "n_studies": table.n_studies,
        "n_patients": table.n_patients,
        "excluded_by_reason": dict(Counter(reason for *_, reason in table.excluded)),
        "excluded": [
            {"line": line, "study_key": study_key(study), "reason": reason}
            for line, study, reason in table.excluded
        ],
        "warnings": list(evaluation.warnings),
    }


def _provenance(manifest: dict[str, Any]) -> dict[str, str]:
    shown = {"radclear": manifest["radclear_version"], "python": manifest["python_version"]}
    shown |= manifest["packages"]
    for what, entry in manifest["inputs"].items():
        shown[what.replace("_", " ")] = f"{entry['name']}, sha256 {entry['sha256']}"
    for name in ("n_resamples", "seed", "level", "n_bins", "split"):
        value = manifest["settings"][name]
        shown[name.replace("n_", "number of ")] = "–" if value is None else str(value)
    shown["made"] = manifest["started_utc"]
    return shown
