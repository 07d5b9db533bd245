"""Put trained weights into a bundle: a head's, calibrated on its validation studies, or a backbone's."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from radclear.bundle.best_weights import BestWeights
from radclear.bundle.calibration import describe_calibration, fit_calibration
from radclear.bundle.copying import copy_bundle
from radclear.bundle.domain import Domain, describe
from radclear.bundle.head_weights import backbone_entry, weights_file_for
from radclear.bundle.location import find_backbone
from radclear.bundle.starting_point import StartedFrom
from radclear.bundle.training_record import training_record
from radclear.bundle.weights import store_weights
from radclear.cohort import BagDataset, EmbeddingStore
from radclear.ct import study_key


def store_trained(
    best: BestWeights,
    *,
    bundle_root: str | Path,
    output_bundle: str | Path,
    backbone_bundle: str | Path,
    labels: str | Path,
    kind: str,
    classes: Sequence[str],
    demonstration: bool,
    studies: Mapping[str, BagDataset],
    settings: Mapping[str, Any],
    calibration: str = "temperature",
    seconds: float | None = None,
) -> str:
    """Calibrate the best weights on the validation studies and write them into a bundle.

    Args:
        best: after training.
        bundle_root: the head bundle that was trained.
        output_bundle: where the weights go: the same folder; or another, made as a copy where it is not
            there.
        backbone_bundle: as the config names it.
        labels: the label table, whose sha256 is recorded.
        kind, classes: of the head.
        demonstration: whether the weights only show how the software works.
        studies: its data set for training, then that for validation.
        settings: what training depended on, for the record.
        calibration: `temperature` or `isotonic`.
        seconds: wall time of the training, for the record.

    Returns:
        sha256 of the weights.
    """
    state_dict, logits = best.unweighted()
    backbone = find_backbone(bundle_root, backbone_bundle)
    target = copy_bundle(bundle_root, output_bundle, backbone=backbone, changes={"kind": kind})
    excluded = _excluded(studies.values())
    fitted = fit_calibration(logits, best.labels, kind=kind, classes=classes, method=calibration)
    n_studies = {split: len(dataset) for split, dataset in studies.items()}
    counts = ", ".join(f"{count} {split}" for split, count in n_studies.items())
    provenance = {
        "demonstration": bool(demonstration),
        "training": f"Trained on stored slice embeddings ({counts} studies), number {best.best} "
        f"of {len(best.history)} validations with loss {best.best_loss:.4f}; "
        f"{describe_calibration(fitted)} from the validation studies.",
        "backbone": backbone_entry(backbone),
        **fitted,
        "labels_sha256": hashlib.sha256(Path(labels).read_bytes()).hexdigest(),
        "n_studies": n_studies,
        "n_positive": {split: dataset.n_positive for split, dataset in studies.items()},
        "excluded": dict(Counter(excluded.values())),
        "settings": dict(settings),
        **training_record(seconds),
    }
    file_name = weights_file_for(target, backbone_path=backbone)
    known = [[describe_stored(data.store, row.key) for row in data.studies] for data in studies.values()]
    domain = Domain.fit(*known)
    patients = {row.patient for row in next(iter(studies.values())).studies}
    sha256 = store_weights(
        target, state_dict, provenance=provenance, file_name=file_name, domain=domain, patients=patients
    )
    record = {
        "validations": best.history,
        "excluded": [{"key": study_key(study), "reason": reason} for study, reason in excluded.items()],
        "not_learnable": {
            name: f"no {lacking} study to train on"
            for name, lacking in next(iter(studies.values())).not_learnable.items()
        },
    }
    record_path = target / "models" / f"{Path(file_name).stem}_training.json"
    record_path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(
        f"best validation {best.best} of {len(best.history)}, loss {best.best_loss:.4f}; "
        f"weights in {target / 'models' / file_name}"
    )
    return sha256


def describe_stored(store: EmbeddingStore, key: str) -> torch.Tensor:
    """What `radclear.bundle.domain` looks at, of a study in a store."""
    study = store.read(key)
    return describe(study.feats, study.n_windows)


def _excluded(datasets: Iterable[BagDataset]) -> dict[str, str]:
    """Study → why its row of the label table took no part; the reason names no place."""
    reasons: dict[str, str] = {}
    for data in datasets:
        folder = str(data.store.folder)
        reasons |= {study: why.replace(folder, "the embeddings folder") for study, why in data.excluded}
    return reasons


def store_backbone(
    backbone: nn.Module,
    *,
    bundle_root: str | Path,
    output_bundle: str | Path,
    training: str,
    demonstration: bool,
    n_studies: Mapping[str, int],
    settings: Mapping[str, Any],
    started_from: StartedFrom | None = None,
    patients: Iterable[str] | None = None,
    seconds: float | None = None,
) -> str | None:
    """Write a trained backbone's weights into its bundle, or into a copy of it.

    Of several processes that trained together the first one writes.

    Args:
        backbone: as the bundle's `network_def` builds it.
        bundle_root: the backbone bundle that was trained.
        output_bundle: where the weights go: the same folder; or another, made as a copy where it is not
            there.
        training: how the weights were made, one or two sentences.
        demonstration: whether the weights only show how the software works.
        n_studies: split → number of studies.
        settings: what training depended on, for the record.
        started_from: what training started from, if anything; the sha256 of a file goes on record.
        patients: whom the backbone was trained on, see `radclear.bundle.seen_patients`.
        seconds: wall time of the training, for the record.

    Returns:
        sha256 of the weights; None from a process that does not write.
    """
    if dist.is_initialized() and dist.get_rank() > 0:
        return None
    if started_from is not None and started_from.sha256 and "initial_weights" not in settings:
        settings = {**settings, "initial_weights_sha256": started_from.sha256}
    target = copy_bundle(bundle_root, output_bundle)
    provenance = {
        "demonstration": bool(demonstration),
        "training": training,
        "n_studies": dict(n_studies),
        "settings": dict(settings),
        **training_record(seconds),
    }
    sha256 = store_weights(
        target,
        backbone.state_dict(),
        provenance=provenance,
        patients=patients,
        started_from=started_from,
    )
    print(f"weights in {target / 'models' / 'model.pt'}")
    return sha256
