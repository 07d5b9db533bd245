"""Cohorts of made-up embeddings whose labels an aggregator can learn, for tests of training."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from radclear.bundle import load_backbone_bundle
from radclear.cohort import EmbeddingStore, instance_coords
from radclear.ct import study_key
from radclear.phantom import DISEASE_CLASSES, STAGE_CLASSES

DEPTH = 6


def write_cohort(folder: Path, backbone_folder: Path, *, n_studies: int = 40, per_patient: int = 1) -> Path:
    """Bags in which one slice carries the diseases' marks, and all slices the stage's; three splits.

    The box table has a row per disease at the marked slice, and one of a kind that other tasks ask for.
    """
    backbone = load_backbone_bundle(backbone_folder)
    store = EmbeddingStore(folder / "embeddings")
    generator = np.random.default_rng(0)
    rows, boxes = [], []
    for number in range(n_studies):
        name, patient = f"study-{number:02d}", f"patient-{number // per_patient:02d}"
        depth = DEPTH + number % 3
        feats = generator.normal(size=(2 * depth, backbone.embedding_dim)).astype(np.float32)
        diseases = generator.integers(0, 2, len(DISEASE_CLASSES))
        stage = int(generator.integers(len(STAGE_CLASSES)))
        marked = int(generator.integers(depth))
        feats[:, 10] += 2.0 * stage  # for models of ordered classes, the next for any
        feats[:, 11 + stage] += 4
        for window in range(2):
            feats[2 * marked + window, : len(diseases)] += 12 * diseases
        attributes = {
            "encoder": backbone.backbone.name,
            "weight_sha256": backbone.weights_sha256,
            "precision": "float32",
            "windows": backbone.windows,
            "image_size": backbone.image_size,
            "series_hash": name,
            "fingerprint": name,
        }
        store.write(study_key(name), feats, instance_coords(np.arange(depth) * 5.0, 2), attributes)
        part = number // per_patient * per_patient / n_studies
        split = "train" if part < 0.6 else "val" if part < 0.8 else "test"
        labels = {f"disease_{c}": int(v) for c, v in zip(DISEASE_CLASSES, diseases, strict=True)}
        who = {"study": name, "patient": patient, "split": split}
        rows.append({**who, **labels, "stage": STAGE_CLASSES[stage]})
        for disease in np.flatnonzero(diseases):
            boxes.append({"study": name, "slice": marked, "kind": DISEASE_CLASSES[disease]})
        if diseases.any():
            boxes.append({"study": name, "slice": DEPTH + 1, "kind": "primary"})
    write_rows(folder / "labels.csv", rows)
    write_rows(folder / "boxes.csv", boxes)
    return folder


def write_rows(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path) -> list[dict]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))
