"""What a training starts from: the studies that readers agree on, and the base table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lib.consensus import consensus
from lib.training_rows import TrainingError
from radclear.bundle import Head


def build_job(app: Any, task: str) -> dict[str, Any]:
    """A job for `lib.retraining`, without `output` and `settings`; series of an archive are fetched.

    Args:
        app: the `RadclearApp`.
        task: the question.

    Raises:
        TrainingError: nobody's verdict gives a label.
    """
    head: Head = app.heads()[task]
    found = consensus(app.verdicts.newest(task), classes=head.classes, kind=head.kind)
    store, excluded, studies = app.datastore(), dict(found.excluded), []
    sources = store.studies.sources()
    for key, label in found.labels.items():
        if key not in sources:
            excluded[key] = "the study is not in the store any more"
            continue
        source = store.studies.ready(sources[key])
        studies.append(
            {
                "key": key,
                "path": str(source.path),
                "fingerprint": source.fingerprint,
                "series_hash": found.series[key],
                "patient": app.patients.of(key),
                "label": list(label),
            }
        )
    if not studies:
        why = "; ".join(sorted(set(excluded.values()))) or "there are no verdicts on this question"
        raise TrainingError(f"no study has a label to train {task} from: {why}")
    options = app.options
    return {
        "task": task,
        "bundle": str(app.bundled[task].path),
        "current": str(head.path),
        "backbone": str(head.backbone.path),
        "embeddings": str(app.data / "embeddings"),
        "studies": studies,
        "excluded": excluded,
        "base_labels": options.base_labels and str(Path(options.base_labels).resolve()),
        "base_embeddings": options.base_embeddings and str(Path(options.base_embeddings).resolve()),
        "device": str(app.versions.device),
        "precision": options.precision,
        "batch_size": options.batch_size,
        "policy": options.policy,
    }
