"""Cohorts: stored embeddings, label tables, and the bags made of both."""

from __future__ import annotations

from importlib import import_module

_HOMES = {
    "AuxiliaryLabels": "auxiliary",
    "auxiliary_labels": "auxiliary",
    "BagDataset": "bags",
    "collate_bags": "bags",
    "prepare_bag_batch": "bags",
    "EmbedReport": "embed",
    "embed_studies": "embed",
    "FoldError": "folds",
    "FoldPlan": "folds",
    "LabelTable": "labels",
    "LabelTableError": "label_rows",
    "LabelledStudy": "labels",
    "class_weight": "class_weights",
    "loss_weights": "class_weights",
    "pos_weight": "class_weights",
    "EmbeddedStudy": "embedded_study",
    "EmbeddingStore": "store",
    "EmbeddingStoreError": "embedded_study",
    "instance_coords": "embedded_study",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(f"radclear.cohort.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
