"""What is kept of an embedded study: arrays, their coordinates, and where they came from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from radclear.errors import RadclearError

if TYPE_CHECKING:
    import torch

REQUIRED_ATTRIBUTES = (
    "encoder",
    "weight_sha256",
    "radclear_version",
    "series_hash",
    "precision",
    "windows",
    "image_size",
    "fingerprint",
)


class EmbeddingStoreError(RadclearError):
    """A file of the store cannot be used as it is, or something else than embeddings was to be stored."""


@dataclass(frozen=True)
class EmbeddedStudy:
    """What the store keeps of a study.

    Attributes:
        feats: (n, d) float32 embeddings.
        coords: (n, 3) float32: slice index, window index, z in millimetres.
        attributes: provenance, see `REQUIRED_ATTRIBUTES`; `windows` is JSON.
    """

    feats: torch.Tensor
    coords: torch.Tensor
    attributes: dict[str, Any]

    @property
    def n_windows(self) -> int:
        """W, instances per slice."""
        return int(self.coords[:, 1].max()) + 1


def encode_attribute(value: Any) -> str | int | float | bool:
    """An attribute as stored and compared: lists, mappings and dataclasses become canonical JSON."""
    if is_dataclass(value) or isinstance(value, Mapping | list | tuple):
        plain = (
            [asdict(v) if is_dataclass(v) else v for v in value] if isinstance(value, list | tuple) else value
        )
        plain = asdict(plain) if is_dataclass(plain) else plain
        return json.dumps(_floats(plain), sort_keys=True, separators=(",", ":"))
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, np.generic):
        return value.item()
    raise EmbeddingStoreError(
        f"attribute value {value!r} is a {type(value).__name__}; expected text, a number, a list or a mapping"
    )


def _floats(value: Any) -> Any:
    """40 and 40.0 are the same level: numbers inside JSON are compared as floats."""
    if isinstance(value, Mapping):
        return {key: _floats(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_floats(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def instance_coords(z_mm: np.ndarray | Sequence[float], n_windows: int) -> np.ndarray:
    """Coordinates of interleaved instances.

    Args:
        z_mm: (Z,) position of each slice.
        n_windows: W.

    Returns:
        (Z·W, 3) float32: slice index, window index, z in millimetres; row z·W + w.
    """
    z_mm = np.asarray(z_mm, dtype=np.float64)
    index = np.arange(len(z_mm) * n_windows)
    return np.stack([index // n_windows, index % n_windows, np.repeat(z_mm, n_windows)], axis=1).astype(
        np.float32
    )


def as_float32(array: torch.Tensor | np.ndarray) -> np.ndarray:
    if hasattr(array, "detach"):  # a tensor, on whatever device and of whatever precision
        array = array.detach().cpu().float().numpy()
    return np.ascontiguousarray(array, dtype=np.float32)


def check_arrays(key: str, feats: np.ndarray, coords: np.ndarray) -> None:
    if feats.ndim != 2 or feats.size == 0 or coords.shape != (len(feats), 3):
        raise EmbeddingStoreError(
            f"{key}: feats have shape {list(feats.shape)} and coords {list(coords.shape)}; expected "
            "(instances, width) and (instances, 3)"
        )
    if not (np.isfinite(feats).all() and np.isfinite(coords).all()):
        bad = int((~np.isfinite(feats)).any(axis=1).sum())
        raise EmbeddingStoreError(
            f"{key}: {bad} of {len(feats)} embeddings are not finite; try precision float32 and check the "
            "weights"
        )
