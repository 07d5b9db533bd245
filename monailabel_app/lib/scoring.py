"""The model against readers' verdicts: how good its answers were, with intervals."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from lib.audit import answers
from lib.consensus import consensus
from lib.training_rows import patient_of
from radclear.bundle import Head
from radclear.evaluation import evaluate
from radclear.evaluation.table import PredictionTable

N_RESAMPLES = 2000


def score(app: Any, head: Head) -> dict[str, Any]:
    """Metrics of a head's answers where readers agree on what is right.

    Only answers of the weights in use count, about the images that were judged; studies without one are left
    out, and counted.

    Args:
        app: the `RadclearApp`.
        head: whose answers.

    Returns:
        Counts, prevalence, and per class and over classes the metrics with 95 % intervals; where nothing can
        be computed, the reason.
    """
    found = consensus(app.verdicts.newest(head.task), classes=head.classes, kind=head.kind)
    excluded = dict(found.excluded)
    rows = []
    given = {}
    for record in answers(app.audit.path, task=head.task, weights_sha256=head.weights_sha256):
        if found.series.get(record["study"]) in (None, record["series_hash"]):
            given[record["study"]] = record  # the newest, which comes last
    sources = app.datastore().studies.sources()
    for study, label in found.labels.items():
        answer, source = given.get(study), sources.get(study)
        if source is None:
            excluded[study] = "the study is not in the store any more"
        elif answer is None:
            excluded[study] = "these weights were not asked about the images that were judged"
        else:
            patient = app.patients.of(study) or patient_of(source.path, study)
            rows.append((study, patient, answer["answer"], label))
    result: dict[str, Any] = {
        "task": head.task,
        "weights_sha256": head.weights_sha256,
        "n_studies": len(rows),
        "excluded": dict(Counter(excluded.values())),
    }
    if not rows:
        return {**result, "reason": "no answer of these weights has a verdict that names classes"}
    table = PredictionTable(
        kind=head.kind,
        classes=head.classes,
        studies=tuple(row[0] for row in rows),
        patients=tuple(row[1] for row in rows),
        splits=None,
        folds=None,
        probabilities=np.array([[row[2][name] for name in head.classes] for row in rows]),
        truth=np.array([[name in row[3] for name in head.classes] for row in rows]),
        name="verdicts",
    )
    evaluation = evaluate(table, n_resamples=N_RESAMPLES)
    return {
        **result,
        "n_patients": table.n_patients,
        "prevalence": {name: evaluation.counts[name].prevalence for name in head.classes},
        "warnings": list(evaluation.warnings),
        "metrics": {
            name: {metric: value.as_dict() for metric, value in metrics.items()}
            for name, metrics in evaluation.estimates.items()
        },
    }
