"""Weight files of a bundle: tensors only, checked by sha256 at every load, with what they were trained on.

The metadata of a bundle keeps, under `radclear.weights`, one entry per file in `models/`:

    "model.pt": {"sha256": "…", "dtype": "float32", "demonstration": true, "training": "how they were made",
                 "backbone": {"name": "lecl_gated_cnn", "version": "0.1.0", "weights_sha256": "…",
                              "embedding_dim": 192},
                 "temperature": 1.2, "operating_points": {"nodule": 0.4, …}}

In place of `temperature` there may be `isotonic`, see `radclear.bundle.isotonic`:

    "isotonic": {"nodule": {"probability": [0.02, 0.31, …], "calibrated": [0.0, 0.25, …]}, …}

`backbone` is there for heads only: an aggregator understands the embeddings of exactly one set of backbone
weights. A head may hold one file per backbone; the default backbone's is `model.pt`.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from radclear.bundle.domain import Domain
from radclear.bundle.location import BundleError, read_metadata, write_metadata
from radclear.bundle.seen_patients import record_patients
from radclear.bundle.starting_point import StartedFrom

DEFAULT_FILE = "model.pt"
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class WeightsError(BundleError):
    """Weights are missing, damaged, not what the bundle says they are, or made for another backbone."""


def store_weights(
    bundle_dir: str | Path,
    state_dict: Mapping[str, torch.Tensor],
    *,
    provenance: Mapping[str, Any],
    file_name: str = DEFAULT_FILE,
    dtype: str = "float32",
    domain: Domain | None = None,
    patients: Iterable[str] | None = None,
    started_from: StartedFrom | None = None,
) -> str:
    """Write weights into a bundle and their sha256 and provenance into its metadata.

    Args:
        bundle_dir: the bundle's folder.
        state_dict: name → tensor. For a head only the aggregator's, with or without the prefix `aggregator.`.
        domain: of a head, see `radclear.bundle.domain`; goes into the same file.
        provenance: must have `demonstration` (bool: weights that only show how the software works) and
            `training` (str: how the weights were made, one or two sentences); for a head also `backbone`, see
            `radclear.bundle.backbone_entry`. Further JSON values are kept as they are.
        file_name: name in the bundle's `models` folder.
        dtype: in which floating-point tensors are stored: `float32` or, at half the size, `float16` or
            `bfloat16`.
        patients: whom the weights were trained on, for `radclear.bundle.seen_patients`; None: not known.
        started_from: the weights that training started from, if any.

    Returns:
        sha256 of the file.

    Raises:
        WeightsError: the state dict or the provenance lacks something; the message says what.
    """
    root = Path(bundle_dir)
    metadata = read_metadata(root)
    is_head = role(metadata, root) == "head"
    entry = _checked_provenance(provenance, is_head=is_head)
    if dtype not in _DTYPES:
        raise WeightsError(f"dtype is {dtype!r}, expected one of {', '.join(_DTYPES)}")
    _check_tensors(state_dict, "the state dict to store")
    if is_head:
        state_dict = aggregator_only(state_dict)
    tensors = {
        name: tensor.detach()
        .to("cpu", _DTYPES[dtype] if tensor.is_floating_point() else tensor.dtype)
        .contiguous()
        for name, tensor in state_dict.items()
    } | ({} if domain is None else domain.tensors())
    buffer = (
        io.BytesIO()
    )  # not a path: torch writes the path's name into the file, and equal weights should be equal bytes
    torch.save(tensors, buffer)
    content = buffer.getvalue()
    sha256 = hashlib.sha256(content).hexdigest()
    known_before = None if started_from is None else started_from.patients
    models = root / "models"
    models.mkdir(exist_ok=True)
    temporary = models / f".{file_name}.{os.getpid()}.tmp"
    temporary.write_bytes(content)
    temporary.replace(models / file_name)
    record_patients(models / file_name, patients, sha256=sha256, started_from=known_before)
    own = metadata.setdefault("radclear", {})
    own.setdefault("weights", {})[file_name] = {"sha256": sha256, "dtype": dtype, **entry}
    metadata["demonstration"] = any(weights["demonstration"] for weights in own["weights"].values())
    write_metadata(root, metadata)
    return sha256


def read_weights(
    bundle_dir: str | Path, *, file_name: str = DEFAULT_FILE
) -> tuple[dict[str, torch.Tensor], str]:
    """Read a bundle's weights after comparing their sha256 with the metadata.

    Returns:
        The state dict (tensors on the CPU, floating-point ones as float32) and the sha256.

    Raises:
        WeightsError: no file, no entry, another sha256, or something else than tensors in the file.
    """
    root = Path(bundle_dir)
    content, entry = _checked_content(root, file_name)
    try:
        state_dict = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for files that are no weights
        raise WeightsError(
            f"{root / 'models' / file_name} holds something else than tensors: {error}"
        ) from error
    _check_tensors(state_dict, str(root / "models" / file_name))
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state_dict.items()
    }, entry["sha256"]


def verify_weights(bundle_dir: str | Path, *, file_name: str = DEFAULT_FILE) -> str:
    """Compare a weight file with the metadata without loading it; its sha256. Raises as `read_weights`."""
    return _checked_content(Path(bundle_dir), file_name)[1]["sha256"]


def _checked_content(root: Path, file_name: str) -> tuple[bytes, dict[str, Any]]:
    file = root / "models" / file_name
    entry = weight_entries(root).get(file_name)
    try:
        content = file.read_bytes()
    except OSError as error:
        fetch = (
            f"run (needs pyyaml): python -m monai.bundle download_large_files --bundle_path {root}"
            if any(root.glob("large_files.*"))
            else "download the bundle again, or train it with its configs/train.json"
        )
        raise WeightsError(
            f"{root.name} has no weights: {file} cannot be read ({error.strerror}); {fetch}"
        ) from error
    if entry is None:
        raise WeightsError(
            f"{root.name}: configs/metadata.json says nothing about {file_name}, so that it cannot be "
            "checked. "
            "Put weights into a bundle with radclear.bundle.store_weights"
        )
    found = hashlib.sha256(content).hexdigest()
    if found != entry["sha256"]:
        raise WeightsError(
            f"{file} is damaged or was replaced: its sha256 is {found}, the bundle's metadata says "
            f"{entry['sha256']}. "
            "Download the bundle again; put own weights into it with radclear.bundle.store_weights"
        )
    return content, entry


def weight_entries(bundle_dir: str | Path) -> dict[str, dict[str, Any]]:
    """What the metadata says of each weight file: file name → entry; empty where there are no weights yet."""
    return read_metadata(bundle_dir).get("radclear", {}).get("weights", {})


def role(metadata: Mapping[str, Any], bundle_dir: str | Path) -> str:
    """`backbone` or `head`, after the metadata.

    Raises:
        BundleError: it says neither, so that it is no bundle of radclear.
    """
    found = metadata.get("radclear", {}).get("role")
    if found not in ("backbone", "head"):
        raise BundleError(
            f"{bundle_dir} is not a bundle of radclear: its metadata has radclear.role {found!r}, "
            "expected 'backbone' or 'head'"
        )
    return found


def aggregator_only(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The aggregator's tensors under names that start with `aggregator.`; a backbone's are left out."""
    if not any(name.startswith(("aggregator.", "backbone.")) for name in state_dict):
        return {f"aggregator.{name}": tensor for name, tensor in state_dict.items()}
    return {name: tensor for name, tensor in state_dict.items() if name.startswith("aggregator.")}


def _checked_provenance(provenance: Mapping[str, Any], *, is_head: bool) -> dict[str, Any]:
    needed: dict[str, type] = {"demonstration": bool, "training": str}
    if is_head:
        needed["backbone"] = Mapping
    for name, kind in needed.items():
        if not isinstance(provenance.get(name), kind):
            raise WeightsError(
                f"provenance has {name} = {provenance.get(name)!r}, expected a {kind.__name__}; "
                "weights are stored only with a statement of what they are"
            )
    if is_head and not {"name", "weights_sha256", "embedding_dim"} <= set(provenance["backbone"]):
        raise WeightsError(
            f"provenance.backbone has {sorted(provenance['backbone'])}, expected name, version, "
            "weights_sha256 and "
            "embedding_dim of the backbone whose embeddings the head was trained on"
        )
    return dict(provenance)


def _check_tensors(state_dict: Any, source: str) -> None:
    if not isinstance(state_dict, Mapping) or not state_dict:
        raise WeightsError(
            f"{source} is a {type(state_dict).__name__}, expected a dict of named tensors, not empty"
        )
    for name, tensor in state_dict.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise WeightsError(f"{source}: {name!r} is a {type(tensor).__name__}, expected a tensor")
