"""Load a backbone bundle, a head bundle, or several heads that share their backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch

from radclear.bundle.configs import config_parser, own_error
from radclear.bundle.loaded import BackboneBundle, Head
from radclear.bundle.location import BundleError, find_backbone, read_metadata
from radclear.bundle.weights import role

# (folder, device) → backbone, while `load_heads` is at work: the heads' configs ask for it one by one.
_backbones_of_the_call: ContextVar[dict[tuple[Path, str], BackboneBundle] | None] = ContextVar(
    "_backbones_of_the_call", default=None
)


def load_backbone_bundle(path: str | Path, *, device: str | torch.device = "cpu") -> BackboneBundle:
    """Load the backbone bundle in a folder, weights checked.

    Raises:
        BundleError: no backbone bundle there, or weights that are missing, damaged or do not fit.
    """
    loaded = _backbones_of_the_call.get()
    if loaded is None:
        return _instantiate(path, "backbone", {"device": str(device)})
    key = (Path(path).resolve(), str(device))
    if key not in loaded:
        loaded[key] = _instantiate(path, "backbone", {"device": str(device)})
    return loaded[key]


def load_heads(
    paths: Sequence[str | Path],
    *,
    backbone_bundle: str | Path | None = None,
    device: str | torch.device = "cpu",
    precision: str = "auto",
) -> list[Head]:
    """Load several heads; those over one backbone bundle share it, so that it is read and kept once.

    Args:
        paths: the heads' folders.
        backbone_bundle, device, precision: as in `load_head`, for all of them.

    Returns:
        In the order of `paths`.

    Raises:
        BundleError: as `load_head`.
    """
    token = _backbones_of_the_call.set({})
    try:
        return [
            load_head(path, backbone_bundle=backbone_bundle, device=device, precision=precision)
            for path in paths
        ]
    finally:
        _backbones_of_the_call.reset(token)


def load_head(
    path: str | Path,
    *,
    backbone_bundle: str | Path | None = None,
    device: str | torch.device = "cpu",
    precision: str = "auto",
) -> Head:
    """Load the head bundle in a folder with its backbone, weights of both checked.

    Args:
        path: the head's folder.
        backbone_bundle: folder of another backbone bundle than the one that the head's config names.
        device: where the network goes.
        precision: of the encoder inside `Head.network`, see `radclear.backbones.resolve_precision`.

    Raises:
        BundleError: no bundle there, damaged weights, or none that were trained on this backbone.
    """
    overrides = {"device": str(device), "precision": precision}
    if backbone_bundle is not None:
        overrides["backbone_bundle"] = str(find_backbone(path, backbone_bundle))
    return _instantiate(path, "head", overrides)


def _instantiate(path: str | Path, expected_role: str, overrides: Mapping[str, Any]) -> Any:
    """Build the inference config's item that is called like the bundle's role; our errors stay ours."""
    found = role(read_metadata(path), path)
    if found != expected_role:
        raise BundleError(f"{path} is a {found} bundle, expected a {expected_role} bundle")
    parser = config_parser(path, overrides)
    if expected_role not in parser:
        raise BundleError(
            f"{path}: configs/inference.json has no item {expected_role!r}; restore the original"
        )
    try:
        return parser.get_parsed_content(expected_role)
    except Exception as error:
        raise own_error(error) or error from None
