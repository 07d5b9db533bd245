"""What a cross-validation writes when folds are done: one prediction table, its calibration, a manifest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from radclear import __version__
from radclear.aggregation import to_probabilities
from radclear.bundle.calibration import fit_calibration
from radclear.bundle.crossval_settings import CrossvalError
from radclear.bundle.location import METADATA
from radclear.ct import study_key
from radclear.evaluation import write_predictions
from radclear.results import write_atomically

if TYPE_CHECKING:
    from radclear.bundle.crossval import CrossValidation

OUT_OF_FOLD = "out_of_fold"  # `split` of every row of the prediction table


def write_out_of_fold(run: CrossValidation) -> None:
    """The out-of-fold table, in the order of the label table, and the calibration fitted on it."""
    results = [run.results[fold] for fold in range(run.plan.n_folds)]
    logits, labels = torch.cat([r.logits for r in results]), torch.cat([r.labels for r in results])
    studies = [study for r in results for study in r.studies]
    if sorted(studies) != sorted(s.study for s in run.table.studies):
        raise CrossvalError(f"{run.folder}: the folds' predictions are not one per study; delete the folder")
    run.calibration = fit_calibration(
        logits, labels, kind=run.kind, classes=run.table.classes, method=run.method
    )
    place = {study.study: number for number, study in enumerate(run.table.studies)}
    order = sorted(range(len(studies)), key=lambda i: place[studies[i]])

    def arranged(name: str) -> list:
        values = [value for r in results for value in getattr(r, name)]
        return [values[i] for i in order]

    write_predictions(
        run.predictions,
        studies=arranged("studies"),
        patients=arranged("patients"),
        splits=[OUT_OF_FOLD] * len(studies),
        probabilities=to_probabilities(logits.double(), run.kind).numpy()[order],
        labels=labels.numpy()[order],
        kind=run.kind,
        classes=run.table.classes,
        folds=[run.plan.folds[studies[i]] for i in order],
        key_slices=arranged("key_slices"),
        n_slices=arranged("n_slices"),
    )
    content = {**run.calibration, "kind": run.kind, "classes": list(run.table.classes), "n": len(studies)}
    _write_json(run.folder / "calibration.json", content)


def write_manifest(run: CrossValidation, **more: Any) -> None:
    """`manifest.json`: what went in, what was left out and why, what came out; names no study and no place.

    Args:
        run: as far as it got.
        more: entries of later steps.
    """
    folder = str(run.store.folder)
    files = {"labels": run.table.path, "folds": run.folder / "folds.json", "predictions": run.predictions}
    folds = []
    for row in run.plan.balance(run.table):
        result = run.results.get(row["fold"])
        losses = [step["validation_loss"] for step in result.history] if result else []
        row |= {"done": result is not None, "n_validations": len(losses)}
        row |= {"best": result.best, "validation_loss": losses[result.best - 1]} if result else {}
        folds.append(row)
    content = {
        "radclear_version": __version__,
        "bundle": json.loads((run.bundle_root / METADATA).read_text(encoding="utf-8"))["name"],
        "settings": run.settings,
        "settings_sha256": run.settings_sha256,
        "sha256": {
            name: hashlib.sha256(path.read_bytes()).hexdigest()
            for name, path in files.items()
            if path is not None and path.exists()
        },
        "n_studies": len(run.table.studies),
        "n_patients": len({s.patient for s in run.table.studies}),
        "excluded": [
            {"key": study_key(study), "reason": reason.replace(folder, "the embeddings folder")}
            for study, reason in run.table.excluded
        ],
        "folds": folds,
        "failed": [{"fold": fold, "reason": reason} for fold, reason in run.failed],
        "notes": run.notes,
        "calibration": run.calibration,
        **more,
    }
    _write_json(run.folder / "manifest.json", content)


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
