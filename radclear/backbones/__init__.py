"""Slice → embedding: Vision Transformer, Vision State Space Model and Gated CNN."""

from radclear.backbones.allocator import keep_freed_memory
from radclear.backbones.checkpoint import load_backbone
from radclear.backbones.embedding import embed_slices, normalize_slices
from radclear.backbones.errors import (
    BackboneCheckpointError,
    BackboneNameError,
    EmbeddingError,
    EmbeddingMemoryError,
    PrecisionError,
)
from radclear.backbones.flops import count_flops, flops
from radclear.backbones.precision import native_precisions, resolve_precision
from radclear.backbones.registry import build, names

__all__ = [
    "BackboneCheckpointError",
    "BackboneNameError",
    "EmbeddingError",
    "EmbeddingMemoryError",
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
]
