"""How a head is trained from verdicts, in a process of its own that `lib.training_child` starts.

It embeds the judged studies, writes the label table, runs the head's own `train.json`, and compares the new
head with the one that answers on the studies held out. Its progress goes to its standard output, line
by line.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from lib.training_rows import (
    LabelColumns,
    TrainingError,
    absent_classes,
    base_rows,
    patient_of,
    reader_rows,
    write_rows,
)
from lib.versions import REPORT
from radclear.bundle import BackboneBundle, Head, load_backbone_bundle, load_head
from radclear.cohort import EmbeddingStore, LabelTable, embed_studies
from radclear.ct import StudySource, study_key
from radclear.errors import RadclearError
from radclear.evaluation import EvaluationError, compare, evaluate
from radclear.evaluation.table import PredictionTable
from radclear.results import write_atomically

N_RESAMPLES = 2000


def run_job(job_file: str) -> int:
    """Train as a job says; the exit code is 0 where the version is whole.

    Args:
        job_file: JSON with `task`, `bundle`, `current`, `backbone`, `output`, `embeddings`, `studies` (`key`,
            `path`, `fingerprint`, `series_hash`, `patient`, `label`), `excluded`, `base_labels`,
            `base_embeddings`, `device`, `precision`, `batch_size`, `policy` and `settings`.
    """
    path = Path(job_file)
    job = json.loads(path.read_text(encoding="utf-8"))
    try:
        report = _train(job, path.parent)
    except RadclearError as error:
        print(f"failed: {error}", flush=True)
        return 2
    content = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    write_atomically(Path(job["output"]) / REPORT, content.encode())
    print("done", flush=True)
    return 0


def _train(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    columns = LabelColumns.of_bundle(Path(job["bundle"]))
    excluded = dict(job["excluded"])
    backbone = load_backbone_bundle(job["backbone"], device=job["device"])
    studies = _embedded(job, backbone, excluded)
    store = EmbeddingStore(folder / "embeddings")
    store.folder.mkdir()
    own = EmbeddingStore(job["embeddings"])
    for study in studies:
        _link(own, study_key(study["key"]), store)
    rows, judged = [], 0
    if job["base_labels"]:
        base_store = EmbeddingStore(job["base_embeddings"])
        series = {study["series_hash"] for study in studies}
        rows, judged = base_rows(Path(job["base_labels"]), base_store, columns, not_series=series)
        for row in rows:
            if base_store.has(study_key(row["study"])):
                _link(base_store, study_key(row["study"]), store)
    rows += reader_rows(studies, columns, {row["patient"]: row["split"] for row in rows})
    counts = Counter(row["split"] for row in rows)
    print(f"studies: {', '.join(f'{n} {split}' for split, n in sorted(counts.items()))}", flush=True)
    for split in ("train", "val"):
        if not counts[split]:
            raise TrainingError(
                f"judged studies: {len(studies)}, patients: {len({s['patient'] for s in studies})}, and no "
                f"study to {'train on' if split == 'train' else 'validate with'}; give more verdicts, or "
                "name a base table with --conf base_labels FILE --conf base_embeddings FOLDER"
            )
    labels = folder / "labels.csv"
    write_rows(labels, rows, columns)
    _run_training(job, store, labels)
    print("comparing with the head that answers now", flush=True)
    new, current = (
        load_head(path, backbone_bundle=job["backbone"]) for path in (job["output"], job["current"])
    )
    table = LabelTable.read(
        labels, classes=columns.classes, kind=new.kind, column=columns.column, store=store, warn=False
    )
    warnings = absent_classes(table)
    for warning in warnings:
        print(f"warning: {warning}", flush=True)
    return {
        "task": job["task"],
        "n_studies": dict(counts),
        "n_judged": len(studies),
        "base_rows_judged_anew": judged,
        "excluded": [{"key": key, "reason": reason} for key, reason in excluded.items()],
        "warnings": warnings,
        "held_out": _compared(new, current, table, store, {study["key"] for study in studies}),
    }


def _embedded(
    job: dict[str, Any], backbone: BackboneBundle, excluded: dict[str, str]
) -> list[dict[str, Any]]:
    """The judged studies whose embeddings are there and are of the series that was judged."""
    store = EmbeddingStore(job["embeddings"])
    wanted = {study_key(study["key"]): study for study in job["studies"]}
    sources = [
        StudySource(study["key"], Path(study["path"]), key, study["fingerprint"])
        for key, study in wanted.items()
    ]
    report = embed_studies(
        sources,
        backbone.backbone,
        store,
        windows=backbone.windows,
        weight_sha256=backbone.weights_sha256,
        encoder=backbone.backbone.name,
        device=job["device"],
        precision=job["precision"],
        batch_size=job["batch_size"],
        policy=job["policy"],
        progress=lambda done, total: print(f"embedding: {done} of {total} studies", flush=True),
    )
    for key, reason in report.failed:
        excluded[wanted.pop(key)["key"]] = reason
    found = []
    for key, study in wanted.items():
        series = store.attributes(key)["series_hash"]
        if study["series_hash"] not in (None, series):
            excluded[study["key"]] = "the verdict is about another series than the one that is read"
            continue
        patient = study["patient"] or patient_of(Path(study["path"]), study["key"])
        found.append({**study, "series_hash": series, "patient": patient})
    return found


def _link(source: EmbeddingStore, key: str, target: EmbeddingStore) -> None:
    os.symlink(source.path(key).resolve(), target.path(key))


def _run_training(job: dict[str, Any], store: EmbeddingStore, labels: Path) -> None:
    from monai.bundle import create_workflow

    config = Path(job["bundle"]) / "configs" / "train.json"
    overrides = {
        "embeddings": str(store.folder),
        "labels": str(labels),
        "output_bundle": job["output"],
        "backbone_bundle": job["backbone"],
        "held_out": ["test"],
        "device": job["device"],
        **job["settings"],
    }
    workflow = create_workflow(
        config_file=str(config), workflow_type="train", logging_file=False, **overrides
    )
    try:
        workflow.run()
    except SystemExit as end:  # the config has said why
        if end.code:
            raise TrainingError("training did not start; the lines before say why") from None


def _compared(
    new: Head, current: Head, table: LabelTable, store: EmbeddingStore, judged: set[str]
) -> dict[str, Any]:
    """The new head beside the current one on the held-out studies that readers judged."""
    rows = [row for row in table.studies if row.split == "test" and row.study in judged]
    if not rows:
        return {"n_studies": 0, "reason": "no judged study is held out yet, so nothing can be compared"}
    truth = table.one_hot(rows) > 0
    tables = [
        PredictionTable(
            kind=head.kind,
            classes=head.classes,
            studies=tuple(row.study for row in rows),
            patients=tuple(row.patient for row in rows),
            splits=None,
            folds=None,
            probabilities=predict(head, store, [row.key for row in rows]),
            truth=truth,
            name=name,
        )
        for head, name in ((new, "new"), (current, "current"))
    ]
    return comparison(*tables)


def predict(head: Head, store: EmbeddingStore, keys: list[str]) -> Any:
    """(N, C) float64 probabilities of a head for stored embeddings."""
    import numpy as np
    import torch

    found = []
    with torch.inference_mode():
        for key in keys:
            logits = head.aggregator.eval()(store.read(key).feats.unsqueeze(0).to(_device(head)), None)
            found.append(head.probabilities(logits)[0].double().cpu().numpy())
    return np.stack(found)


def _device(head: Head) -> Any:
    return next(head.aggregator.parameters()).device


def comparison(new: PredictionTable, current: PredictionTable) -> dict[str, Any]:
    """Macro AUROC and Brier score of both, and their difference, with intervals, n and prevalence.

    Args:
        new, current: the same studies with their truth.
    """
    evaluation = evaluate(new, n_resamples=N_RESAMPLES)
    counts = evaluation.counts
    result = {
        "n_studies": new.n_studies,
        "n_patients": new.n_patients,
        "prevalence": {name: counts[name].prevalence for name in new.classes},
        "warnings": list(evaluation.warnings),
    }
    try:
        other = evaluate(current, n_resamples=N_RESAMPLES)
        difference = compare(evaluation, current).differences["macro"]
    except EvaluationError as error:
        return {**result, "reason": str(error)}
    for metric in ("auroc", "brier"):
        result[metric] = {
            "new": evaluation.estimates["macro"][metric].as_dict(),
            "current": other.estimates["macro"][metric].as_dict(),
            "difference": difference[metric].as_dict(),
        }
    return result
