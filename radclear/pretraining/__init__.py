"""Weights for slice encoders: LeCL pre-training, and the supervised warm-up of the demonstration weights."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "AnnotatedSlices": "annotated_slices",
    "AnnotatedViews": "annotated_views",
    "Checkpoints": "run_state",
    "ClipGradients": "slice_classifier",
    "EpochBatches": "draws",
    "KNNProbe": "probe",
    "LeCLLoss": "criterion",
    "LeCLTrainer": "trainer",
    "MixWithStart": "start_mixing",
    "MomentumNetwork": "momentum",
    "PhantomSlices": "phantom_slices",
    "Photometric": "photometric",
    "Progress": "progress",
    "RegionLoss": "slice_classifier",
    "RunData": "run_data",
    "Schedules": "schedules",
    "SliceClassifier": "slice_classifier",
    "SlicePairs": "slice_pairs",
    "SliceViews": "views",
    "balanced_sampler": "annotated_slices",
    "batch_of_process": "distributed",
    "collate": "draws",
    "describe_windows": "run_data",
    "distribute": "distributed",
    "end_processes": "distributed",
    "inference_config": "inference_settings",
    "lecl_loss": "loss",
    "local_device": "distributed",
    "plainly": "errors",
    "pretrain": "run",
    "rank": "distributed",
    "refuse_unjoined": "distributed",
    "run_folder": "run_data",
    "start_backbone": "starting_weights",
    "start_processes": "distributed",
    "step_loss": "slice_classifier",
    "with_fingerprint": "run_data",
    "weights_identity": "starting_weights",
    "world_size": "distributed",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
