"""Which weight file of a head belongs to which backbone: it understands the embeddings of one alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from radclear.bundle.configs import read_config
from radclear.bundle.location import BundleError, embedding_dim, find_backbone, read_metadata
from radclear.bundle.weights import DEFAULT_FILE, WeightsError, verify_weights, weight_entries


def backbone_entry(bundle_dir: str | Path) -> dict[str, Any]:
    """What a head records about the backbone it was trained on; the backbone's weights are checked."""
    root = Path(bundle_dir)
    metadata = read_metadata(root)
    return {
        "name": metadata.get("name", root.name),
        "version": metadata["version"],
        "weights_sha256": verify_weights(root),
        "embedding_dim": embedding_dim(root),
    }


def weights_for_backbone(bundle_dir: str | Path, *, backbone_path: str | Path, weights_sha256: str) -> str:
    """The weight file of a head that was trained on a backbone's embeddings.

    Args:
        bundle_dir: the head's folder.
        backbone_path: the backbone bundle's folder, for the message.
        weights_sha256: sha256 of the backbone's weights.

    Raises:
        WeightsError: there is none; the message lists the backbones there are weights for, and how to train
        for this one.
    """
    root = Path(bundle_dir)
    entries = weight_entries(root)
    for file_name, entry in entries.items():
        if entry.get("backbone", {}).get("weights_sha256") == weights_sha256:
            return file_name
    name = read_metadata(backbone_path).get("name", Path(backbone_path).name)
    trained = ", ".join(
        f"{entry['backbone']['name']} (weights {entry['backbone']['weights_sha256'][:12]}…)"
        for entry in entries.values()
        if "backbone" in entry
    )
    raise WeightsError(
        f"{root.name} has no weights for backbone {name} (weights {weights_sha256[:12]}…): "
        + (f"it was trained on {trained}. " if trained else "it was not trained yet. ")
        + "Train it on embeddings of this backbone: "
        + f"radclear embed STUDIES --backbone-bundle {backbone_path} --output EMBEDDINGS, "
        f"then python -m monai.bundle run --config_file {root / 'configs' / 'train.json'} --embeddings "
        "EMBEDDINGS "
        f"--labels LABELS.csv --backbone_bundle {backbone_path}"
    )


def weights_file_for(bundle_dir: str | Path, *, backbone_path: str | Path) -> str:
    """Where a head keeps the weights that were trained on the embeddings of a backbone.

    Weights for the same backbone weights are replaced. So is `model.pt` where the backbone is the bundle that
    the head's config names: if its weights are others now, nothing can use the old `model.pt` any more. Every
    other backbone gets a file of its own, whatever it is called.

    Args:
        bundle_dir: the head's folder.
        backbone_path: the backbone bundle's folder.

    Returns:
        `model.pt`, or `model_<backbone>.pt`, or where that is taken by another backbone of this name,
        `model_<backbone>_<start of its weights' sha256>.pt`.
    """
    root, backbone = Path(bundle_dir), backbone_entry(backbone_path)
    entries = weight_entries(root)
    for file_name, entry in entries.items():
        if entry.get("backbone", {}).get("weights_sha256") == backbone["weights_sha256"]:
            return file_name
    if DEFAULT_FILE not in entries or _is_default_backbone(root, Path(backbone_path)):
        return DEFAULT_FILE
    stem = f"model_{backbone['name']}"
    return f"{stem}_{backbone['weights_sha256'][:8]}.pt" if f"{stem}.pt" in entries else f"{stem}.pt"


def _is_default_backbone(root: Path, backbone_path: Path) -> bool:
    named = read_config(root).get("backbone_bundle")
    try:
        return named is not None and find_backbone(root, named) == backbone_path.resolve()
    except BundleError:  # the default backbone is not here, so that this one is another
        return False
