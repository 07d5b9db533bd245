"""A label table's weights of classes as functions, for configurations, which cannot call methods by name."""

from __future__ import annotations

from radclear.cohort.labels import LabelTable


def pos_weight(table: LabelTable, split: str = "train") -> list[float]:
    """`table.pos_weight(split)`, for configurations."""
    return table.pos_weight(split)


def class_weight(table: LabelTable, split: str = "train") -> list[float]:
    """`table.class_weight(split)`, for configurations."""
    return table.class_weight(split)


def loss_weights(table: LabelTable, split: str = "train", *, balance: bool = True) -> list[float] | None:
    """`table.loss_weights(split)` for configurations; None where classes are not to be balanced."""
    return table.loss_weights(split) if balance else None
