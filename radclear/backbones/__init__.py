"""Slice → embedding: Vision Transformer, Vision State Space Model and Gated CNN."""

from radclear.backbones.allocator import keep_freed_memory
from radclear.backbones.checkpoint import load_backbone
from radclear.backbones.embedding import embed_slices, normalize_slices
from radclear.backbones.errors import (
    BackboneCheckpointError,
    BackboneNameError,
    DeviceMemoryError,
    EmbeddingError,
    PrecisionError,
)
from radclear.backbones.flops import count_flops, flops
from radclear.backbones.memory import told_when_memory_is_short
from radclear.backbones.precision import native_precisions, resolve_precision
from radclear.backbones.registry import build, names

__all__ = [
    "BackboneCheckpointError",
    "BackboneNameError",
    "DeviceMemoryError",
    "EmbeddingError",
    "PrecisionError",
    "build",
    "count_flops",
    "embed_slices",
    "flops",
    "keep_freed_memory",
    "load_backbone",
    "names",
    "native_precisions",
    "normalize_slices",
    "resolve_precision",
    "told_when_memory_is_short",
]
