"""Weights from a seeded initialisation, for bundles that have none yet: they run, and know nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from radclear.bundle.configs import config_parser
from radclear.bundle.head_weights import backbone_entry, weights_file_for
from radclear.bundle.location import find_backbone, read_metadata
from radclear.bundle.weights import DEFAULT_FILE, role, store_weights

TRAINING = "Untrained: a seeded random initialisation that shows how the software works and knows nothing."


def seed_weights(bundle_dir: str | Path, *, seed: int = 0, backbone_bundle: str | Path | None = None) -> str:
    """Put a random initialisation into a bundle.

    Args:
        bundle_dir: a backbone or head bundle. A head's backbone must have its weights already.
        seed: of the initialisation.
        backbone_bundle: for a head: another backbone bundle than the one that its config names.

    Returns:
        sha256 of the weights.
    """
    root = Path(bundle_dir)
    provenance: dict[str, Any] = {"demonstration": True, "training": TRAINING, "seed": seed}
    overrides = {} if backbone_bundle is None else {"backbone_bundle": str(backbone_bundle)}
    parser = config_parser(root, overrides)
    is_head = role(read_metadata(root), root) == "head"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = parser.get_parsed_content("aggregator" if is_head else "network_def")
    file_name = DEFAULT_FILE
    if is_head:
        backbone = find_backbone(root, parser["backbone_bundle"])
        provenance["backbone"] = backbone_entry(backbone)
        file_name = weights_file_for(root, backbone_path=backbone)
    return store_weights(root, network.state_dict(), provenance=provenance, file_name=file_name)
