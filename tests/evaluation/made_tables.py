"""Prediction tables made for tests."""

from __future__ import annotations

import numpy as np

from radclear.evaluation import PredictionTable

CLASSES = ("bone", "liver", "lung")


def multilabel_table(n_patients=60, per_patient=2, strength=1.5, seed=0, truth_seed=9, name="made.csv"):
    """Tables of the same `truth_seed` have the same studies and labels, whatever the `seed` of the scores."""
    n = n_patients * per_patient
    truth = np.random.default_rng(truth_seed).random((n, 3)) < (0.15, 0.3, 0.5)
    scores = truth * strength - 1 + np.random.default_rng(seed).normal(size=(n, 3))
    return made_table("multilabel", CLASSES, 1 / (1 + np.exp(-scores)), truth, per_patient, name)


def ordinal_table(n=120, seed=0, noise=1.0, name="stages.csv"):
    rng = np.random.default_rng(seed)
    stage = rng.integers(0, 4, n)
    logits = -((np.arange(4)[None] - stage[:, None] - noise * rng.normal(size=(n, 1))) ** 2)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return made_table("ordinal", ("I", "II", "III", "IV"), probabilities, np.eye(4)[stage] > 0, 1, name)


def made_table(kind, classes, probabilities, truth, per_patient=1, name="made.csv"):
    n = len(truth)
    return PredictionTable(
        kind=kind,
        classes=tuple(classes),
        studies=tuple(f"s{i}" for i in range(n)),
        patients=tuple(f"p{i // per_patient}" for i in range(n)),
        splits=None,
        folds=None,
        probabilities=probabilities,
        truth=truth,
        name=name,
        sha256="0" * 64,
    )
